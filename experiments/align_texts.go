package experiments

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"seralm/models/snapshot"
	"seralm/prompts"
	"seralm/stream"
)

// Texts says which texts are to be written, and where to.
type Texts struct {
	Path  string // of the file {"item": "text"}; beside it, in Path + ".lines", is all that was written
	Items int    // so many of the items, the most popular ones; 0 = all
	// Bare leaves out what was learnt: the texts are the not-aligned model's.
	Bare bool
	// Best is how many texts are written of each item, of which the one with the best
	// catalogue reward is taken; 1 or 0 takes the only one. With more, the first of each
	// item, which nobody chose, are in a file that ends in ".first.json".
	Best int
}

// written is a line of what was written about an item.
type written struct {
	Item    string    `json:"item"`
	Texts   []string  `json:"texts"`
	Rewards []float64 `json:"rewards,omitempty"`
}

// Write writes a text of each item, the most popular first, and goes on with what the
// file of lines holds.
func (a *Aligner) Write(ctx context.Context, t Texts) error {
	var reward rewarder
	if t.Best > 1 {
		if err := a.catalogue(fmt.Sprintf("the best of %d texts is that of the best catalogue reward", t.Best)); err != nil {
			return err
		}
		if err := a.begin(ctx); err != nil {
			return err
		}
		reward = a.sampler.Rewards
	}
	if !t.Bare {
		if err := a.adapt(); err != nil {
			return err
		}
	}
	lines, err := a.write(ctx, t, reward)
	if err != nil {
		return err
	}
	if t.Best > 1 {
		first := strings.TrimSuffix(t.Path, ".json") + ".first.json"
		if err := choose(first, lines, func(written) int { return 0 }); err != nil {
			return err
		}
	}
	return choose(t.Path, lines, func(w written) int { return highest(w.Rewards) })
}

// catalogue says that something needs the catalogue reward, where it is another.
func (a *Aligner) catalogue(why string) error {
	if a.Config.Alignment.Reward != string(stream.RewardCatalogue) {
		return fmt.Errorf("%s: alignment.reward is %s", why, a.Config.Alignment.Reward)
	}
	return nil
}

// rewarder says what texts about an item are worth.
type rewarder func(ctx context.Context, item string, texts []string) ([]float64, error)

// write writes the lines of the file of lines that are not there yet, and returns all:
// one for each item, the most popular first. Texts are rewarded unless reward is nil.
func (a *Aligner) write(ctx context.Context, t Texts, reward rewarder) ([]written, error) {
	if t.Bare && a.Policy.Version().Step != 0 {
		return nil, errors.New("the policy has learnt already: what is not aligned is written by a run that learns nothing")
	}
	template, err := prompts.Load(a.Config.Knowledge.Domain)
	if err != nil {
		return nil, err
	}
	k := max(1, t.Best)
	header, err := json.Marshal(map[string]any{"policy": a.Policy.Version(), "best": k, "template": template.Version(), "batch": a.Config.Knowledge.Batch, "settings": a.settings()})
	if err != nil {
		return nil, err
	}
	items := a.popular()
	if t.Items > 0 {
		items = items[:min(t.Items, len(items))]
	}
	done, lines, err := openLines(t.Path+".lines", header)
	if err != nil {
		return nil, err
	}
	defer lines.Close()
	for at, some := range numbered(items, max(1, a.Config.Knowledge.Batch/k)) {
		if !slices.ContainsFunc(some, func(item string) bool { return done[item].Texts == nil }) {
			continue
		}
		texts, err := a.about(ctx, template, some, k, rand.New(rand.NewPCG(a.Config.Alignment.Seed, uint64(at))))
		if err != nil {
			return nil, err
		}
		for i, item := range some {
			w := written{Item: item, Texts: texts[i]}
			if reward != nil && len(w.Texts) > 0 {
				if w.Rewards, err = reward(ctx, item, w.Texts); err != nil {
					return nil, err
				}
			}
			if err := lines.write(w); err != nil {
				return nil, err
			}
			done[item] = w
		}
		tell(a.progress, "%d of %d items written about\n", at+len(some), len(items))
	}
	out := make([]written, len(items))
	for i, item := range items {
		out[i] = done[item]
	}
	return out, nil
}

// highest is the place of the highest value, the first of several; 0 where there is none.
func highest(values []float64) int {
	best := 0
	for i, v := range values {
		if v > values[best] {
			best = i
		}
	}
	return best
}

