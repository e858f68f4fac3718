package serving

import (
	_ "embed"
	"net/http"
	"strings"

	"seralm/serving/problem"
)

// OpenAPI is the specification of every route of a process that serves look-ups
// and takes events.
//
//go:embed openapi.yaml
var OpenAPI []byte

// GatewayRoutes are answered by the gateway's handler.
var GatewayRoutes = []string{
	"POST /v1/interactions",
	"POST /v1/items",
	"PATCH /v1/items/{item}",
	"DELETE /v1/items/{item}",
}

type route struct {
	pattern string
	handler http.HandlerFunc
}

// table lists the routes that the server answers itself.
func (s *Server) table(metrics http.Handler) []route {
	return []route{
		{"GET /v1/recommendations/{user}", s.recommendUser},
		{"POST /v1/recommendations", s.recommendQuery},
		{"GET /v1/users/{user}/history", s.getHistory},
		{"GET /v1/items", s.findItems},
		{"GET /v1/items/{item}", s.getItem},
		{"GET /v1/status", s.status},
		{"GET /healthz", s.healthz},
		{"GET /readyz", s.readyz},
		{"GET /metrics", metrics.ServeHTTP},
		{"GET /openapi.yaml", openAPI},
		{"GET /{$}", page},
	}
}

func (s *Server) routes(gateway, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.table(metrics) {
		mux.HandleFunc(r.pattern, r.handler)
	}
	if gateway != nil {
		for _, pattern := range GatewayRoutes {
			mux.Handle(pattern, gateway)
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { astray(mux, w, r) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

// astray answers what matches no route: 405 when another method would, else 404.
func astray(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		other := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := mux.Handler(other); pattern != "/" {
			allow = append(allow, method)
		}
	}
	if len(allow) > 0 {
		w.Header().Set("Allow", strings.Join(allow, ", "))
		problem.Write(w, problem.Method(quotable(r.Method), strings.Join(allow, " or ")))
		return
	}
	problem.Write(w, problem.NotFound("no route has this path", "GET /openapi.yaml lists them all"))
}

func openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(OpenAPI)
}
