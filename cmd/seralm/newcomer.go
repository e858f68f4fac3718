package main

import (
	"context"
	"errors"
	"fmt"
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
var newFilm = stream.Item{Item: "toy-story-4", Title: "Toy Story 4 (2019)", Categories: []string{"Adventure", "Animation", "Children", "Comedy"}}

// Categories that tell its audience, as far as a line of arithmetic can.
var audience = []string{"Animation", "Children"}

// asked is how many items the demo asks for to find the rank of one.
const asked = 500

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

// films tells whether the data set's catalogue has films of the newcomer's kind.
func (d *demo) films() bool {
	return len(d.ofAudience()) > 0
}

// ofAudience returns the items that have all categories of the new film's audience.
func (d *demo) ofAudience() map[string]bool {
	if d.kin != nil {
		return d.kin
	}
	d.kin = map[string]bool{}
	for ev, err := range d.data.Items() {
		if err == nil && !slices.ContainsFunc(audience, func(c string) bool { return !slices.Contains(ev.Body.Categories, c) }) {
			d.kin[ev.Body.Item] = true
		}
	}
	return d.kin
}

// fans returns the user whose last ratings are most of films for the newcomer's
// audience, and one who has rated many films and none of them.
func (d *demo) fans() (fan, other string) {
	const last = 50
	kin, histories, order := d.ofAudience(), map[string][]bool{}, []string{}
	for _, e := range d.data.Interactions(0) {
		h, ok := histories[e.Body.User]
		if !ok {
			order = append(order, e.Body.User)
		}
		histories[e.Body.User] = append(h, kin[e.Body.Item])
	}
	most, longest := -1., 0
	for _, u := range order {
		h := histories[u]
		all := len(h)
		h = h[max(0, all-last):]
		n := 0
		for _, is := range h {
			if is {
				n++
			}
		}
		if share := float64(n) / float64(len(h)); len(h) >= last/2 && share > most {
			fan, most = u, share
		}
		if n == 0 && all > longest {
			other, longest = u, all
		}
	}
	return fan, other
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
	fan, other := d.fans()
	fmt.Fprintf(d.out, "\nMeanwhile a text encoder has read the titles of %s films, and a language model has written about %s of them.\n"+
		"Now a film that nobody has seen: %s (%s).\nUser %s likes films for the whole family; user %s has rated many films, and none of those.\n",
		count(int64(known.Items-known.Without)), count(int64(texts)), newFilm.Title, strings.Join(newFilm.Categories, ", "), fan, other)

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
		if err := d.standings(ctx, fan, other); err != nil {
			return err
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

// standings prints where the new film stands for the two users.
func (d *demo) standings(ctx context.Context, fan, other string) error {
	var said []string
	for _, user := range []string{fan, other} {
		rank, err := d.rank(ctx, user)
		if err != nil {
			return err
		}
		place := fmt.Sprintf("number %d", rank)
		if rank == 0 {
			place = fmt.Sprintf("not among the first %d", asked)
		}
		said = append(said, fmt.Sprintf("%s for user %s", place, user))
	}
	fmt.Fprintf(d.out, "%s, of %s films.\n", strings.Join(said, ", "), count(int64(d.data.Summary().Listed)))
	return nil
}

// rank returns where the new film stands among a user's recommendations, from 1; 0 if
// it is not among those asked for.
func (d *demo) rank(ctx context.Context, user string) (int, error) {
	var r recommendations
	if err := d.call(ctx, http.MethodGet, fmt.Sprintf("/v1/recommendations/%s?n=%d", url.PathEscape(user), asked), nil, &r); err != nil {
		return 0, err
	}
	return 1 + slices.IndexFunc(r.Items, func(it shownItem) bool { return it.Item == newFilm.Item }), nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
