package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/guptarohit/asciigraph"
	"github.com/jedib0t/go-pretty/v6/table"

	"seralm/consumers/evaluator"
	"seralm/producers/dataset"
)

// demo is what the demo shows, and where. It uses the system as an app would:
// through its HTTP API.
type demo struct {
	data     *dataset.Dataset
	user     string   // asked for; "" = anybody
	users    []string // to show, the one asked for first
	exit     bool
	patience time.Duration
	out      io.Writer
	base     string // of the API
	began    time.Time
	kin      map[string]bool // films like the one that is new (newcomer.go)
	untold   string          // why a part of the story is left out
}

const shownItems = 10

// firstShare: the first recommendations are shown after this part of the events;
// before, a model that began from nothing has nothing to say.
const firstShare = 20

// curveFrom: the curve begins after this part of it.
const curveFrom = 5

type recommendations struct {
	ID     string `json:"recommendation_id"`
	Source string `json:"source"`
	Model  *struct {
		Step int64 `json:"step"`
	} `json:"model"`
	Items []shownItem `json:"items"`
}

type shownItem struct {
	Item    string     `json:"item"`
	Title   string     `json:"title"`
	Source  string     `json:"source"`
	Because *shownItem `json:"because"`
}

type systemStatus struct {
	Model *struct {
		Step      int64     `json:"step"`
		Watermark time.Time `json:"watermark"`
	} `json:"model"`
}

func (d *demo) greet() {
	s := d.data.Summary()
	fmt.Fprintf(d.out, "SeRALM: %s %ss by %s users of %s films enter the log; a SASRec model starts from nothing and learns them as they pass.\n"+
		"Page: %s\n%s\n", count(int64(s.Interactions)), d.data.At(0).Body.Type, count(int64(s.Users)), count(int64(s.Listed)), d.base, d.untold)
}

// watch tells how far the model is until it has learnt everything, and shows the
// first recommendation as soon as there is one.
func (d *demo) watch(ctx context.Context, quality *evaluator.Evaluator, replayed <-chan error) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	total, first, done := d.data.Len(), true, false
	var spoken time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-replayed:
			if err != nil {
				return err
			}
			done, replayed = true, nil
		case <-tick.C:
		}
		s, err := d.status(ctx)
		if err != nil {
			return err
		}
		if s.Model == nil {
			continue
		}
		learnt := d.before(s.Model.Watermark)
		if first && learnt >= total/firstShare {
			r, err := d.recommend(ctx, d.users[0])
			if err != nil {
				return err
			}
			if r.Source == "personalised" {
				first = false
				fmt.Fprintf(d.out, "\nFirst recommendations for user %s, %.1f s after the start, by a model of %s steps:\n", d.users[0], time.Since(d.began).Seconds(), count(r.Model.Step))
				for i, it := range r.Items[:min(5, len(r.Items))] {
					fmt.Fprintf(d.out, "  %2d  %s%s\n", i+1, it.Title, reason(it))
				}
				fmt.Fprintln(d.out)
			}
		}
		finished := done && !first && learnt == total
		if finished || time.Since(spoken) > 3*time.Second {
			spoken = time.Now()
			fmt.Fprintf(d.out, "%4.0f s  %8s of %s events learnt, model at step %s%s\n", time.Since(d.began).Seconds(),
				count(int64(learnt)), count(int64(total)), count(s.Model.Step), standing(quality))
		}
		if finished {
			return nil
		}
	}
}

// before is how many of the data set's events had happened at a time. The log is read
// in the order of time, so a model whose newest event is of that time has learnt them.
func (d *demo) before(t time.Time) int {
	return sort.Search(d.data.Len(), func(i int) bool { return d.data.Time(i).After(t) })
}

// standing is how the arms do now.
func standing(quality *evaluator.Evaluator) string {
	curve := quality.Curve()
	if len(curve) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("; NDCG@10 now:")
	last := curve[len(curve)-1]
	for _, name := range arms(curve) {
		fmt.Fprintf(&b, " %s %.4f", name, last.Arms[name].NDCG10)
	}
	return b.String()
}

// arms lists the arms of the curve's end, the model first.
func arms(curve []evaluator.Point) []string {
	var names []string
	for name := range curve[len(curve)-1].Arms {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(place(a)+a, place(b)+b) })
	return names
}

func place(arm string) string {
	if arm == "popularity" || arm == "transitions" {
		return "1"
	}
	return "0"
}

