package onnx

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	ort "github.com/yalue/onnxruntime_go"

	"seralm/models/snapshot"
	"seralm/models/vocab"
)

var environment struct {
	sync.Mutex
	path string
}

// Init loads ONNX Runtime from a shared library. A process has one: a second call
// with the same path does nothing.
func Init(libPath string) error {
	environment.Lock()
	defer environment.Unlock()
	switch {
	case libPath == "":
		return errors.New("the path of libonnxruntime.so is not set: set SERALM_ONNXRUNTIME or native.onnxruntime (`make setup` fetches the library, `python3 ops/setup/native.py env` prints its path)")
	case environment.path == libPath:
		return nil
	case environment.path != "":
		return fmt.Errorf("ONNX Runtime is loaded from %s; a process cannot load it from %s as well", environment.path, libPath)
	}
	ort.SetSharedLibraryPath(libPath)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return fmt.Errorf("loading ONNX Runtime from %s (SERALM_ONNXRUNTIME): %w", libPath, err)
	}
	environment.path = libPath
	return nil
}

// ErrClosed says that the scorer was closed.
var ErrClosed = errors.New("scorer is closed")

// Scorer computes the scores of one snapshot over one item table. It may be used by
// many goroutines.
type Scorer struct {
	*session
	items []float32 // [R, d]
	rows  int
	table *ort.Tensor[float32]

	mu     sync.RWMutex // held for reading during a call
	closed bool

	freeMu sync.Mutex
	free   []*buffers // as many as calls were ever under way at once
}

// session is what the scorers of one snapshot share: all but the item table.
type session struct {
	arch  snapshot.Architecture
	probe snapshot.Probe
	run   *ort.DynamicAdvancedSession
	uses  atomic.Int64 // scorers that are not closed
}

// release frees the session when its last scorer is closed.
func (s *session) release() {
	if s.uses.Add(-1) == 0 {
		_ = s.run.Destroy()
	}
}

// buffers are one call's tensors. History tensors are kept per length: making one
// costs more than copying a history.
type buffers struct {
	histories []*ort.Tensor[int64] // by length
	scores    *ort.Tensor[float32]
	in, out   []ort.Value
}

// NewScorer builds the graph of a snapshot and a session for it. Its table is the
// snapshot's own.
func NewScorer(snap *snapshot.Snapshot) (*Scorer, error) {
	model, err := Export(snap.Architecture, snap.Tensors)
	if err != nil {
		return nil, err
	}
	a := snap.Architecture
	items, ok := snap.Tensors["item_embedding.weight"]
	if want := []int64{int64(a.Rows), int64(a.Dim)}; !ok || !slices.Equal(items.Shape, want) {
		return nil, fmt.Errorf("item table is %v, the architecture says %v", items.Shape, want)
	}
	run, err := open(model, outputScores)
	if err != nil {
		return nil, err
	}
	shared := &session{arch: a, probe: snap.Probe, run: run}
	s, err := shared.over(items.Data)
	if err != nil {
		return nil, errors.Join(err, shared.run.Destroy())
	}
	return s, nil
}

