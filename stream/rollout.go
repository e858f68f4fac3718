package stream

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/encoding/json"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The topic of roll-outs has one partition, whose order is the order of what happened,
// and is compacted. It holds, by key:
//
//	state                 the newest Rollout, as the pregenerator has it
//	draft/SLOT/ITEM       a Draft: a text that may be served, beside the one that is
//	decision/WHO          the newest Decision of the gate, and of the operator
//	adapter/SLOT[/CHUNK]  the PolicySnapshot that a roll-out's texts are of
//
// Nobody who reads knowledge reads it: a draft is without effect until the
// pregenerator writes it to the knowledge topic.
const (
	keyState    = "state"
	keyDraft    = "draft"
	keyDecision = "decision"
	keyAdapter  = "adapter"
)

// CloudEvents types of the records of the topic of roll-outs.
const (
	TypeRollout  = "seralm.rollout.v1"
	TypeDraft    = "seralm.draft.v1"
	TypeDecision = "seralm.decision.v1"
)

// RolloutSlots is how many roll-outs have drafts and an adapter at once: the one whose
// texts are served, the one before it, and the next.
const RolloutSlots = 3

// RolloutPhase says where a roll-out is.
type RolloutPhase string

// The phases. Writing ends with judging, that with held or promoting, that with
// promoted; withdrawing and withdrawn may follow on any.
const (
	RolloutWriting     RolloutPhase = "writing"     // drafts, by the policy
	RolloutJudging     RolloutPhase = "judging"     // all drafts are there; the gate has not decided
	RolloutHeld        RolloutPhase = "held"        // the gate found them worse; an operator may promote them nevertheless
	RolloutPromoting   RolloutPhase = "promoting"   // drafts become the items' knowledge
	RolloutPromoted    RolloutPhase = "promoted"    // they are
	RolloutWithdrawing RolloutPhase = "withdrawing" // the items get back what they had
	RolloutWithdrawn   RolloutPhase = "withdrawn"   // nothing of it is served
)

// Open reports whether the roll-out is on its way, so that no other begins.
func (p RolloutPhase) Open() bool {
	switch p {
	case RolloutWriting, RolloutJudging, RolloutPromoting, RolloutWithdrawing:
		return true
	}
	return false
}

// Rollout is how far the newest policy has come on its way to what is served: the one
// record that says which policy's texts are. Only the pregenerator writes it.
type Rollout struct {
	ID        int64        `json:"id"` // 1, 2, ...
	Phase     RolloutPhase `json:"phase"`
	Alignment string       `json:"alignment"` // alignment.name of the policy
	Policy    ModelVersion `json:"policy"`
	Epoch     int64        `json:"epoch"` // of the policy's trainer
	Slot      int          `json:"slot"`  // of its drafts and its adapter
	Encoder   string       `json:"encoder"`
	Began     time.Time    `json:"began"`
	Time      time.Time    `json:"time"`             // of this phase
	Reason    string       `json:"reason,omitempty"` // why it is in this phase
	// Counts of items: with a draft; that have it as their knowledge, or after a withdrawal
	// what they had before; and the others, which had changed meanwhile.
	Drafts int `json:"drafts"`
	Moved  int `json:"moved"`
	Stale  int `json:"stale"`
	// Decision is the gate's, with its evidence.
	Decision *Decision `json:"decision,omitempty"`

	// Served is the policy that writes the texts of new items, nil for the language model
	// as it is; Previous the one before. Return says that there is a way back to that.
	Served   *ServedPolicy `json:"served,omitempty"`
	Previous *ServedPolicy `json:"previous,omitempty"`
	Return   bool          `json:"return,omitempty"`
	// Undo is what is being withdrawn, where texts have to be put back.
	Undo *ServedPolicy `json:"undo,omitempty"`
}

// ServedPolicy is a policy whose roll-out was promoted.
type ServedPolicy struct {
	Rollout int64        `json:"rollout"`
	Policy  ModelVersion `json:"policy"`
	Slot    int          `json:"slot"`
}

