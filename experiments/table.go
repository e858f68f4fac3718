package experiments

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"seralm/models/prequential"
)

// tableMetrics are the columns of a table.
var tableMetrics = []string{"hit@10", "ndcg@10", "mrr@10", "masked_hit@10", "masked_ndcg@10", logP, coldLogP}

// Tables writes result files as Markdown tables: one of leave-one-out and cold start, of
// the cases that `seen` says (none: all), and one of prequential runs.
func Tables(w io.Writer, seen []string, paths ...string) error {
	var results []*HoldoutResult
	var streams []streamed
	for _, path := range paths {
		of, err := protocolOf(path)
		if err != nil {
			return err
		}
		if of == PrequentialProtocol {
			r, err := ReadPrequential(path)
			if err != nil {
				return err
			}
			if r.Unfinished {
				return fmt.Errorf("%s is unfinished: `seralm eval plot` draws its curve so far", path)
			}
			streams = append(streams, streamed{r, filepath.Base(path)})
			continue
		}
		r, err := ReadHoldout(path)
		if err != nil {
			return err
		}
		if len(seen) == 0 {
			results = append(results, r)
		}
		for _, times := range seen {
			some, err := r.Seen(times)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			results = append(results, some)
		}
	}
	if len(results) > 0 {
		if err := Table(w, results...); err != nil {
			return err
		}
	}
	if len(streams) > 0 {
		tableOfStreams(w, streams)
	}
	return nil
}

// streamed is a prequential run and the file that it was read from.
type streamed struct {
	PrequentialResult
	file string
}

// tableOfStreams is of the last half of each. What several have in common, their
// references, stands once; what only has its name in common stands with its file.
func tableOfStreams(w io.Writer, results []streamed) {
	header := []string{"data", "arm", "events of the last half", "hit@10", "ndcg@10", "mrr", "masked_hit@10", "masked_ndcg@10", logP}
	fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(header, " | "), strings.Repeat("---|", len(header)))
	type named struct{ data, arm string }
	cells := func(s prequential.Summary) string {
		return fmt.Sprintf("%d | %.4f | %.4f | %.4f | %.4f | %.4f | %.3f", s.Events, s.Hit10, s.NDCG10, s.MRR, s.MaskedHit10, s.MaskedNDCG10, s.LogP)
	}
	different := map[named][]string{}
	for _, r := range results {
		for _, arm := range r.Order {
			n, c := named{r.Dataset, arm}, cells(r.LastHalf[arm])
			if !slices.Contains(different[n], c) {
				different[n] = append(different[n], c)
			}
		}
	}
	written := map[string]bool{}
	for _, r := range results {
		for _, arm := range r.Order {
			name, c := arm, cells(r.LastHalf[arm])
			if len(different[named{r.Dataset, arm}]) > 1 {
				name += " (" + r.file + ")"
			}
			line := fmt.Sprintf("| %s | %s | %s |\n", r.Dataset, name, c)
			if !written[line] {
				fmt.Fprint(w, line)
			}
			written[line] = true
		}
	}
}

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
			if len(a.Runs) == 0 {
				continue // its first seed is being learnt
			}
			var epochs []string
			cases := 0
			for _, run := range a.Runs {
				epochs = append(epochs, fmt.Sprint(run.Best))
				cases += len(run.Cases.Users)
			}
			cells := []string{data, a.Name, fmt.Sprint(len(a.Runs)), fmt.Sprint(cases), strings.Join(epochs, " ")}
			measured := slices.DeleteFunc(slices.Clone(tableMetrics), func(m string) bool { return !a.measured(m) })
			intervals, err := a.intervals(measured)
			if err != nil {
				return err
			}
			for _, m := range tableMetrics {
				at := slices.Index(measured, m)
				if at < 0 {
					cells = append(cells, "-")
					continue
				}
				digits, of := 4, intervals[at]
				if m == logP || m == coldLogP {
					digits = 3
				}
				cells = append(cells, fmt.Sprintf("%.*f [%.*f, %.*f]", digits, of.Mean, digits, of.Low, digits, of.High))
			}
			fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
		}
	}
	return nil
}
