package align

import "fmt"

// Pacer bounds how old the texts are that a trainer learns from, by when their sampling
// begins: a sample may begin while
//
//	accepted + running < (eta + version + 1) * batch
//
// with version the steps that the policy has made and batch the samples of a step.
// Step v takes the samples accepted as numbers v*batch to (v+1)*batch. While samples end
// in the order in which they began, one that begins at version v is learnt at step
// v+eta at the latest: its staleness is at most eta, and no text is thrown away. One that
// others overtake can be older; a trainer with a hard bound refuses it, and says so with
// Drop. With eta 0 sampling and training take turns.
//
// It is a state machine without a clock and without locks: one goroutine's.
type Pacer struct {
	eta, batch                 int64
	accepted, running, version int64
}

// NewPacer returns one at version 0.
func NewPacer(eta, batch int) (*Pacer, error) {
	if eta < 0 || batch < 1 {
		return nil, fmt.Errorf("pacing with staleness %d and %d samples a step: want 0 or more, and 1 or more", eta, batch)
	}
	return &Pacer{eta: int64(eta), batch: int64(batch)}, nil
}

// Free is how many samples may begin now.
func (p *Pacer) Free() int {
	return int(max(0, (p.eta+p.version+1)*p.batch-p.accepted-p.running))
}

// Begin counts a sample that begins; false means wait for Step.
func (p *Pacer) Begin() bool {
	if p.Free() == 0 {
		return false
	}
	p.running++
	return true
}

// End counts a sample that has ended: accepted (the trainer will see it), or not, which
// frees its place.
func (p *Pacer) End(accepted bool) {
	if p.running == 0 {
		panic("BUG: a sample ends that did not begin")
	}
	p.running--
	if accepted {
		p.accepted++
	}
}

// Drop counts accepted samples that the trainer refused: others take their places.
func (p *Pacer) Drop(n int) { p.accepted -= int64(n) }

// Step tells that the policy has made steps up to version. Versions do not go back but
// by Rebase.
func (p *Pacer) Step(version int64) { p.version = max(p.version, version) }

// Rebase begins anew after a restart of either side: at the version that the policy was
// restored to, with the accepted samples that wait for it in the log. What was running
// is gone, and the samples of the steps so far count as learnt, whatever became of
// them.
func (p *Pacer) Rebase(version, waiting int64) {
	p.version, p.accepted, p.running = version, version*p.batch+waiting, 0
}
