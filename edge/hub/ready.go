package hub

import (
	"encoding/json"
	"net/http"
	"runtime"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// checks are the program's and the hub's own.
func (h *Hub) checks() []edge.Check {
	var all []edge.Check
	if h.Checks != nil {
		all = h.Checks()
	}
	return append(all, h.Fleet.Check())
}

// metricsRole is who may read the metrics: anybody of this machine, else whoever has a
// token.
func (h *Hub) metricsRole() edge.Role {
	if len(h.Hosts) > 0 {
		return viewer
	}
	return anybody
}

func (h *Hub) metrics(w http.ResponseWriter, r *http.Request) {
	if h.Metrics == nil {
		h.refuse(w, r, noPath(r))
		return
	}
	if who, ok := r.Context().Value(askerKey{}).(asker); ok && !who.scope.All() {
		h.refuse(w, r, &edge.Error{Code: edge.Forbidden, Message: "metrics are of the whole fleet, and " + who.Name + " has a scope"})
		return
	}
	h.Metrics.ServeHTTP(w, r)
}

func (h *Hub) version(*request) (any, error) {
	return edge.Version{Version: h.Version, Go: runtime.Version(), Node: h.Name, API: "v1"}, nil
}

func (h *Hub) schema(*request) (any, error) {
	return json.RawMessage(functions.Schema()), nil
}
