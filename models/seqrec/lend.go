package seqrec

import (
	"fmt"

	"seralm/models/tensor"
)

// Lend calls f while item rows have these knowledge vectors, of Options.Knowledge
// numbers each, in place of their own or of none: what f learns and scores, it does with
// them, in histories and among the candidates alike. Afterwards the model knows what it
// knew before, to the bit. The statistics that vectors are normalised with stay as they
// are: texts that come and go must not move the rows of other items.
//
// It returns what f returns. Any other error means that nothing was lent, or, naming
// that, that the model's state is undefined.
func (m *Model) Lend(rows []int32, vectors [][]float32, f func() error) error {
	if err := m.fits(rows, vectors); err != nil {
		return err
	}
	own := make([][]float32, len(rows))
	seen := map[int32]bool{}
	for i, r := range rows {
		if seen[r] {
			return fmt.Errorf("%s: row %d is lent two knowledge vectors", m.hyper.Name, r)
		}
		seen[r] = true
		own[i] = m.knowledge.vectors[r]
	}
	if err := m.swap(rows, vectors); err != nil {
		return fmt.Errorf("%s: lending %d knowledge vectors: %w", m.hyper.Name, len(rows), err)
	}
	err := f()
	if back := m.swap(rows, own); back != nil {
		// Not joined: who meets a numeric failure in it goes on.
		return fmt.Errorf("%s: taking %d lent knowledge vectors back: %w (what was done with them: %v)", m.hyper.Name, len(rows), back, err) //nolint:errorlint // see above
	}
	return err
}

// swap gives rows vectors, nil ones among them, and counts and measures nothing.
func (m *Model) swap(rows []int32, vectors [][]float32) error {
	return m.thread.Do(func(s *tensor.Scope) {
		for i, r := range rows {
			m.knowledge.vectors[r] = vectors[i]
		}
		m.knowledge.write(s, rows)
	})
}
