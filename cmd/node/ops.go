package node

import (
	"net/http"
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/sedge-iot/sedge/cmd/service"
	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ops"
)

// AddOpsFlags makes flags of what a node needs that has no hub beside it to tell
// how it is.
func (o *Options) AddOpsFlags(f *pflag.FlagSet) {
	f.StringVar(&o.OpsListen, "ops-listen", "127.0.0.1:7781", "`ADDRESS` of /metrics, /healthz, /readyz and /version; \"off\" for none")
}

// listenOps opens the listener for those who operate the node.
func (n *Node) listenOps(o Options) (err error) {
	if isOff(o.OpsListen) {
		return nil
	}
	n.ops, err = service.Listen("metrics and health", o.OpsListen, "choose another: --ops-listen 127.0.0.1:7791, or --ops-listen off")
	return err
}

// opsHandler tells how the node is: to this machine, unless its owner had it
// listen elsewhere too.
func (n *Node) opsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", ops.Alive)
	mux.HandleFunc("GET /livez", ops.Alive)
	mux.HandleFunc("GET /readyz", ops.Ready(n.Checks))
	mux.HandleFunc("GET /version", n.version)
	mux.Handle("GET /metrics", n.Metrics())
	admit := ops.AdmitAbroad
	if isLoopback(n.ops) {
		admit = ops.Admit
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		admitted(admit, mux).ServeHTTP(w, r)
	})
}

func (n *Node) version(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, edge.Version{Version: settings.Version(), Go: runtime.Version(), Node: n.options.Name})
}

// Checks returns what is to be told of the node. That the hub is away leaves it ready.
func (n *Node) Checks() []edge.Check {
	list := n.Agent.Checks()
	switch {
	case n.member != nil:
		list = append(list, n.member.Check())
	case n.stray != nil:
		list = append(list, edge.Check{Name: "hub", OK: true, Why: "the node runs without its hub: " + n.stray.Error()})
	}
	return append(list, n.options.Config.Checks()...)
}

// Metrics returns a handler that tells the metrics of the node, of its process, and of
// what else the program has beside the node.
func (n *Node) Metrics(beside ...prometheus.Collector) http.Handler {
	all := append(slices.Concat(n.carrier.Metrics, beside), n.Agent)
	if n.member != nil {
		all = append(all, n.member)
	}
	if n.pods != nil {
		o := prometheus.GaugeOpts{Name: "sedge_pool_ready", Help: "Pods of the warm pool that wait for a function."}
		all = append(all, prometheus.NewGaugeFunc(o, func() float64 { return float64(n.pods.Warm()) }))
	}
	return service.Metrics(append(all, n.options.Config.Metric())...)
}
