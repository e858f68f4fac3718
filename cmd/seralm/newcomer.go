package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/config"
	"seralm/consumers/pregenerator"
	"seralm/stream"
)

// The film of the demo: it came out after the data set was made.
var newFilm = stream.Item{Item: "star-wars-9", Title: "Star Wars: The Rise of Skywalker (2019)", Categories: []string{"Action", "Adventure", "Sci-Fi"}}

// asked is how many items the demo asks for, of every user, to find the new one.
const asked = 100

// knowledge switches knowledge on for a data set of films, where the weights are here.
func (d *demo) knowledge(cfg config.Config) (config.Config, error) {
	if !d.films() {
		return cfg, nil
	}
	for _, path := range []string{cfg.Native.SmolLM2, cfg.Native.MiniLM} {
		_, err := os.Stat(path)
		if path == "" || errors.Is(err, os.ErrNotExist) {
			d.untold = "without the language model's part, whose weights are not here: `make demo` brings them"
			return cfg, nil
		}
		if err != nil {
			return cfg, err
		}
	}
	k := &cfg.Knowledge
	if def := config.Default().Knowledge; *k == def {
		k.Domain, k.MaxTokens, k.Batch = "movies", 64, 8 // shorter: here somebody waits for the first
	}
	k.Enabled = true
	if cfg.Recommender.KnowledgeDim == 0 {
		cfg.Recommender.KnowledgeDim = config.MiniLMDim
	}
	return cfg, cfg.Validate()
}

// films tells whether the data set's catalogue has films of the new one's kind.
func (d *demo) films() bool {
	return len(d.ofItsKind()) > 0
}

// ofItsKind returns the items that have all categories of the new film.
func (d *demo) ofItsKind() map[string]bool {
	if d.kin != nil {
		return d.kin
	}
	d.kin = map[string]bool{}
	for ev, err := range d.data.Items() {
		if err == nil && !slices.ContainsFunc(newFilm.Categories, func(c string) bool { return !slices.Contains(ev.Body.Categories, c) }) {
			d.kin[ev.Body.Item] = true
		}
	}
	return d.kin
}

// tastes returns, of every user, which share of the newest ratings is of films of the new
// one's kind.
func (d *demo) tastes() map[string]float64 {
	const newest = 50
	kin, histories := d.ofItsKind(), map[string][]bool{}
	for _, e := range d.data.Interactions(0) {
		histories[e.Body.User] = append(histories[e.Body.User], kin[e.Body.Item])
	}
	shares := map[string]float64{}
	for user, h := range histories {
		h = h[max(0, len(h)-newest):]
		for _, is := range h {
			if is {
				shares[user] += 1 / float64(len(h))
			}
		}
	}
	return shares
}

// newcomer posts the new film and shows whom it is recommended to, first by its title
// alone, then by what a language model writes about it.
func (d *demo) newcomer(ctx context.Context, kafka config.Kafka, writing *pregenerator.Pregenerator) error {
	if err := d.titlesRead(ctx, writing); err != nil {
		return err
	}
	known, err := pregenerator.Count(ctx, kafka)
	if err != nil {
		return err
	}
	texts := 0
	for kind, n := range known.Known {
		if kind.Origin == stream.OriginLLM {
			texts += n
		}
	}
	fmt.Fprintf(d.out, "\nMeanwhile a text encoder has read the titles of %s films, and a language model has written about %s of them.\n"+
		"Now a film that nobody has seen: %s (%s).\n",
		count(int64(known.Items-known.Without)), count(int64(texts)), newFilm.Title, strings.Join(newFilm.Categories, ", "))

	knowledge := make(chan stream.Knowledge, 8) // title and text, and room for a retry
	following, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- follow(following, kafka, newFilm.Item, knowledge) }()

	posted := time.Now()
	announcement := map[string]any{"item": newFilm.Item, "title": newFilm.Title, "categories": newFilm.Categories}
	if err := d.call(ctx, http.MethodPost, "/v1/items", announcement, nil); err != nil {
		return err
	}
	for _, by := range []struct {
		origin stream.Origin
		says   string
	}{
		{stream.OriginTitle, "by its title and genres alone"},
		{stream.OriginLLM, "by what a language model has written about it"},
	} {
		var k stream.Knowledge
		for k.Origin != by.origin {
			select {
			case k = <-knowledge:
			case err := <-failed:
				return fmt.Errorf("waiting for knowledge of the new film (%s): %w", by.origin, err)
			}
		}
		took := time.Since(posted)
		if k.Origin == stream.OriginLLM {
			fmt.Fprintf(d.out, "\nThe text, as `seralm knowledge show %s` shows it:\n\n", newFilm.Item)
			k.Text = text.WrapSoft(k.Text, 100)
			showKnowledge(d.out, k)
			fmt.Fprintln(d.out)
		}
		if err := pause(ctx, served); err != nil {
			return err
		}
		fmt.Fprintf(d.out, "%.1f s after it was posted, %s: ", took.Seconds(), by.says)
		if err := d.found(ctx); err != nil {
			return err
		}
		if k.Origin == stream.OriginLLM {
			fmt.Fprintln(d.out, "(What a language model this small writes tells less than a title does: docs/RESULTS.md, cold start.)")
		}
	}
	return nil
}

