package hub

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ops"
)

// A route is one verb of the API; API.md has the same list.
type route struct {
	method string
	path   string // as http.ServeMux has it
	serve  http.HandlerFunc
}

// isOpen reports whether a path needs no token.
func isOpen(path string) bool {
	return slices.Contains([]string{"/healthz", "/livez", "/readyz", "/metrics"}, path)
}

func (h *Hub) routes() []route {
	const function = "/v1/functions/{function}"
	return []route{
		{"GET", "/v1/functions", h.json(h.listFunctions)},
		{"GET", function, h.json(h.getFunction)},
		{"PUT", function, h.json(h.deploy)},
		{"DELETE", function, h.json(h.deleteFunction)},
		{"POST", function + "/enable", h.json(h.enable)},
		{"POST", function + "/disable", h.json(h.disable)},
		{"POST", function + "/rollback", h.json(h.rollback)},
		{"GET", function + "/history", h.json(h.history)},
		{"GET", function + "/revisions/{revision}", h.json(h.revision)},
		{"POST", function + "/invoke", h.json(h.invoke)},

		{"GET", function + "/state", h.json(h.listState)},
		{"GET", function + "/state/{key...}", h.json(h.getState)},
		{"PUT", function + "/state/{key...}", h.json(h.putState)},
		{"DELETE", function + "/state/{key...}", h.json(h.deleteState)},

		{"GET", "/v1/logs", stream(h, h.Node.Logs)},
		{"GET", "/v1/events", stream(h, h.Node.Steps)},

		{"GET", "/v1/dead", h.json(h.listDead)},
		{"POST", "/v1/dead/redrive", h.json(h.redrive)},
		{"POST", "/v1/dead/discard", h.json(h.discard)},

		{"GET", "/v1/version", h.json(h.version)},
		{"GET", "/v1/schema", h.json(h.schema)},

		{"GET", "/healthz", ops.Alive},
		{"GET", "/livez", ops.Alive},
		{"GET", "/readyz", ops.Ready(h.checks)},
		{"GET", "/metrics", h.metrics},

		{"GET", "/debug/pprof/{profile...}", pprof.Index},
		{"GET", "/debug/pprof/cmdline", pprof.Cmdline},
		{"GET", "/debug/pprof/profile", pprof.Profile},
		{"GET", "/debug/pprof/symbol", pprof.Symbol},
		{"GET", "/debug/pprof/trace", pprof.Trace},
	}
}

// routed returns the routes by path, so that what fits none is refused in the
// API's own way.
func (h *Hub) routed() *http.ServeMux {
	methods := map[string]map[string]http.HandlerFunc{}
	for _, r := range h.routes() {
		if methods[r.path] == nil {
			methods[r.path] = map[string]http.HandlerFunc{}
		}
		methods[r.path][r.method] = r.serve
	}
	mux := http.NewServeMux()
	for path, serve := range methods {
		mux.HandleFunc(path, h.dispatch(serve, isOpen(path)))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { h.refuse(w, r, noPath(r)) })
	return mux
}

// dispatch returns a handler that serves each method, and HEAD like GET.
func (h *Hub) dispatch(serve map[string]http.HandlerFunc, open bool) http.HandlerFunc {
	var allowed []string
	for method := range serve {
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
		do, ok := serve[method]
		if !ok {
			w.Header().Set("Allow", allow)
			h.refuse(w, r, &edge.Error{Code: edge.Method, Message: fmt.Sprintf("%.20q cannot be done here", r.Method), Hint: "what can: " + allow})
			return
		}
		if !open {
			if err := h.authentic(w, r); err != nil {
				h.refuse(w, r, err)
				return
			}
		}
		do(w, r)
	}
}

// noPath is the error for a path that the API has not.
func noPath(r *http.Request) error {
	return &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("there is no path %.200q", r.URL.Path), Hint: "the API's paths begin with /v1/"}
}
