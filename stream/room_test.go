package stream

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A disk that somebody fills behind the broker's back, in the middle of a write: kfake
// alone would acknowledge the commit, and the next start abort it.
func TestALogThatCannotBeWrittenEndsTheProcess(t *testing.T) {
	cfg := embedded(t)
	want := []string{}
	for _, story := range []string{"a plain record", "the end of a transaction", "the beginning of one"} {
		var log bytes.Buffer
		c, broker := startProcess(t, cfg, &log)
		if len(want) == 0 {
			c.topic("t", 1)
		}
		c.produce(record("t", 0, 1, "acknowledged: "+story))
		want = append(want, "acknowledged: "+story)
		txn := openTxnWriter(t, c, "w")
		require.NoError(t, txn.Begin())
		if story == "the end of a transaction" {
			require.NoError(t, txn.Produce(t.Context(), record("t", 0, 1, "lost")))
		}
		// No file may be larger than it is: a disk that is full, to this one process.
		require.NoError(t, unix.Prlimit(broker.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1, Max: 1}, nil), story)
		answer := make(chan error, 1)
		go func() {
			switch story {
			case "a plain record":
				answer <- c.cl.ProduceSync(t.Context(), record("t", 0, 1, "lost")).FirstErr()
			case "the end of a transaction":
				answer <- txn.Commit(t.Context())
			default:
				answer <- txn.Produce(t.Context(), record("t", 0, 1, "lost"))
			}
		}()
		_ = broker.Wait() // an exit status, looked at below
		require.Equal(t, 1, broker.ProcessState.ExitCode(), story)
		c.cl.Close() // or it would try for ever
		txn.Close()
		require.Error(t, <-answer, story)
		require.Contains(t, log.String(), "make room", story)
		require.Contains(t, log.String(), cfg.DataDir, story)

		c, b := startBroker(t, cfg)
		require.Equal(t, want, c.visible(c.settled("t")), story)
		c.cl.Close()
		b.Close()
	}
}
