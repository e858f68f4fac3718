package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkPost is events over HTTP on the loopback, acknowledged by the broker
// (kfake in this process, or the cluster of SERALM_TEST_KAFKA).
func BenchmarkPost(b *testing.B) {
	for _, c := range []struct{ clients, batch int }{{1, 1}, {32, 1}, {1, 100}, {8, 100}} {
		b.Run(fmt.Sprintf("clients=%d/batch=%d", c.clients, c.batch), func(b *testing.B) {
			r := newRig(b)
			client := r.server.Client()
			client.Transport.(*http.Transport).MaxIdleConnsPerHost = c.clients
			var n, left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var clients sync.WaitGroup
			for range c.clients {
				clients.Go(func() {
					for left.Add(-1) >= 0 {
						var events []string
						for range c.batch {
							i := n.Add(1)
							events = append(events, fmt.Sprintf(`{"user":"user-%d","item":"item-%d","type":"click","id":"%d","recommendation_id":"01K0000000000000000000"}`, i%1000, i%3000, i))
						}
						resp, err := client.Post(r.server.URL+"/v1/interactions", "application/json", strings.NewReader("["+strings.Join(events, ",")+"]"))
						require.NoError(b, err)
						_, err = io.Copy(io.Discard, resp.Body)
						require.NoError(b, err)
						resp.Body.Close()
						require.Equal(b, http.StatusOK, resp.StatusCode)
					}
				})
			}
			clients.Wait()
			b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "events/s")
		})
	}
}
