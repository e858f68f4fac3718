package online

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"seralm/models/seqrec"
	"seralm/models/snapshot"
	"seralm/models/vocab"
)

// sequencerState is a Sequencer and a Learner's counters as a checkpoint holds
// them. Users are in the order of the dense table, which replay draws from.
type sequencerState struct {
	Format     int         `json:"format"`
	Step       uint64      `json:"step"`
	Events     int64       `json:"events"`
	Watermark  time.Time   `json:"watermark"`
	Bad        int         `json:"bad_steps"`
	Vocabulary vocab.State `json:"vocabulary"`
	Keys       []uint64    `json:"keys"`
	NextKey    int         `json:"next_key"`
	Users      []userState `json:"users"`
	Activity   []int32     `json:"activity"` // places of Users, most recently active first
	Evicted    int64       `json:"evicted"`
}

type userState struct {
	User string  `json:"u"`
	Rows []int32 `json:"r"`
}

const stateFormat = 1

// Checkpointable is a recommender whose whole state can be saved.
type Checkpointable interface {
	seqrec.Recommender
	seqrec.Checkpointed
}

// Save returns the learner's state in two parts: the model with its optimiser,
// and everything that decides what the next events teach.
func (l *Learner) Save() (model, sequencer []byte, err error) {
	c, ok := l.Model.(Checkpointable)
	if !ok {
		return nil, nil, fmt.Errorf("a %s has no state to save", l.Model.Name())
	}
	tensors, err := c.FullState()
	if err != nil {
		return nil, nil, err
	}
	if model, err = snapshot.EncodeTensors(tensors); err != nil {
		return nil, nil, err
	}
	s := sequencerState{
		Format: stateFormat, Step: l.step, Events: l.events, Watermark: l.watermark, Bad: l.bad,
		Vocabulary: l.vocab.State(), Keys: l.seen.ring, NextKey: l.seen.next,
		Activity: l.histories.activity(), Evicted: l.histories.evicted,
	}
	for _, u := range l.histories.users {
		s.Users = append(s.Users, userState{u.user, u.rows})
	}
	if sequencer, err = json.Marshal(s); err != nil {
		return nil, nil, err
	}
	return model, sequencer, nil
}

// Restore goes back to a state that Save returned.
func (l *Learner) Restore(model, sequencer []byte) error {
	s, err := decode(sequencer)
	if err != nil {
		return err
	}
	v, err := vocab.FromState(s.Vocabulary)
	if err != nil {
		return err
	}
	v.SetLimit(l.opts.MaxItems)
	h := newHistories(l.opts.MaxLen+1, l.opts.MaxUsers)
	for i, u := range s.Users {
		h.users = append(h.users, userHistory{user: u.User, rows: u.Rows})
		h.index[u.User] = int32(i)
	}
	if len(h.index) != len(s.Users) || !permutation(s.Activity, len(s.Users)) {
		return fmt.Errorf("the sequencer's state is not consistent: %d users, %d of them distinct, an activity list of %d", len(s.Users), len(h.index), len(s.Activity))
	}
	if len(s.Users) > l.opts.MaxUsers {
		return fmt.Errorf("the checkpoint holds the histories of %d users, trainer.max_users is %d: set it to at least that", len(s.Users), l.opts.MaxUsers)
	}
	h.relink(s.Activity)
	h.evicted = s.Evicted
	w := newWindow(l.opts.DedupWindow)
	if len(s.Keys) > cap(w.ring) || s.NextKey < 0 || s.NextKey > len(s.Keys) {
		return fmt.Errorf("the checkpoint remembers %d event keys, trainer.dedup_window is %d: set it to at least that", len(s.Keys), cap(w.ring))
	}
	if s.NextKey > 0 && len(s.Keys) < cap(w.ring) {
		return fmt.Errorf("the checkpoint was made with trainer.dedup_window %d, not %d: set it back", len(s.Keys), cap(w.ring))
	}
	w.ring, w.next = append(w.ring, s.Keys...), s.NextKey
	for _, k := range s.Keys {
		w.seen[k] = struct{}{}
	}
	l.vocab, l.histories, l.seen = v, h, w
	l.step, l.events, l.watermark, l.bad = s.Step, s.Events, s.Watermark, s.Bad
	return l.restoreModel(model)
}

func decode(sequencer []byte) (s sequencerState, err error) {
	if err := json.NewDecoder(bytes.NewReader(sequencer)).Decode(&s); err != nil {
		return s, fmt.Errorf("the sequencer's state: %w", err)
	}
	if s.Format != stateFormat {
		return s, fmt.Errorf("the sequencer's state has format %d, this program reads %d", s.Format, stateFormat)
	}
	return s, nil
}

// RestoreModel takes only the model and its optimiser back to a state that Save returned.
// Rows that were another item's then begin anew.
func (l *Learner) RestoreModel(model, sequencer []byte) error {
	was, err := decode(sequencer)
	if err != nil {
		return err
	}
	if err := l.restoreModel(model); err != nil {
		return err
	}
	var renewed []int32
	for i, id := range was.Vocabulary.IDs {
		if row := int32(vocab.FirstItem + i); l.vocab.ID(row) != id {
			renewed = append(renewed, row)
		}
	}
	return l.renew(renewed)
}

func (l *Learner) restoreModel(model []byte) error {
	c, ok := l.Model.(Checkpointable)
	if !ok {
		return fmt.Errorf("a %s has no state to restore", l.Model.Name())
	}
	tensors, err := snapshot.DecodeTensors(model)
	if err != nil {
		return fmt.Errorf("the model's state: %w", err)
	}
	return c.RestoreFull(tensors, l.vocab.Rows())
}

func permutation(order []int32, n int) bool {
	if len(order) != n {
		return false
	}
	seen := make([]bool, n)
	for _, i := range order {
		if i < 0 || int(i) >= n || seen[i] {
			return false
		}
		seen[i] = true
	}
	return true
}

// Snapshot describes the model as it is: weights, vocabulary, and its scores for
// the histories of a few users as a probe. Who publishes it adds name, epoch and
// offsets.
func (l *Learner) Snapshot(ctx context.Context, probes int) (*snapshot.Snapshot, error) {
	c, ok := l.Model.(Checkpointable)
	if !ok {
		return nil, fmt.Errorf("a %s cannot be published", l.Model.Name())
	}
	tensors, err := l.Model.State()
	if err != nil {
		return nil, err
	}
	s := &snapshot.Snapshot{IDs: l.vocab.IDs(), Tensors: tensors}
	s.Architecture = c.Architecture()
	s.VocabularyHash = l.vocab.Hash()
	s.Step = int64(l.step)
	s.Watermark = l.watermark
	for _, place := range l.histories.activity() {
		rows := l.histories.users[place].rows
		if len(s.Probe.Histories) == probes {
			break
		}
		s.Probe.Histories = append(s.Probe.Histories, append([]int32(nil), rows[max(0, len(rows)-l.opts.MaxLen):]...))
	}
	if len(s.Probe.Histories) == 0 {
		return s, nil
	}
	scores, err := l.Model.Scores(ctx, s.Probe.Histories)
	if err != nil {
		return nil, fmt.Errorf("scoring the probe: %w", err)
	}
	for _, all := range scores {
		var rows []int32
		var some []float32
		// Every k-th item: at most 64 numbers a history.
		for r := vocab.FirstItem; r < len(all); r += max(1, len(all)/64) {
			rows = append(rows, int32(r))
			some = append(some, all[r])
		}
		s.Probe.Rows = append(s.Probe.Rows, rows)
		s.Probe.Scores = append(s.Probe.Scores, some)
	}
	return s, nil
}