// Validate reports the first rule that the state breaks, as *InvalidError.
func (r Rollout) Validate() error {
	switch r.Phase {
	case RolloutWriting, RolloutJudging, RolloutHeld, RolloutPromoting, RolloutPromoted, RolloutWithdrawing, RolloutWithdrawn:
	default:
		return &InvalidError{"phase", fmt.Sprintf("%.32q is none of a roll-out", string(r.Phase))}
	}
	if r.ID < 1 {
		return &InvalidError{"id", "it is below 1"}
	}
	if r.Phase == RolloutWithdrawing && r.Undo == nil {
		return &InvalidError{"undo", "it does not say what is withdrawn"}
	}
	for _, slot := range []int{r.Slot, r.Served.slot(), r.Previous.slot(), r.Undo.slot()} {
		if slot < 0 || slot >= RolloutSlots {
			return &InvalidError{"slot", fmt.Sprintf("%d is none of %d", slot, RolloutSlots)}
		}
	}
	return checkName("policy", r.Policy.Name, true)
}

// Promotable reports whether the roll-out's drafts may be promoted.
func (r Rollout) Promotable() bool { return r.Phase == RolloutJudging || r.Phase == RolloutHeld }

// Proposed reports whether the roll-out has drafts, or is to have them, and nothing of it
// is served.
func (r Rollout) Proposed() bool { return r.Phase == RolloutWriting || r.Promotable() }

// Withdrawable lists the roll-outs that may be withdrawn: the newest while it is proposed,
// then the served one, if there is a way back and no other is open. There is one way
// back: the drafts of the roll-out before may have been overwritten.
func (r Rollout) Withdrawable() (ids []int64) {
	if r.Proposed() {
		ids = append(ids, r.ID)
	}
	if r.Served != nil && r.Return && !r.Phase.Open() {
		ids = append(ids, r.Served.Rollout)
	}
	return ids
}

// FreeSlot is one that neither the served roll-out nor the one before it has.
func (r Rollout) FreeSlot() int {
	for slot := range RolloutSlots {
		if (r.Served == nil || r.Served.Slot != slot) && (r.Previous == nil || r.Previous.Slot != slot) {
			return slot
		}
	}
	panic("BUG: two roll-outs have three slots")
}

func (p *ServedPolicy) slot() int {
	if p == nil {
		return 0
	}
	return p.Slot
}

// Draft is a text that a roll-out proposes for an item. It holds what the item has, too,
// and where that is in the knowledge topic: a draft is of use only while that is the
// item's newest knowledge, and afterwards it is the way back.
type Draft struct {
	Rollout   int64     `json:"rollout"`
	Slot      int       `json:"slot"`
	Item      string    `json:"item"`
	Candidate Knowledge `json:"candidate"`
	Served    Knowledge `json:"served"`
	Partition int32     `json:"partition"` // of Served
	Offset    int64     `json:"offset"`
	Time      time.Time `json:"time"`
}

// Validate reports the first rule that the draft breaks, as *InvalidError.
func (d Draft) Validate() error {
	switch {
	case d.Rollout < 1:
		return &InvalidError{"rollout", "it is below 1"}
	case d.Slot < 0 || d.Slot >= RolloutSlots:
		return &InvalidError{"slot", fmt.Sprintf("%d is none of %d", d.Slot, RolloutSlots)}
	case d.Candidate.Item != d.Item || d.Served.Item != d.Item:
		return &InvalidError{"item", "its texts are of another"}
	}
	if err := d.Candidate.Validate(); err != nil {
		return err
	}
	return d.Served.Validate()
}

// RolloutAction is what is decided of a roll-out.
type RolloutAction string

// The actions.
const (
	ActionPromote  RolloutAction = "promote"
	ActionHold     RolloutAction = "hold"
	ActionRollback RolloutAction = "rollback"
)

// Who decides: the gate, by evidence, and the operator, by right.
const (
	ByGate     = "gate"
	ByOperator = "operator"
)

// Decision says what is to become of a roll-out. It is a wish, which the pregenerator
// fulfils where the roll-out is in a phase that allows it; read again, it changes nothing.
type Decision struct {
	Rollout  int64         `json:"rollout"`
	Action   RolloutAction `json:"action"`
	By       string        `json:"by"`
	Reason   string        `json:"reason,omitempty"`
	Evidence *Evidence     `json:"evidence,omitempty"`
	Time     time.Time     `json:"time"`
}

