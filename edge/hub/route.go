package hub

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/fleet"
	"github.com/sedge-iot/sedge/edge/ops"
)

// A route is one verb of the API; API.md has the same list.
type route struct {
	method string
	path   string    // as http.ServeMux has it
	role   edge.Role // that it takes; "": anybody's
	serve  http.HandlerFunc
}

const (
	anybody  = edge.Role("")
	viewer   = edge.Viewer
	deployer = edge.Deployer
	admin    = edge.Admin
)

func (h *Hub) routes() []route {
	const (
		function = "/v1/functions/{function}"
		node     = "/v1/nodes/{node}"
		rollout  = "/v1/rollouts/{rollout}"
	)
	return []route{
		{"GET", "/v1/functions", viewer, h.json(h.listFunctions)},
		{"GET", function, viewer, h.json(h.getFunction)},
		{"PUT", function, deployer, h.json(h.deploy)},
		{"DELETE", function, deployer, h.json(h.deleteFunction)},
		{"POST", function + "/enable", deployer, h.json(h.enable)},
		{"POST", function + "/disable", deployer, h.json(h.disable)},
		{"POST", function + "/rollback", deployer, h.json(h.rollback)},
		{"GET", function + "/history", viewer, h.json(h.history)},
		{"GET", function + "/revisions/{revision}", viewer, h.json(h.revision)},
		{"POST", function + "/invoke", deployer, h.json(h.invoke)},

		{"GET", function + "/state", viewer, h.json(h.listState)},
		{"GET", function + "/state/{key...}", viewer, h.json(h.getState)},
		{"PUT", function + "/state/{key...}", deployer, h.json(h.putState)},
		{"DELETE", function + "/state/{key...}", deployer, h.json(h.deleteState)},

		{"GET", "/v1/logs", viewer, stream(h, (*fleet.Remote).Logs, fromNode[edge.LogLine])},
		{"GET", "/v1/events", viewer, stream(h, (*fleet.Remote).Steps, fromNode[edge.Step])},

		{"GET", "/v1/dead", viewer, h.json(h.listDead)},
		{"POST", "/v1/dead/redrive", deployer, h.json(h.redrive)},
		{"POST", "/v1/dead/discard", deployer, h.json(h.discard)},

		{"GET", "/v1/nodes", viewer, h.json(h.listNodes)},
		{"GET", node, viewer, h.json(h.getNode)},
		{"DELETE", node, admin, h.json(h.removeNode)},
		{"PATCH", node + "/labels", admin, h.json(h.labelNode)},
		{"POST", node + "/approve", admin, h.json(h.approve)},
		{"POST", node + "/cordon", admin, h.json(h.cordon)},
		{"POST", node + "/uncordon", admin, h.json(h.uncordon)},
		{"POST", node + "/revoke", admin, h.json(h.revoke)},
		{"GET", node + "/diagnostics", viewer, h.json(h.diagnose)},

		{"GET", "/v1/tokens", admin, h.json(h.listTokens)},
		{"POST", "/v1/tokens", admin, h.json(h.makeToken)},
		{"DELETE", "/v1/tokens/{token}", admin, h.json(h.revokeToken)},

		{"GET", "/v1/rollouts", viewer, h.json(h.listRollouts)},
		{"GET", rollout, viewer, h.json(h.getRollout)},
		{"POST", rollout + "/pause", deployer, h.json(h.steer(h.Fleet.Pause))},
		{"POST", rollout + "/resume", deployer, h.json(h.steer(h.Fleet.Resume))},
		{"POST", rollout + "/promote", deployer, h.json(h.steer(h.Fleet.Promote))},
		{"POST", rollout + "/abort", deployer, h.json(h.steer(h.Fleet.Abort))},

		{"GET", "/v1/releases", viewer, h.json(h.listReleases)},
		{"POST", "/v1/releases", admin, h.putRelease},
		{"DELETE", "/v1/releases/{version}/{platform...}", admin, h.json(h.removeRelease)},
		{"GET", "/v1/upgrades", viewer, h.json(h.listUpgrades)},
		{"POST", "/v1/upgrades", admin, h.json(h.beginUpgrade)},
		{"POST", "/v1/upgrades/{upgrade}/{step}", admin, h.json(h.steerUpgrade)},

		{"GET", "/v1/operators", admin, h.json(h.listOperators)},
		{"POST", "/v1/operators", admin, h.json(h.makeOperator)},
		{"DELETE", "/v1/operators/{operator}", admin, h.json(h.deleteOperator)},
		{"GET", "/v1/audit", admin, h.json(h.audit)},
		{"GET", "/v1/audit/verify", admin, h.json(h.verifyAudit)},
		{"POST", "/v1/accept-epoch", admin, h.json(h.acceptEpoch)},

		{"GET", "/v1/version", viewer, h.json(h.version)},
		{"GET", "/v1/schema", viewer, h.json(h.schema)},

		{"GET", "/healthz", anybody, ops.Alive},
		{"GET", "/livez", anybody, ops.Alive},
		{"GET", "/readyz", anybody, ops.Ready(h.checks)},
		{"GET", "/metrics", h.metricsRole(), h.metrics},

		{"GET", "/debug/pprof/{profile...}", admin, pprof.Index},
		{"GET", "/debug/pprof/cmdline", admin, pprof.Cmdline},
		{"GET", "/debug/pprof/profile", admin, pprof.Profile},
		{"GET", "/debug/pprof/symbol", admin, pprof.Symbol},
		{"GET", "/debug/pprof/trace", admin, pprof.Trace},
	}
}

// routed returns the routes by path, so that what fits none is refused in the
// API's own way.
func (h *Hub) routed() *http.ServeMux {
	methods := map[string]map[string]route{}
	for _, r := range h.routes() {
		if methods[r.path] == nil {
			methods[r.path] = map[string]route{}
		}
		methods[r.path][r.method] = r
	}
	mux := http.NewServeMux()
	for path, routes := range methods {
		mux.HandleFunc(path, h.dispatch(routes))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { h.refuse(w, r, noPath(r)) })
	return mux
}

// dispatch returns a handler that serves each method, and HEAD like GET.
func (h *Hub) dispatch(routes map[string]route) http.HandlerFunc {
	var allowed []string
	for method := range routes {
		allowed = append(allowed, method)
		if method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	slices.Sort(allowed)
	allow := strings.Join(allowed, ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		to, ok := routes[method]
		if !ok {
			w.Header().Set("Allow", allow)
			h.refuse(w, r, &edge.Error{Code: edge.Method, Message: fmt.Sprintf("%.20q cannot be done here", r.Method), Hint: "what can: " + allow})
			return
		}
		if to.role != anybody {
			var err error
			if r, err = h.authentic(w, r, to.role); err != nil {
				h.refuse(w, r, err)
				return
			}
		}
		to.serve(w, r)
	}
}

// noPath is the error for a path that the API has not.
func noPath(r *http.Request) error {
	return &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("there is no path %.200q", r.URL.Path), Hint: "the API's paths begin with /v1/"}
}
