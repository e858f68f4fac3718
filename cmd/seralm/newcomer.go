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
func (d *demo) newcomer(ctx context.Context, kafka config.Kafka) error {
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

	posted := time.Now()
	announcement := map[string]any{"item": newFilm.Item, "title": newFilm.Title, "categories": newFilm.Categories}
	if err := d.call(ctx, http.MethodPost, "/v1/items", announcement, nil); err != nil {
		return err
	}
	rank := 0
	for rank == 0 {
		if rank, err = d.rank(ctx, fan); err != nil {
			return fmt.Errorf("waiting for the new film among the first %d of user %s: %w", asked, fan, err)
		}
	}
	fmt.Fprintf(d.out, "%.0f ms after it was posted, by its title and genres alone: ", float64(time.Since(posted).Microseconds())/1000)
	if err := d.standings(ctx, fan, other); err != nil {
		return err
	}

	for {
		k, err := pregenerator.Find(ctx, kafka, newFilm.Item)
		if err != nil {
			return err
		}
		if k.Origin == stream.OriginLLM {
			fmt.Fprintf(d.out, "\n%.1f s after it was posted, a language model has written about it (seralm knowledge show %s):\n\n", time.Since(posted).Seconds(), newFilm.Item)
			var b strings.Builder
			showKnowledge(&b, k)
			fmt.Fprintln(d.out, text.WrapSoft(b.String(), 100))
			break
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("waiting for the text about the new film: %w", err)
		}
	}
	if err := pause(ctx); err != nil {
		return err
	}
	fmt.Fprint(d.out, "By that text: ")
	return d.standings(ctx, fan, other)
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

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(200 * time.Millisecond):
		return nil
	}
}
