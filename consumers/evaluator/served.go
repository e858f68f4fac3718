package evaluator

import (
	"fmt"
	"slices"
	"sync"

	"seralm/models/online"
	"seralm/models/onnx"
	"seralm/models/prequential"
	"seralm/models/snapshot"
	"seralm/models/vocab"
)

// kept bounds how many snapshots are held. The evaluator may lag behind the trainer
// by more: then those between its place and the newest are held at longer distances.
const kept = 6

// served holds the snapshots that an event may be ranked by. add is called by
// the follower of the snapshots topic, everything else by the evaluator.
type served struct {
	mu     sync.Mutex    // held while a model scores: none is freed under it
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
	if len(s.models) > kept {
		s.drop(s.closest())
	}
	close(s.landed)
	s.landed = make(chan struct{})
	return nil
}

// closest returns the model, neither the oldest nor the newest, that is missed the
// least: its neighbours are the closest to each other.
func (s *served) closest() int {
	at := func(i int) int64 { return s.models[i+1].learnt - s.models[i-1].learnt }
	best := 1
	for i := 2; i < len(s.models)-1; i++ {
		if at(i) < at(best) {
			best = i
		}
	}
	return best
}

// drop frees a model; mu is held.
func (s *served) drop(i int) {
	s.models[i].scorer.Close()
	s.models = slices.Delete(s.models, i, i+1)
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

// before returns the newest model held that has not learnt the record at
// (partition, offset), or nil; mu is held.
func (s *served) before(partition int32, offset int64) *model {
	for _, m := range slices.Backward(s.models) {
		if m.offsets[partition] <= offset {
			return m
		}
	}
	return nil
}

// advance frees the models that no record at or behind next can be ranked by,
// because a newer one has not learnt it either.
func (s *served) advance(next map[int32]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.models) - 1; i > 0; i-- {
		if s.models[i].reached(next) {
			for range i {
				s.drop(0)
			}
			return
		}
	}
}

// reached reports whether the model has learnt nothing at or behind next.
func (m *model) reached(next map[int32]int64) bool {
	for p, learnt := range m.offsets {
		if learnt > next[p] {
			return false
		}
	}
	return true
}

// close frees all models.
func (s *served) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.models) > 0 {
		s.drop(0)
	}
}

// judge ranks one instance, given in the evaluator's rows, by the model that may.
func (s *served) judge(at position, in online.Instance, name func(int32) string) (prequential.Judgement, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.before(at.partition, at.offset)
	if m == nil {
		return prequential.Judgement{Absent: true}, nil
	}
	return m.judge(in.History, in.Target, name)
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
