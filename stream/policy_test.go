package stream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func learnt(epoch, step int64, adapter string) PolicySnapshot {
	return PolicySnapshot{Policy: ModelVersion{Name: "smollm2+r8", Step: step}, Epoch: epoch, Offsets: map[int32]int64{0: 5, 2: 7}, Created: noon, Adapter: []byte(adapter)}
}

func TestThePolicysNewestSnapshotIsFoundAmongOthers(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("snapshots", 1, "cleanup.policy", "compact")
	publish := func(slots *Slots, s PolicySnapshot) {
		recs, err := s.Records(slots, topic)
		require.NoError(t, err)
		for _, rec := range recs {
			rec.Partition = 0
		}
		c.produce(recs...)
	}
	slots, last, err := ReadSlots(t.Context(), c.cfg, "policy", 2)
	require.NoError(t, err)
	require.Nil(t, last)
	for step := range int64(3) {
		publish(slots, learnt(1, step, "adapter"))
	}
	other, _, err := ReadSlots(t.Context(), c.cfg, "policy2", 2)
	require.NoError(t, err)
	publish(other, learnt(9, 9, "another's"))

	slots, last, err = ReadSlots(t.Context(), c.cfg, "policy", 2)
	require.NoError(t, err)
	require.Equal(t, 0, last.Slot)
	got, err := DecodePolicySnapshot(last)
	require.NoError(t, err)
	want := learnt(1, 2, "adapter")
	want.Format, want.Kind = policyFormat, KindAdapter
	require.Equal(t, want, got)
	require.True(t, learnt(2, 1, "").Newer(got))
	require.False(t, got.Newer(got))
	publish(slots, learnt(1, 3, "adapter"))
	_, last, err = ReadSlots(t.Context(), c.cfg, "policy", 2)
	require.NoError(t, err)
	require.Equal(t, 1, last.Slot, "the older of two is overwritten")
}

// A writer that died within a transaction hides what others have committed behind it.
func TestWhatAnOpenTransactionHidesIsWaitedFor(t *testing.T) {
	c := newTestCluster(t)
	topic := c.topic("snapshots", 1, "cleanup.policy", "compact")
	dead, err := NewTxn(t.Context(), c.cfg, c.cfg.TopicPrefix+"dead", kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer dead.Close()
	require.NoError(t, dead.Begin())
	require.NoError(t, dead.Produce(t.Context(), &kgo.Record{Topic: topic, Key: []byte("recommender/0"), Value: []byte{}}))
	recs, err := learnt(1, 1, "adapter").Records(NewSlots("policy", 2), topic)
	require.NoError(t, err)
	c.produce(recs...)

	read := make(chan *Blob, 1)
	go func() {
		_, last, err := ReadSlots(t.Context(), c.cfg, "policy", 2)
		require.NoError(t, err)
		read <- last
	}()
	select {
	case <-read:
		t.Fatal("read before the log was settled")
	case <-time.After(300 * time.Millisecond):
	}
	require.NoError(t, dead.Abort(t.Context()))
	require.NotNil(t, <-read)
}

func TestSnapshotsThatAreNoPolicyAreRefusedByName(t *testing.T) {
	for name, tc := range map[string]struct{ manifest, field string }{
		"not JSON":          {`{`, "manifest"},
		"a recommender's":   {`{"format":1,"kind":"full","policy":{"name":"p"}}`, "kind"},
		"of a later format": {`{"format":9,"kind":"adapter","policy":{"name":"p"}}`, "format"},
		"a negative step":   {`{"format":1,"kind":"adapter","policy":{"name":"p","step":-1}}`, "policy"},
		"no name":           {`{"format":1,"kind":"adapter"}`, "policy"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodePolicySnapshot(&Blob{Manifest: []byte(tc.manifest)})
			var invalid *InvalidError
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, tc.field, invalid.Field)
		})
	}
}

func FuzzDecodePolicySnapshot(f *testing.F) {
	f.Add([]byte(`{"format":1,"kind":"adapter","policy":{"name":"p","step":3},"epoch":2,"offsets":{"0":5},"created":"2026-11-23T12:00:00Z"}`))
	f.Add([]byte(`{"format":1,"kind":"adapter","policy":{"name":"\u0000"}}`))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		if s, err := DecodePolicySnapshot(&Blob{Manifest: manifest}); err == nil {
			_, err := s.Records(NewSlots("policy", 2), "snapshots")
			require.NoError(t, err)
		} else {
			require.True(t, IsInvalid(err))
		}
	})
}