// results waits for the evaluator, which ranks each event with the model that was
// served then, and draws its curve.
func (d *demo) results(ctx context.Context, quality *evaluator.Evaluator) error {
	for still := 0; still < 10; still++ { // two seconds without news: it has read everything
		before := quality.Ranked()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if quality.Ranked() != before {
			still = 0
		}
	}
	curve := quality.Curve()
	if len(curve) == 0 {
		return nil
	}
	fmt.Fprintln(d.out, "\nEvery event was ranked among all films by the model being served at that moment, before any model learnt it (prequential):")
	names := arms(curve)
	// The beginning is left out: few users, whose ratings the arms can almost copy from
	// each other, would flatten everything that comes after.
	tail := curve[sort.Search(len(curve), func(i int) bool { return curve[i].Events >= curve[len(curve)-1].Events/curveFrom }):]
	if len(tail) > 1 {
		series := make([][]float64, len(names))
		for i, name := range names {
			for _, p := range tail {
				series[i] = append(series[i], p.Arms[name].NDCG10)
			}
		}
		fmt.Fprintln(d.out, asciigraph.PlotMany(series, asciigraph.Height(10), asciigraph.Width(72), asciigraph.Precision(3),
			asciigraph.SeriesColors(asciigraph.Green, asciigraph.Gray, asciigraph.Yellow), asciigraph.SeriesLegends(names...),
			asciigraph.Caption(fmt.Sprintf("NDCG@10 over a sliding window, event %s to %s", count(tail[0].Events), count(tail[len(tail)-1].Events)))))
	}
	t := table.NewWriter()
	t.SetOutputMirror(d.out)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"now", "Hit@10", "NDCG@10", "MRR", "log p", "Hit@10 masked", "NDCG@10 masked"})
	for _, name := range names {
		t.AppendRow(summaryRow(name, curve[len(curve)-1].Arms[name]))
	}
	t.Render()
	fmt.Fprintln(d.out, "masked: films the user has rated already are left out of the ranking. transitions: item-transition kNN, learning along.")
	return nil
}

// clicks shows what one click changes, for three users.
func (d *demo) clicks(ctx context.Context) error {
	for _, user := range d.users {
		before, err := d.recommend(ctx, user)
		if err != nil {
			return err
		}
		if len(before.Items) == 0 {
			return fmt.Errorf("user %s is recommended nothing", user)
		}
		clicked := before.Items[0]
		event := map[string]string{"user": user, "item": clicked.Item, "type": "click", "recommendation_id": before.ID}
		posted := time.Now()
		if err := d.call(ctx, http.MethodPost, "/v1/interactions", event, nil); err != nil {
			return err
		}
		after := before
		for slices.ContainsFunc(after.Items, func(it shownItem) bool { return it.Item == clicked.Item }) {
			if after, err = d.recommend(ctx, user); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		took := time.Since(posted)
		t := table.NewWriter()
		t.SetOutputMirror(d.out)
		t.SetStyle(table.StyleLight)
		t.SetTitle("User %s clicks on %q; %.0f ms later:", user, clicked.Title, float64(took.Microseconds())/1000)
		t.AppendHeader(table.Row{"", "before", "after (+ was not there)"})
		for i := range max(len(before.Items), len(after.Items)) {
			t.AppendRow(table.Row{i + 1, titleAt(before.Items, i), fresh(before.Items, after.Items, i) + titleAt(after.Items, i)})
		}
		fmt.Fprintln(d.out)
		t.Render()
	}
	return nil
}

func titleAt(items []shownItem, i int) string {
	if i >= len(items) {
		return ""
	}
	return items[i].Title
}

// fresh marks an item that was not among those before.
func fresh(before, after []shownItem, i int) string {
	if i < len(after) && !slices.ContainsFunc(before, func(it shownItem) bool { return it.Item == after[i].Item }) {
		return "+ "
	}
	return "  "
}

func reason(it shownItem) string {
	if it.Because == nil {
		return ""
	}
	return "   (nearest in the history: " + it.Because.Title + ")"
}

func (d *demo) recommend(ctx context.Context, user string) (r recommendations, err error) {
	path := fmt.Sprintf("/v1/recommendations/%s?n=%d&explain=true", url.PathEscape(user), shownItems)
	return r, d.call(ctx, http.MethodGet, path, nil, &r)
}

func (d *demo) status(ctx context.Context) (s systemStatus, err error) {
	return s, d.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

func (d *demo) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.base+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s answered %s: %s", method, path, resp.Status, data)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}
