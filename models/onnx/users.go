package onnx

import (
	"context"
	"fmt"
	"slices"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"seralm/models/snapshot"
	"seralm/models/vocab"
)

// Users computes what a snapshot's model makes of histories, before items are scored:
// vectors u such that u.e is the score of an item with row e, before a history's bias, and
// rows of a history may be others than the snapshot's. Callers take turns.
type Users struct {
	arch  snapshot.Architecture
	run   *ort.DynamicAdvancedSession
	extra int // rows that there is room for beside the snapshot's

	mu        sync.Mutex
	closed    bool
	table     *ort.Tensor[float32] // [R + extra, d]
	histories []*ort.Tensor[int64] // by length, made when first needed
	user      *ort.Tensor[float32] // [1, d]
}

// NewUsers builds the graph of a snapshot and a session for it, with room for extra
// rows beside the snapshot's own.
func NewUsers(snap *snapshot.Snapshot, extra int) (*Users, error) {
	a := snap.Architecture
	g, u, err := user(a, snap.Tensors)
	if err != nil {
		return nil, err
	}
	model, err := g.finish(u, outputUser, a, a.Dim)
	if err != nil {
		return nil, err
	}
	items := snap.Tensors["item_embedding.weight"]
	if want := []int64{int64(a.Rows), int64(a.Dim)}; !slices.Equal(items.Shape, want) {
		return nil, fmt.Errorf("item table is %v, the architecture says %v", items.Shape, want)
	}
	out := &Users{arch: a, extra: extra, histories: make([]*ort.Tensor[int64], a.MaxLen+1)}
	if out.run, err = open(model, outputUser); err != nil {
		return nil, err
	}
	table := make([]float32, (a.Rows+extra)*a.Dim)
	copy(table, items.Data)
	if out.table, err = ort.NewTensor(ort.NewShape(int64(a.Rows+extra), int64(a.Dim)), table); err == nil {
		out.user, err = ort.NewEmptyTensor[float32](ort.NewShape(1, int64(a.Dim)))
	}
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("making the tensors of user vectors: %w", err)
	}
	return out, nil
}

// Users returns the vector [d] of each history of rows, oldest first, of which the
// newest MaxLen count. Rows from the height of the snapshot's table on are those of
// extra.
func (u *Users) Users(ctx context.Context, histories [][]int32, extra [][]float32) ([][]float32, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, ErrClosed
	}
	if len(extra) > u.extra {
		return nil, fmt.Errorf("user vectors: %d rows beside the table, there is room for %d", len(extra), u.extra)
	}
	rows, d := u.arch.Rows, u.arch.Dim
	for i, row := range extra {
		if len(row) != d {
			return nil, fmt.Errorf("user vectors: further row %d has %d numbers, the architecture says %d", i, len(row), d)
		}
		copy(u.table.GetData()[(rows+i)*d:], row)
	}
	out := make([][]float32, len(histories))
	for i, h := range histories {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h = h[max(0, len(h)-u.arch.MaxLen):]
		if len(h) == 0 {
			return nil, fmt.Errorf("user vectors: history %d is empty", i)
		}
		in := u.histories[len(h)]
		if in == nil {
			var err error
			if in, err = ort.NewEmptyTensor[int64](ort.NewShape(1, int64(len(h)))); err != nil {
				return nil, fmt.Errorf("user vectors: %w", err)
			}
			u.histories[len(h)] = in
		}
		data := in.GetData()
		for t, r := range h {
			if r < vocab.Unknown || int(r) >= rows+len(extra) {
				return nil, fmt.Errorf("user vectors: history %d: item row %d is not among the %d rows and %d further ones", i, r, rows, len(extra))
			}
			data[t] = int64(r)
		}
		if err := u.run.Run([]ort.Value{in, u.table}, []ort.Value{u.user}); err != nil {
			return nil, fmt.Errorf("user vectors: %w", err)
		}
		out[i] = slices.Clone(u.user.GetData())
	}
	return out, nil
}

// Close frees everything. Later calls get ErrClosed.
func (u *Users) Close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return
	}
	u.closed = true
	for _, h := range u.histories {
		if h != nil {
			_ = h.Destroy()
		}
	}
	for _, t := range []*ort.Tensor[float32]{u.table, u.user} {
		if t != nil {
			_ = t.Destroy()
		}
	}
	_ = u.run.Destroy()
}
