package align_test

import (
	"fmt"

	"seralm/models/align"
)

// Two texts for item 7 are judged by what they do to everybody, seen as a new item; what
// their tokens' log-probabilities should be moved by goes to the language model's
// trainer.
func Example() {
	reservoir := align.NewReservoir(2, 1000)
	for _, user := range []struct {
		vector []float32
		target int32
		logZ   float64
	}{{[]float32{1, 0}, 7, 2}, {[]float32{1, 1}, 3, 2.5}, {[]float32{0, 1}, 3, 2}} {
		if _, err := reservoir.Add(user.vector, user.target, user.logZ); err != nil {
			fmt.Println(err)
		}
	}
	row := []float32{0.5, 0.5} // of item 7 in the item table
	rewards, err := reservoir.Rewards(7, row, []align.Rows{{Cold: []float32{1.5, 0}}, {Cold: []float32{1, 1.5}}}, align.Cold, nil)
	if err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%.2f nats\n", rewards)

	sample := align.Sample{Candidates: []align.Candidate{
		{Reward: rewards[0], Tokens: 2, Policy: []float32{-1.1, -2}, Behaviour: []float32{-1, -2.2}, Reference: []float32{-1.2, -2.1}},
		{Reward: rewards[1], Tokens: 1, Policy: []float32{-3}, Behaviour: []float32{-2.5}, Reference: []float32{-2.9}},
	}}
	options := align.Options{
		Reward: align.Catalogue, Estimator: align.LeaveOneOut, Clip: 5,
		Weighting: align.PerToken, Truncate: 3, Penalty: align.InReward, Alpha: 0.05,
	}
	result, err := align.Coefficients([]align.Sample{sample}, options, align.Deviation{})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%.2f\n", result.Coefficients[0])
	// Output:
	// [0.63 -0.53] nats
	// [[0.63 0.86] [-0.42]]
}