// choose writes one text of each item. Those that the model says nothing of are not in
// the file; they have their title.
func choose(path string, lines []written, which func(written) int) error {
	out := map[string]string{}
	for _, w := range lines {
		if len(w.Texts) > 0 {
			out[w.Item] = w.Texts[which(w)]
		}
	}
	raw, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}

// adapt makes the policy what the newest checkpoint has learnt.
func (a *Aligner) adapt() error {
	if a.learner != nil {
		return nil
	}
	parts, step, _, err := snapshot.Restore(filepath.Join(a.dir, checkpointsDir))
	if err != nil {
		return fmt.Errorf("%s: %w: nothing was learnt yet", a.dir, err)
	}
	return a.Policy.Load(stream.PolicySnapshot{Policy: stream.ModelVersion{Name: a.Policy.Version().Name, Step: step}, Adapter: parts[partAdapter]})
}

// popular lists the items that are described and that somebody took, the most popular of
// what is learnt first.
func (a *Aligner) popular() []string {
	often := map[string]int{}
	for ev := range learnt(a.data) {
		often[ev.Body.Item]++
	}
	var items []string
	for _, item := range read(a.data).items {
		if _, ok := a.items[item]; ok {
			items = append(items, item)
		}
	}
	slices.SortStableFunc(items, func(i, j string) int { return cmp.Compare(often[j], often[i]) })
	return items
}

// attempts at texts that say something.
const attempts = 3

// about writes k texts of each item; fewer where the model says nothing.
func (a *Aligner) about(ctx context.Context, template *prompts.Template, items []string, k int, r *rand.Rand) ([][]string, error) {
	asks := make([]stream.SamplePrompt, len(items))
	for i, item := range items {
		asks[i] = a.prompt(template, item)
	}
	out := make([][]string, len(items))
	for range attempts {
		var open []stream.SamplePrompt
		var which []int
		for i, ask := range asks {
			if len(out[i]) < k {
				open, which = append(open, ask), append(which, i)
			}
		}
		if len(open) == 0 {
			break
		}
		texts, err := a.Policy.Write(ctx, open, k, r.Uint64())
		if err != nil {
			return nil, err
		}
		for n, of := range texts {
			for _, text := range of {
				if text = strings.TrimSpace(text); text != "" && len(out[which[n]]) < k {
					out[which[n]] = append(out[which[n]], text)
				}
			}
		}
	}
	for i := range out {
		if out[i] == nil {
			out[i] = []string{} // asked, and not answered
		}
	}
	return out, nil
}

// prompt asks for a text about an item.
func (a *Aligner) prompt(template *prompts.Template, item string) (p stream.SamplePrompt) {
	it := a.items[item]
	p.System, p.User = template.Render(prompts.Item{ID: item, Title: it.Title, Categories: it.Categories, Text: it.Text})
	return p
}

// numbered yields the items in groups of n, with the number of the first.
func numbered(items []string, n int) func(yield func(int, []string) bool) {
	return func(yield func(int, []string) bool) {
		for at := 0; at < len(items); at += n {
			if !yield(at, items[at:min(at+n, len(items))]) {
				return
			}
		}
	}
}

// linesFile is a file that begins with what its lines were made with.
type linesFile struct{ *os.File }

// openLines reads the lines of the file, which goes on after the last whole one.
func openLines(path string, header []byte) (map[string]written, linesFile, error) {
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, linesFile{}, err
	}
	done := map[string]written{}
	kept := bytes.NewBuffer(append(slices.Clone(header), '\n'))
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	if lines.Scan() && !bytes.Equal(lines.Bytes(), header) {
		return nil, linesFile{}, fmt.Errorf("%s holds texts that others wrote, or that were written otherwise: name another file, or remove it", path)
	}
	for lines.Scan() {
		var w written
		if err := json.Unmarshal(lines.Bytes(), &w); err != nil {
			break // cut short by whatever interrupted it
		}
		done[w.Item] = w
		fmt.Fprintf(kept, "%s\n", lines.Bytes())
	}
	if err := lines.Err(); err != nil {
		return nil, linesFile{}, fmt.Errorf("%s: %w", path, err)
	}
	f, err := goOn(path, kept.Bytes())
	return done, linesFile{f}, err
}

func (l linesFile) write(w written) error {
	raw, err := json.Marshal(w)
	if err != nil {
		return err
	}
	_, err = l.Write(append(raw, '\n'))
	return err
}
