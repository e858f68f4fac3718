// Package rollout is the gate between a policy's texts and those that are served. The
// pregenerator writes a new policy's texts as drafts, beside the served ones (see
// stream.Rollout); the gate compares the two where it matters, log p(y|x,s) of what users
// did next, and says promote or hold. The pregenerator does it.
//
// What it promises, each with a test beside it:
//
//   - Texts are compared on interactions that the recommender had not learnt: those after
//     the offsets of the snapshot that was the newest when the roll-out began.
//   - They are compared in two views. Warm: every item with its id, all drafts at once.
//     Cold: the event's item as if nothing but its text were known. A roll-out is promoted
//     if in neither view the lower end of the 95 % interval over users is below
//     -alignment.rollout_tolerance.
//   - A decision is made once for a roll-out, and holds its evidence. Killed before it was
//     written, the gate makes it again; two gates do no harm, for the first decision counts.
//
// It imports stream, config and models. It must never write knowledge or drafts, or the
// state of a roll-out.
//
// # Mathematics
//
// A published item row is e = [E'[i] ; n] W + b, folded (package tower), so a row with
// another text is e + (n' - n) W, and (n' - n) W is the difference of the two rows that
// the tower makes of the texts alone. No model is trained: the warm view says what a
// promotion does at the moment it is done.
//
// If you are debugging
//
//	a roll-out that stays in judging     gate.go (attempt): which snapshot, how many events
//	which events are held out            heldout.go
//	the numbers                          compare.go
package rollout
