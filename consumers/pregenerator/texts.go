package pregenerator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"seralm/stream"
)

const (
	// attempts at an answer that is not empty.
	attempts = 3
	// tooManyFailures in a row end the role: it is the model, not the items.
	tooManyFailures = 16
)

// write writes texts, a batch at a time, for as long as items wait or a roll-out has
// drafts to come. Where both are so, they take turns.
func (s *session) write(ctx context.Context) error {
	if !s.await(ctx, s.rolls.caughtUp) { // from there on the state is this goroutine's
		return ctx.Err()
	}
	drafted := false // the last batch was of drafts
	for {
		moved, err := s.rolls.advance(ctx)
		if err != nil {
			return err
		}
		if moved {
			continue
		}
		ready, done := s.ledger.ready()
		ready = ready && !s.rolls.silent
		drafts := s.rolls.drafting()
		switch {
		case done && s.Once:
			return errDone
		case ready && (drafted || !drafts):
			drafted = false
			err = s.batch(ctx)
		case drafts:
			drafted = true
			s.progress.begin()
			err = s.rolls.draft(ctx)
		default:
			s.progress.end()
			select {
			case <-s.ledger.work:
			case <-s.rolls.news:
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		if err != nil {
			return err
		}
	}
}

// batch writes texts of items that wait.
func (s *session) batch(ctx context.Context) error {
	if err := s.rolls.loadServed(); err != nil {
		if s.Once {
			return err
		}
		return nil
	}
	taken := s.ledger.take(s.cfg.Knowledge.Batch, s.popular(ctx))
	s.progress.begin()
	refused, err := s.texts(ctx, taken)
	s.ledger.release(taken, refused)
	return err
}

// popular asks for the popular items. They are an order, no more: without them it
// goes on.
func (s *session) popular(ctx context.Context) []string {
	if s.Popular == nil {
		return nil
	}
	scored, err := s.Popular.Popular(ctx, s.cfg.Histories.Popular)
	if err != nil {
		if ctx.Err() == nil && s.progress.mayComplain() {
			s.Logger.Warn("popular items cannot be read; the newest come first", "error", err)
		}
		return nil
	}
	out := make([]string, len(scored))
	for i, it := range scored {
		out[i] = it.Item
	}
	return out
}

// texts writes and publishes the texts of a batch, and returns the items that the
// model had no answer to.
func (s *session) texts(ctx context.Context, taken []entry) (refused map[string]bool, err error) {
	refused = map[string]bool{}
	var results []result
	var asks []Ask
	for _, e := range taken {
		r, ask, ok, err := s.prompt(ctx, e)
		if err != nil {
			return nil, err
		}
		if ok {
			asks, results = append(asks, ask), append(results, r)
		}
	}
	answered, tokens, err := s.answered(ctx, asks, results, refused)
	if err != nil {
		return nil, err
	}
	done, err := s.publish(ctx, answered)
	s.progress.wrote(done, tokens)
	return refused, err
}

// prompt returns what the language model is asked about an item, and the result without
// text; false when the item is about to change.
func (s *session) prompt(ctx context.Context, e entry) (result, Ask, bool, error) {
	ev, ok, err := s.readItem(ctx, e)
	if err != nil || !ok {
		return result{}, Ask{}, false, err
	}
	it := promptItem(ev.Body)
	system, user := s.template.Render(it)
	return result{due: text, prompt: e.prompt, know: stream.Knowledge{
		Item: e.id, PromptHash: s.template.Hash(it), Policy: s.Writer.Version(), Origin: stream.OriginLLM, Encoder: s.Encoder.Version(),
	}}, Ask{system, user}, true, nil
}

// answered returns those of the results that the language model has a text for, with
// text and vector, and notes the others as refused.
func (s *session) answered(ctx context.Context, asks []Ask, results []result, refused map[string]bool) (answered []result, tokens int, err error) {
	began := time.Now()
	tokens, err = s.ask(ctx, asks, results)
	if err != nil {
		return nil, tokens, err
	}
	s.metrics.wrote(tokens, time.Since(began))
	var words []string
	for _, r := range results {
		if r.know.Text == "" {
			refused[r.know.Item] = true
			if s.refused("unanswered") {
				s.Logger.Warn("the language model has no text for an item, which keeps what it has", "item", r.know.Item)
			}
			continue
		}
		answered, words = append(answered, r), append(words, r.know.Text)
	}
	vectors, err := s.Encoder.Encode(ctx, words)
	if err != nil {
		return nil, tokens, fmt.Errorf("encoding texts: %w", err)
	}
	for i := range answered {
		answered[i].know.Vector = vectors[i]
	}
	return answered, tokens, nil
}

// publish publishes results of the language model, hands on what their items need
// nevertheless, and returns how many were published.
func (s *session) publish(ctx context.Context, results []result) (int, error) {
	done, left, err := s.out.publish(ctx, results)
	if err != nil {
		return 0, err
	}
	s.metrics.published(done)
	for _, item := range left {
		s.ledger.handed(1)
		if err := s.hand(ctx, job{item: item}); err != nil {
			return 0, err
		}
	}
	return len(done), nil
}

// ask fills in the texts. What the model leaves empty is asked again, what it fails
// at is asked alone: one bad item must not cost the others their texts.
func (s *session) ask(ctx context.Context, asks []Ask, results []result) (tokens int, err error) {
	open := make([]int, len(asks))
	for i := range asks {
		open[i] = i
	}
	for attempt := 0; attempt < attempts && len(open) > 0; attempt++ {
		answers, err := s.answers(ctx, asks, open, attempt)
		if err != nil {
			return tokens, err
		}
		var empty []int
		for k, i := range open {
			tokens += answers[k].Tokens
			results[i].know.Text = cut(strings.TrimSpace(answers[k].Text), stream.MaxKnowledgeText)
			if results[i].know.Text == "" {
				empty = append(empty, i)
			}
		}
		open = empty
	}
	return tokens, nil
}

// answers asks for the open ones together, or if that fails one by one.
func (s *session) answers(ctx context.Context, asks []Ask, open []int, attempt int) ([]Answer, error) {
	together := make([]Ask, len(open))
	for k, i := range open {
		together[k] = asks[i]
	}
	answers, err := s.Writer.Write(ctx, together, attempt)
	if err == nil && len(answers) != len(together) {
		return nil, fmt.Errorf("BUG: %d answers to %d asks", len(answers), len(together))
	}
	if err == nil {
		s.failures = 0
		return answers, nil
	}
	answers = make([]Answer, len(together))
	for k := range together {
		one, failed := s.Writer.Write(ctx, together[k:k+1], attempt)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case failed == nil:
			answers[k], s.failures = one[0], 0
			continue
		}
		if s.failures++; s.failures >= tooManyFailures {
			return nil, fmt.Errorf("the language model fails at everything: %w", errors.Join(err, failed))
		}
		if s.progress.mayComplain() {
			s.Logger.Warn("the language model failed at an item", "error", failed)
		}
	}
	return answers, nil
}
