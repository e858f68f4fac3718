package rollout

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"seralm/consumers/internal/toy"
	"seralm/models/onnx"
	"seralm/models/snapshot"
	"seralm/models/vocab"
	"seralm/stream"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		panic(child(spec)) // it is killed before it ends
	}
	if err := onnx.Init(os.Getenv("SERALM_ONNXRUNTIME")); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

const patience = 60 * time.Second

// system is a toy's log, with a gate that looks often.
type system struct{ *toy.System }

func newSystem(t testing.TB) *system {
	s := &system{toy.NewSystem(t)}
	s.Config.Alignment.RolloutEvents = 200
	return s
}

// letters counts a to e in a text, whatever else it says.
type letters struct{}

func (letters) Version() string { return "letters" }

func (letters) Encode(_ context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i, text := range texts {
		out[i] = make([]float32, toy.Letters-1)
		for k := range out[i] {
			out[i][k] = float32(strings.Count(text, string(rune('a'+k))))
		}
	}
	return out, nil
}

func vector(text string) stream.Vector {
	v, _ := letters{}.Encode(context.Background(), []string{text}) // it never fails
	return v[0]
}

// bag is the toy's recommender.
type bag struct {
	*toy.Users
	table []float32
	hold  chan struct{} // not nil: each score waits until it is closed
}

func openBag(s *snapshot.Snapshot) (Scorer, error) {
	u, err := toy.Open(s, 0)
	if err != nil {
		return nil, err
	}
	return &bag{Users: u.(*toy.Users), table: s.Tensors[itemTable].Data}, nil
}

func (b *bag) Score(history []int32, out []float32) error {
	if b.hold != nil {
		<-b.hold
	}
	users, err := b.Users.Users(context.Background(), [][]int32{history}, nil)
	if err != nil {
		return err
	}
	for r := range out {
		out[r] = 0
		for d, x := range users[0] {
			out[r] += x * b.table[r*toy.Dim+d]
		}
	}
	out[0], out[1] = float32(negative), float32(negative)
	return nil
}

const negative = -1e30 // as good as -Inf, and it can be summed

// running is a role of a test.
type running struct {
	t    testing.TB
	stop context.CancelFunc
	end  chan error
}

func run(t testing.TB, role func(context.Context) error) *running {
	ctx, stop := context.WithCancel(context.Background())
	r := &running{t, stop, make(chan error, 1)}
	go func() { r.end <- role(ctx) }()
	t.Cleanup(stop)
	return r
}

func (r *running) leave() {
	r.t.Helper()
	r.stop()
	select {
	case err := <-r.end:
		require.NoError(r.t, err)
	case <-time.After(patience):
		require.Fail(r.t, "the role does not end")
	}
}

// gate is one that runs.
func (s *system) gate(open Open) (*running, *Gate) {
	s.Helper()
	g := New(s.Config, Options{Open: open, Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)})
	g.poll = 5 * time.Millisecond
	return run(s, g.Run), g
}

func (s *system) eventually(what string, ok func() bool) {
	s.Helper()
	require.Eventually(s, ok, patience, 5*time.Millisecond, what)
}

// put writes what belongs to the topic of roll-outs.
func (s *system) put(bodies ...any) {
	s.Helper()
	for _, body := range bodies {
		rec, err := stream.RolloutRecord(s.Names().Rollouts(), "test", time.Now(), body)
		require.NoError(s, err)
		s.Produce(rec)
	}
}

// topic is all that the topic of roll-outs holds.
func (s *system) topic() (st stream.Rollout, decisions []stream.Decision) {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Context())
	err := stream.Follow(ctx, s.Config.Kafka, s.Names().Rollouts(), func(rec *kgo.Record) error {
		body, err := stream.DecodeRolloutRecord(rec)
		switch b := body.(type) {
		case stream.Rollout:
			st = b
		case stream.Decision:
			decisions = append(decisions, b)
		}
		return err
	}, cancel)
	require.ErrorIs(s, err, context.Canceled)
	return st, decisions
}

// decision waits for the n-th one, from 1.
func (s *system) decision(n int) stream.Decision {
	s.Helper()
	var all []stream.Decision
	s.eventually("the gate decides", func() bool { _, all = s.topic(); return len(all) >= n })
	return all[n-1]
}

// Users take the first of the items, all of which have a draft: a text that moves its item
// up is a good one.
const (
	items   = 40
	drafted = 30
)

// taken are interactions with numbers [from, to).
func taken(from, to int) []stream.Event[stream.Interaction] {
	all := toy.Interactions(from, to)
	for i := range all {
		all[i].Body.Item = fmt.Sprint("i", rand.New(rand.NewPCG(9, uint64(from+i))).IntN(drafted))
	}
	return all
}

func (s *system) interactions(from, to int) {
	s.Helper()
	for _, in := range taken(from, to) {
		s.Produce(s.Record(s.Names().Interactions(), in.Body.User, in.ID, int(in.Time.UnixMilli()-1e12), in.Body))
	}
}

// judging is a roll-out that waits for a decision.
func judging(id int64) stream.Rollout {
	return stream.Rollout{
		ID: id, Phase: stream.RolloutJudging, Alignment: "policy", Policy: stream.ModelVersion{Name: "toy", Step: 50 * id}, Encoder: "letters", Began: time.Now(),
	}
}

// draft of an item that has the one text and may get the other.
func draft(id int64, n int, served, candidate string) stream.Draft {
	item := fmt.Sprint("i", n)
	k := func(text string, step int64) stream.Knowledge {
		return stream.Knowledge{
			Item: item, Text: text, Vector: vector(text), PromptHash: "85a14d3e", Policy: stream.ModelVersion{Name: "toy", Step: step},
			Encoder: "letters", Origin: stream.OriginLLM, Time: time.UnixMilli(1e12),
		}
	}
	return stream.Draft{Rollout: id, Item: item, Served: k(served, 0), Candidate: k(candidate, 50*id)}
}

// snapshot is a recommender that has learnt what the log holds now, and that the items
// which users take have a text of letters c.
func (s *system) snapshot(step int64, text string) *snapshot.Snapshot {
	s.Helper()
	snap := toy.Snapshot(s.Config.Recommender.Name, step, items, toy.Good)
	for n := range drafted {
		snap.Tensors[itemTable].Data[(vocab.FirstItem+n)*toy.Dim] += float32(len(text))
	}
	snap.Offsets, snap.Created = s.ends(), time.Now()
	return snap
}

// recommender publishes a snapshot.
func (s *system) recommender(step int64, text string) {
	s.Helper()
	s.Publish(s.snapshot(step, text))
}
