package serving

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"seralm/serving/internal/specimen"
	"seralm/stream"
)

func TestWhatWasShownIsOnTheLogUnderItsRecommendationID(t *testing.T) {
	p := newPlant(t)
	p.publish(specimen.SASRec(specimen.Small, 20, 7))
	p.inUse(7)
	p.clicked("ann", "i7", "i14")

	personal := decode[answer](t, p.ask("GET", "/v1/recommendations/ann?n=3", ""))
	require.Equal(t, sourcePersonalised, personal.Source)
	session := decode[answer](t, p.ask("POST", "/v1/recommendations", `{"history": ["i4"], "n": 2}`))
	none := decode[answer](t, p.ask("POST", "/v1/recommendations", `{"candidates": []}`))
	require.Empty(t, none.Items)

	shown := p.written(2)
	require.NotContains(t, shown, none.ID, "nothing was shown")
	got := shown[personal.ID]
	require.Equal(t, "ann", got.User)
	require.Equal(t, []string{"i8", "i15", "i2"}, got.Items)
	require.Equal(t, []float32{992, 985, -2}, got.Scores)
	require.Equal(t, sourcePersonalised, got.Source)
	require.Equal(t, "recommender", got.Model)
	require.EqualValues(t, 1, got.Epoch)
	require.EqualValues(t, 7, got.Step)
	require.WithinDuration(t, time.Now(), got.Time, time.Minute)
	require.Equal(t, session.ID, shown[session.ID].User, "nobody in particular: the answer stands for them")
}

func TestWhatWaitsIsWrittenBeforeTheEnd(t *testing.T) {
	p := newPlant(t)
	p.publish(specimen.SASRec(specimen.Small, 20, 1))
	p.inUse(1)
	const answers = 500
	for range answers {
		require.Equal(t, 200, p.ask("POST", "/v1/recommendations", `{"history": ["i4"], "n": 2}`).Code)
	}
	p.stop()
	require.Len(t, p.written(answers), answers)
	require.Zero(t, testutil.ToFloat64(p.impressions.dropped))
}

func TestAFullQueueDropsImpressionsAndCountsThem(t *testing.T) {
	r := newRig(t) // nothing takes from the queue
	r.liked("hit")
	for range impressionQueue + 3 {
		require.Equal(t, 200, r.ask("GET", "/v1/recommendations/ann", "").Code)
	}
	require.Len(t, r.impressions.queue, impressionQueue)
	require.Equal(t, 3.0, testutil.ToFloat64(r.impressions.dropped))
}

func TestWhatAClientThatLeftDidNotSeeIsNoImpression(t *testing.T) {
	r := newRig(t)
	r.liked("hit")
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r.Handler().ServeHTTP(httptest.NewRecorder(), request("GET", "/v1/recommendations/ann", "").WithContext(ctx))
	require.Empty(t, r.impressions.queue)
	r.ask("GET", "/v1/recommendations/ann", "")
	require.Len(t, r.impressions.queue, 1)
}

func TestWhatTheLogWouldRefuseIsDroppedAndCounted(t *testing.T) {
	r := newRig(t)
	r.impressions.offer(&answer{ID: "1", User: "ann", Source: sourcePopular, Items: []answerItem{{Item: "a\x00"}}}, time.Now())
	r.impressions.write(<-r.impressions.queue)
	require.Equal(t, 1.0, testutil.ToFloat64(r.impressions.dropped))
}

// The gateway's events are written by the same client.
func TestImpressionsLeaveRoomForEvents(t *testing.T) {
	const room = impressionsWaiting + 5
	client, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:1"), kgo.MaxBufferedRecords(room))
	require.NoError(t, err)
	defer client.Close()
	r := newRig(t, func(d *Deps) { d.Kafka = client })
	for range room {
		r.impressions.write(stream.Impression{RecommendationID: "r", User: "ann", Source: sourcePopular, Items: []string{"hit"}, Scores: []float32{1}, Time: time.Now()})
	}
	require.EqualValues(t, impressionsWaiting, client.BufferedProduceRecords())
	require.Equal(t, 5.0, testutil.ToFloat64(r.impressions.dropped))
}

func TestALogThatIsAwayDropsImpressionsWithoutWaiting(t *testing.T) {
	client, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:1"), kgo.MaxBufferedRecords(2))
	require.NoError(t, err)
	defer client.Close()
	r := newRig(t, func(d *Deps) {
		d.Kafka = client
		d.Config.HTTP.DrainTimeout = 10 * time.Millisecond
	})
	r.liked("hit")
	for range 5 {
		r.ask("GET", "/v1/recommendations/ann", "")
	}
	r.impressions.flush() // does not wait for the log longer than the drain
	require.Empty(t, r.impressions.queue)
	require.Eventually(t, func() bool { return testutil.ToFloat64(r.impressions.dropped) == 3 }, patience, time.Millisecond)
}
