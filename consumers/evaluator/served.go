package evaluator

import (
	"fmt"
	"sync"

	"seralm/models/onnx"
	"seralm/models/prequential"
	"seralm/models/snapshot"
	"seralm/models/vocab"
)

// kept is how many snapshots are held, so that an event which the newest has
// already learnt can still be ranked by one that has not.
const kept = 6

// served holds the snapshots that an event may be ranked by. add is called by
// the follower of the snapshots topic, everything else by the evaluator.
type served struct {
	mu     sync.Mutex
	models []*model      // oldest first
	landed chan struct{} // closed and replaced when a snapshot lands
}

type model struct {
	offsets map[int32]int64
	learnt  int64 // sum of offsets
	scorer  *onnx.Scorer
	items   *vocab.Vocabulary
	rows    []int32   // the evaluator's row -> the model's, as far as asked for
	scores  []float32 // scratch
}

func newServed() *served { return &served{landed: make(chan struct{})} }

func (s *served) add(snap *snapshot.Snapshot) error {
	scorer, err := onnx.NewScorer(snap)
	if err != nil {
		return fmt.Errorf("loading snapshot %d/%d: %w", snap.Epoch, snap.Step, err)
	}
	m := &model{
		offsets: snap.Offsets, learnt: total(snap.Offsets), scorer: scorer,
		items: vocab.FromIDs(snap.IDs), scores: make([]float32, snap.Architecture.Rows),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.models = append(s.models, m)
	close(s.landed)
	s.landed = make(chan struct{})
	return nil
}

// newest returns how many records the newest snapshot has learnt, and a channel
// that closes when the next one lands.
func (s *served) newest() (learnt int64, next <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.models); n > 0 {
		learnt = s.models[n-1].learnt
	}
	return learnt, s.landed
}

// before returns the newest model that has not learnt the record at (partition,
// offset), or nil.
func (s *served) before(partition int32, offset int64) *model {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.models) - 1; i >= 0; i-- {
		if m := s.models[i]; m.offsets[partition] <= offset {
			return m
		}
	}
	return nil
}

// prune frees all but the newest models. The evaluator calls it between batches,
// when it uses none.
func (s *served) prune(keep int) {
	s.mu.Lock()
	drop := s.models[:max(0, len(s.models)-keep)]
	s.models = append([]*model(nil), s.models[len(drop):]...)
	s.mu.Unlock()
	for _, m := range drop {
		m.scorer.Close()
	}
}

// row translates one of the evaluator's rows, whose ids are known by name.
func (m *model) row(row int32, name func(int32) string) int32 {
	for next := int32(len(m.rows)); next <= row; next++ {
		theirs := int32(vocab.Unknown)
		if next >= vocab.FirstItem {
			if r, ok := m.items.Row(name(next)); ok {
				theirs = r
			}
		}
		m.rows = append(m.rows, theirs)
	}
	return m.rows[row]
}

// judge ranks one instance, given in the evaluator's rows.
func (m *model) judge(history []int32, target int32, name func(int32) string) (prequential.Judgement, error) {
	theirs := make([]int32, len(history))
	for i, r := range history {
		theirs[i] = m.row(r, name)
	}
	if err := m.scorer.Score(theirs, m.scores); err != nil {
		return prequential.Judgement{}, err
	}
	return prequential.Judge(m.scores, theirs, m.row(target, name)), nil
}
