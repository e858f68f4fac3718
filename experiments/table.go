package experiments

import (
	"fmt"
	"io"
	"strings"
)

// tableMetrics are the columns of a table.
var tableMetrics = []string{"hit@10", "ndcg@10", "mrr@10", "masked_hit@10", "masked_ndcg@10", logP, coldLogP}

// Table writes the arms of results as a Markdown table: means over seeds and cases,
// with 95 % intervals over users and seeds.
func Table(w io.Writer, results ...*HoldoutResult) error {
	header := append([]string{"data", "arm", "seeds", "cases", "epochs"}, tableMetrics...)
	fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat("---|", len(header)))
	for _, r := range results {
		data := r.Dataset
		if r.Hide > 0 {
			data += fmt.Sprintf(", %g %% hidden", 100*r.Hide)
		}
		if r.seen != "" {
			data += ", seen " + r.seen
		}
		for _, a := range r.Arms {
			var epochs []string
			cases := 0
			for _, run := range a.Runs {
				epochs = append(epochs, fmt.Sprint(run.Best))
				cases += len(run.Cases.Users)
			}
			cells := []string{data, a.Name, fmt.Sprint(len(a.Runs)), fmt.Sprint(cases), strings.Join(epochs, " ")}
			for _, m := range tableMetrics {
				if !a.measured(m) {
					cells = append(cells, "-")
					continue
				}
				interval, err := a.interval(m)
				if err != nil {
					return err
				}
				digits := 4
				if m == logP || m == coldLogP {
					digits = 3
				}
				cells = append(cells, fmt.Sprintf("%.*f [%.*f, %.*f]", digits, interval.Mean, digits, interval.Low, digits, interval.High))
			}
			fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
		}
	}
	return nil
}
