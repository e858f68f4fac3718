package process

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/encoding/json"
	"github.com/stretchr/testify/require"

	"seralm/serving"
)

// A client made from openapi.yaml takes what /readyz says of a process that leaves, which
// is every one that is replaced.
func TestAProcessThatLeavesIsUnreadyAsSpecified(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(serving.OpenAPI)
	require.NoError(t, err)
	var leaving atomic.Bool
	h := unready(&leaving, operations(prometheus.NewRegistry()))
	ready := func(status int) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		require.Equal(t, status, w.Code)
		var body any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
		response := doc.Paths.Find("/readyz").Get.Responses.Status(status)
		require.NotNil(t, response)
		require.NoError(t, response.Value.Content.Get("application/json").Schema.Value.VisitJSON(body))
	}
	ready(http.StatusOK)
	leaving.Store(true)
	ready(http.StatusServiceUnavailable)
}