// Evidence is what a gate decided by: log p(y|x,s) of held-out interactions, which the
// recommender had not learnt, with the served texts and with the drafts.
type Evidence struct {
	Recommender SnapshotVersion `json:"recommender"`
	Items       int             `json:"items"` // with a draft that the recommender knows
	Warm        Comparison      `json:"warm"`  // of items with their ids
	Cold        Comparison      `json:"cold"`  // of events whose item is seen as if nothing but its text were known
	Tolerance   float64         `json:"tolerance"`
}

// Comparison is of the same events twice. Change is candidate less served, in nats, with
// its 95 % interval over users.
type Comparison struct {
	Events    int     `json:"events"`
	Users     int     `json:"users"`
	Served    float64 `json:"served"`    // mean log p
	Candidate float64 `json:"candidate"` // mean log p
	Change    float64 `json:"change"`
	Low       float64 `json:"low"`
	High      float64 `json:"high"`
}

// Validate reports the first rule that the decision breaks, as *InvalidError.
func (d Decision) Validate() error {
	switch d.Action {
	case ActionPromote, ActionHold, ActionRollback:
	default:
		return &InvalidError{"action", fmt.Sprintf("%.32q is none of promote, hold, rollback", string(d.Action))}
	}
	switch {
	case d.By != ByGate && d.By != ByOperator:
		return &InvalidError{"by", fmt.Sprintf("%.32q is neither gate nor operator", d.By)}
	case d.Rollout < 1:
		return &InvalidError{"rollout", "it is below 1"}
	}
	return nil
}

// ofRollouts is a body of the topic of roll-outs.
type ofRollouts interface {
	payload
	kind() string
	at(t time.Time) ofRollouts // the same, with its time
}

func (r Rollout) key() string  { return keyState }
func (d Draft) key() string    { return fmt.Sprintf("%s/%d/%s", keyDraft, d.Slot, d.Item) }
func (d Decision) key() string { return keyDecision + "/" + d.By }

func (r Rollout) kind() string  { return TypeRollout }
func (d Draft) kind() string    { return TypeDraft }
func (d Decision) kind() string { return TypeDecision }

func (r Rollout) when() time.Time  { return r.Time }
func (d Draft) when() time.Time    { return d.Time }
func (d Decision) when() time.Time { return d.Time }

func (r Rollout) at(t time.Time) ofRollouts  { r.Time = t; return r }
func (d Draft) at(t time.Time) ofRollouts    { d.Time = t; return d }
func (d Decision) at(t time.Time) ofRollouts { d.Time = t; return d }

// RolloutRecord makes a record of the topic of roll-outs: of a Rollout, a Draft or a
// Decision, which get the time t.
func RolloutRecord(topic, source string, t time.Time, body any) (*kgo.Record, error) {
	b, ok := body.(ofRollouts)
	if !ok {
		return nil, fmt.Errorf("BUG: a %T is nothing of a roll-out", body)
	}
	return NewRecord(topic, b.key(), b.key()+"/"+strconv.FormatInt(t.UnixNano(), 10), source, t, body)
}

// DecodeRolloutRecord reads a record of the topic of roll-outs: a Rollout, a Draft or a
// Decision; nil for another, which is part of an adapter.
func DecodeRolloutRecord(rec *kgo.Record) (any, error) {
	key, _, _ := strings.Cut(string(rec.Key), "/")
	switch key {
	case keyState:
		ev, err := decode[Rollout](rec, TypeRollout, nil)
		return ev.Body, err
	case keyDraft:
		ev, err := decode[Draft](rec, TypeDraft, nil)
		return ev.Body, err
	case keyDecision:
		ev, err := decode[Decision](rec, TypeDecision, nil)
		return ev.Body, err
	case keyAdapter:
		return nil, nil
	}
	return nil, &InvalidError{"key", fmt.Sprintf("%.64q is none of the topic", rec.Key)}
}

// AdapterRecords makes the records that keep a policy for as long as a roll-out needs
// it: its trainer's own snapshots are overwritten by later ones.
func AdapterRecords(topic string, rollout int64, slot int, s PolicySnapshot) ([]*kgo.Record, error) {
	s.Format, s.Kind = policyFormat, KindAdapter
	manifest, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encoding the snapshot of policy %s: %w", s.Policy, err)
	}
	return ChunkRecords(topic, keyAdapter, slot, fmt.Sprintf("rollout-%d", rollout), manifest, s.Adapter, DefaultChunk), nil
}
