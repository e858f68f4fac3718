package experiments

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"seralm/consumers/trainer/policy"
)

// Iteration is a line of the progress file.
type Iteration struct {
	Iteration int64   `json:"iteration"`
	Reward    float64 `json:"reward"`        // mean, of the texts: p(y|x,s), or nats of the whole objective for each draw of the item
	Spread    float64 `json:"spread"`        // standard deviation of the rewards of an item's texts, root mean square over items
	Best      float64 `json:"best"`          // mean of the best reward of each item
	Advantage float64 `json:"advantage"`     // root mean square, clipped
	Effective float64 `json:"effective"`     // effective sample size of the importance weights over their number
	Clipped   float64 `json:"clipped"`       // share of the advantages
	KL        float64 `json:"kl_per_token"`  // nats, to the model that is not aligned
	Length    float64 `json:"text_tokens"`   // mean
	Norm      float64 `json:"gradient_norm"` // before clipping
	Numeric   string  `json:"not_finite,omitempty"`

	Sampling float64 `json:"sampling_seconds"` // texts, with their log-probabilities
	Judging  float64 `json:"judging_seconds"`
	Training float64 `json:"training_seconds"`

	Item string `json:"item"` // one of them, and what was written about it
	Text string `json:"text"`
}

// describe makes a line of what an iteration learnt.
func describe(r policy.Result) Iteration {
	s := r.Stats
	out := Iteration{
		Iteration: r.Step, Reward: s.Reward, Advantage: s.Advantage, Effective: s.Effective, Clipped: s.Clipped, Norm: r.Update.Norm,
		KL: s.KL * float64(s.Texts) / float64(max(1, s.Tokens)), Length: float64(s.Tokens) / float64(max(1, s.Texts)),
	}
	if r.Numeric != nil {
		out.Numeric = r.Numeric.Error()
	}
	for _, sample := range r.Learnt {
		n, mean, square := float64(len(sample.Candidates)), 0.0, 0.0
		best := math.Inf(-1)
		for _, c := range sample.Candidates {
			mean += c.Reward / n
			best = max(best, c.Reward)
		}
		for _, c := range sample.Candidates {
			square += (c.Reward - mean) * (c.Reward - mean) / max(1, n-1)
		}
		out.Spread += square / float64(len(r.Learnt))
		out.Best += best / float64(len(r.Learnt))
		out.Item, out.Text = sample.Item, sample.Candidates[0].Text
	}
	out.Spread = math.Sqrt(out.Spread)
	return out
}

// progress is the file of the iterations' lines.
type progress struct{ *os.File }

// openProgress opens it, without the lines of iterations after step: they are made anew.
func openProgress(path string, step int64) (progress, error) {
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return progress{}, err
	}
	var kept bytes.Buffer
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line Iteration
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.Iteration > step {
			break // cut short by whatever interrupted it
		}
		fmt.Fprintf(&kept, "%s\n", lines.Bytes())
	}
	if err := lines.Err(); err != nil {
		return progress{}, fmt.Errorf("%s: %w", path, err)
	}
	f, err := goOn(path, kept.Bytes())
	return progress{f}, err
}

func (p progress) write(line Iteration) error {
	raw, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = p.Write(append(raw, '\n'))
	return err
}