// open makes a session of a graph with the output.
func open(model []byte, output string) (*ort.DynamicAdvancedSession, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer func() { _ = o.Destroy() }() // it is copied into the session
	// Requests are the parallelism: one thread each, and no spinning between them.
	err = errors.Join(o.SetIntraOpNumThreads(1), o.SetInterOpNumThreads(1),
		o.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"))
	if err != nil {
		return nil, err
	}
	in, out, err := ort.GetInputOutputInfoWithONNXData(model)
	if err != nil {
		return nil, fmt.Errorf("reading the graph: %w", err)
	}
	// ONNX Runtime does not report a wrong name before the first run.
	if len(in) != 2 || in[0].Name != inputHistory || in[1].Name != inputItems || len(out) != 1 || out[0].Name != output {
		return nil, fmt.Errorf("BUG: the graph has inputs %v and outputs %v", in, out)
	}
	run, err := ort.NewDynamicAdvancedSessionWithONNXData(model, []string{inputHistory, inputItems}, []string{output}, o)
	if err != nil {
		return nil, fmt.Errorf("making a session: %w", err)
	}
	return run, nil
}

// over makes a scorer of the session whose table is items [R, d].
func (s *session) over(items []float32) (*Scorer, error) {
	rows := len(items) / s.arch.Dim
	table, err := ort.NewTensor(ort.NewShape(int64(rows), int64(s.arch.Dim)), items)
	if err != nil {
		return nil, fmt.Errorf("item table: %w", err)
	}
	s.uses.Add(1)
	return &Scorer{session: s, items: items, rows: rows, table: table}, nil
}

// WithRows returns a scorer of the same session over another table: the snapshot's
// rows, then extra, in order. s must not be closed before it returns; each of the two
// is closed on its own.
func (s *Scorer) WithRows(extra [][]float32) (*Scorer, error) {
	learnt, d := s.arch.Rows*s.arch.Dim, s.arch.Dim
	items := make([]float32, learnt, learnt+len(extra)*d)
	copy(items, s.items)
	for i, row := range extra {
		if len(row) != d {
			return nil, fmt.Errorf("item table: further row %d has %d numbers, the architecture says %d", i, len(row), d)
		}
		items = append(items, row...)
	}
	return s.over(items)
}

// Rows is the length of a score vector.
func (s *Scorer) Rows() int { return s.rows }

// ItemVector is the item's row of the table; it must not be changed.
func (s *Scorer) ItemVector(row int32) []float32 {
	d := s.arch.Dim
	return s.items[int(row)*d : (int(row)+1)*d : (int(row)+1)*d]
}

// Score fills out [R] with the logits of all items after a history of rows, oldest
// first, of which the newest MaxLen count. Reserved rows score -Inf.
func (s *Scorer) Score(history []int32, out []float32) error {
	if len(history) == 0 {
		return errors.New("scoring: the history is empty")
	}
	if len(out) != s.rows {
		return fmt.Errorf("scoring: room for %d scores, %d are wanted", len(out), s.rows)
	}
	history = history[max(0, len(history)-s.arch.MaxLen):]
	for _, r := range history {
		if r < vocab.Unknown || int(r) >= s.rows {
			return fmt.Errorf("scoring: item row %d is not among the %d rows", r, s.rows)
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	b, err := s.take()
	if err != nil {
		return err
	}
	defer s.give(b)
	h := b.histories[len(history)]
	if h == nil {
		if h, err = ort.NewEmptyTensor[int64](ort.NewShape(1, int64(len(history)))); err != nil {
			return fmt.Errorf("scoring: %w", err)
		}
		b.histories[len(history)] = h
	}
	data := h.GetData()
	for i, r := range history {
		data[i] = int64(r)
	}
	b.in[0], b.in[1], b.out[0] = h, s.table, b.scores
	if err := s.run.Run(b.in, b.out); err != nil {
		return fmt.Errorf("scoring: %w", err)
	}
	copy(out, b.scores.GetData())
	out[vocab.Padding], out[vocab.Unknown] = negInf, negInf
	return nil
}

var negInf = float32(math.Inf(-1))

func (s *Scorer) take() (*buffers, error) {
	s.freeMu.Lock()
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		s.freeMu.Unlock()
		return b, nil
	}
	s.freeMu.Unlock()
	scores, err := ort.NewEmptyTensor[float32](ort.NewShape(1, int64(s.rows)))
	if err != nil {
		return nil, fmt.Errorf("scoring: %w", err)
	}
	return &buffers{histories: make([]*ort.Tensor[int64], s.arch.MaxLen+1), scores: scores, in: make([]ort.Value, 2), out: make([]ort.Value, 1)}, nil
}

func (s *Scorer) give(b *buffers) {
	s.freeMu.Lock()
	s.free = append(s.free, b)
	s.freeMu.Unlock()
}

// Verify scores the snapshot's probe and returns the largest difference from the
// trainer's own logits; more than the tolerance is an error.
func (s *Scorer) Verify(tolerance float64) (float64, error) {
	worst := 0.0
	out := make([]float32, s.rows)
	for i, h := range s.probe.Histories {
		if err := s.Score(h, out); err != nil {
			return 0, fmt.Errorf("probe %d: %w", i, err)
		}
		for k, r := range s.probe.Rows[i] {
			diff := math.Abs(float64(out[r]) - float64(s.probe.Scores[i][k]))
			if math.IsNaN(diff) {
				return diff, fmt.Errorf("probe %d: row %d scores %v, the trainer's model says %v", i, r, out[r], s.probe.Scores[i][k])
			}
			worst = max(worst, diff)
		}
	}
	if worst > tolerance {
		return worst, fmt.Errorf("the graph's scores differ from the trainer's by %.3g, more than the tolerance %.3g", worst, tolerance)
	}
	return worst, nil
}

// Close waits for the calls under way and frees everything that no other scorer of the
// session uses. Later calls get ErrClosed.
func (s *Scorer) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	for _, b := range s.free {
		for _, h := range b.histories {
			if h != nil {
				_ = h.Destroy()
			}
		}
		_ = b.scores.Destroy()
	}
	s.free = nil
	_ = s.table.Destroy()
	s.release()
}
