package rollout

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"seralm/stream"
)

// While drafts are written, the state counts those that there are: of this roll-out, and
// each item once.
func TestDraftsAreCountedWhileTheyAreWritten(t *testing.T) {
	s := newSystem(t)
	draft := func(rollout int64, item int) stream.Draft {
		know := stream.Knowledge{
			Item: fmt.Sprint("i", item), Text: "c", Vector: vector("c"), PromptHash: "p", Origin: stream.OriginLLM, Encoder: "letters",
			Policy: stream.ModelVersion{Name: "toy"},
		}
		return stream.Draft{Rollout: rollout, Slot: int(rollout), Item: know.Item, Candidate: know, Served: know}
	}
	s.put(draft(1, 0), stream.Rollout{ID: 2, Phase: stream.RolloutWriting, Policy: stream.ModelVersion{Name: "toy", Step: 50}, Slot: 2},
		draft(2, 1), draft(2, 2), draft(2, 2))
	st, err := State(t.Context(), s.Config.Kafka)
	require.NoError(t, err)
	require.EqualValues(t, 2, st.ID)
	require.Equal(t, 2, st.Drafts)
}

// The gate's decision is seen before it has been fulfilled, and only of this roll-out.
func TestADecisionIsSeenBeforeItIsFulfilled(t *testing.T) {
	s := newSystem(t)
	judging := stream.Rollout{ID: 2, Phase: stream.RolloutJudging, Policy: stream.ModelVersion{Name: "toy", Step: 50}}
	decided := func(rollout int64, by string) *stream.Decision {
		s.put(judging, stream.Decision{Rollout: rollout, Action: stream.ActionHold, By: by, Reason: "it is worse"})
		st, err := State(t.Context(), s.Config.Kafka)
		require.NoError(t, err)
		return st.Decision
	}
	require.Nil(t, decided(1, stream.ByGate))
	require.Nil(t, decided(2, stream.ByOperator))
	require.Equal(t, "it is worse", decided(2, stream.ByGate).Reason)
}
