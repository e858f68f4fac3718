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

// write writes texts, a batch at a time, for as long as items wait.
func (s *session) write(ctx context.Context) error {
	for {
		ready, done := s.ledger.ready()
		switch {
		case done && s.Once:
			return errDone
		case !ready:
			s.progress.end()
			select {
			case <-s.ledger.work:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		taken := s.ledger.take(s.cfg.Knowledge.Batch, s.popular(ctx))
		s.progress.begin()
		refused, err := s.texts(ctx, taken)
		s.ledger.release(taken, refused)
		if err != nil {
			return err
		}
	}
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
		ev, ok, err := s.readItem(ctx, e)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		it := promptItem(ev.Body)
		system, user := s.template.Render(it)
		asks = append(asks, Ask{system, user})
		results = append(results, result{due: text, prompt: e.prompt, know: stream.Knowledge{
			Item: e.id, PromptHash: s.template.Hash(it), Policy: s.Writer.Version(), Origin: stream.OriginLLM, Encoder: s.Encoder.Version(),
		}})
	}
	began := time.Now()
	tokens, err := s.ask(ctx, asks, results)
	if err != nil {
		return nil, err
	}
	s.metrics.wrote(tokens, time.Since(began))
	var answered []result
	var words []string
	for _, r := range results {
		if r.know.Text == "" {
			refused[r.know.Item] = true
			if s.refused("unanswered") {
				s.Logger.Warn("the language model has no text for an item, which keeps the vector of its title", "item", r.know.Item)
			}
			continue
		}
		answered, words = append(answered, r), append(words, r.know.Text)
	}
	vectors, err := s.Encoder.Encode(ctx, words)
	if err != nil {
		return nil, fmt.Errorf("encoding texts: %w", err)
	}
	for i := range answered {
		answered[i].know.Vector = vectors[i]
	}
	done, left, err := s.out.publish(ctx, answered)
	if err != nil {
		return nil, err
	}
	for _, item := range left {
		s.ledger.handed(1)
		if err := s.hand(ctx, job{item: item}); err != nil {
			return nil, err
		}
	}
	s.metrics.published(done)
	s.progress.wrote(len(done), tokens)
	return refused, nil
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
