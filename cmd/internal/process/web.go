package process

import (
	"net/http"

	"seralm/config"
	"seralm/models/onnx"
	"seralm/producers/gateway"
	"seralm/serving"
	"seralm/serving/scorer"
)

// Serve adds the look-up API with the page and, if wanted, the gateway on the same
// listener. users are those that the page suggests.
func (p *Process) Serve(takesEvents bool, users []string) error {
	if err := p.LoadONNX(); err != nil {
		return err
	}
	deps := serving.Deps{
		Config: p.Config, Log: p.Log, Metrics: p.Metrics, Kafka: p.Kafka, Views: p.Store,
		Build: scorer.ONNX, Version: config.Version, Users: users,
	}
	var events *gateway.Gateway
	if takesEvents {
		// The server routes to the gateway, the gateway asks the server for items.
		deps.Gateway = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { events.ServeHTTP(w, r) })
	}
	s := serving.New(deps)
	if takesEvents {
		events = p.events(s)
	}
	p.Handle(s.Handler())
	p.Add("serving", s.Run)
	return nil
}

// LoadONNX loads ONNX Runtime, which everything that scores with snapshots needs.
func (p *Process) LoadONNX() error { return onnx.Init(p.Config.Native.ONNXRuntime) }

// TakeEvents adds the gateway alone.
func (p *Process) TakeEvents() {
	events := p.events(nil)
	mux := operations(p.Metrics)
	for _, pattern := range serving.GatewayRoutes {
		mux.Handle(pattern, events)
	}
	p.Handle(mux)
}

func (p *Process) events(items gateway.Items) *gateway.Gateway {
	return gateway.New(gateway.Deps{Config: p.Config, Kafka: p.Kafka, Log: p.Log, Metrics: p.Metrics, Items: items})
}