// served is more than the scorer takes to see a record of the knowledge topic.
const served = 500 * time.Millisecond

// follow hands over what becomes known of an item, until ctx ends.
func follow(ctx context.Context, kafka config.Kafka, item string, to chan<- stream.Knowledge) error {
	return stream.Follow(ctx, kafka, stream.NamesOf(kafka.TopicPrefix).Knowledge(), func(rec *kgo.Record) error {
		if string(rec.Key) != item {
			return nil
		}
		ev, err := stream.DecodeKnowledge(rec)
		if err != nil || ev.Deleted {
			return err
		}
		select {
		case to <- ev.Body:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, func() {})
}

// titlesRead waits until the catalogue, which was announced all at once, has its vectors:
// a new item's would be made behind them.
func (d *demo) titlesRead(ctx context.Context, writing *pregenerator.Pregenerator) error {
	var spoken time.Time
	for {
		p := writing.Progress()
		if p.Ready && p.Vectors == 0 && p.Items >= d.data.Summary().Listed {
			return nil
		}
		if time.Since(spoken) > 3*time.Second {
			spoken = time.Now()
			fmt.Fprintf(d.out, "%4.0f s  a text encoder has read %s of %s titles\n", time.Since(d.began).Seconds(),
				count(int64(p.Items-p.Vectors)), count(int64(d.data.Summary().Listed)))
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("waiting for the vectors of the catalogue's titles: %w", err)
		}
	}
}

// found prints whom the new film is recommended to, and whether those are the right ones.
func (d *demo) found(ctx context.Context) error {
	tastes := d.tastes()
	var all, theirs float64
	var first string
	best, users := asked+1, 0
	for _, user := range slices.Sorted(maps.Keys(tastes)) {
		all += tastes[user]
		var r recommendations
		if err := d.call(ctx, http.MethodGet, fmt.Sprintf("/v1/recommendations/%s?n=%d", url.PathEscape(user), asked), nil, &r); err != nil {
			return err
		}
		rank := 1 + slices.IndexFunc(r.Items, func(it shownItem) bool { return it.Item == newFilm.Item })
		if rank == 0 {
			continue
		}
		users++
		theirs += tastes[user]
		if rank < best {
			first, best = user, rank
		}
	}
	if users == 0 {
		fmt.Fprintf(d.out, "among the first %d films of none of the %d users.\n", asked, len(tastes))
		return nil
	}
	fmt.Fprintf(d.out, "among the first %d of %s films for %d of %d users, number %d for user %s.\n"+
		"Of what these users rated last, %.1f %% are films of all its genres; of what everybody did, %.1f %%.\n",
		asked, count(int64(d.data.Summary().Listed)), users, len(tastes), best, first,
		100*theirs/float64(users), 100*all/float64(len(tastes)))
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
