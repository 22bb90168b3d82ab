package hub

import (
	"encoding/json"
	"net/http"
	"runtime"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A checker says how a node is.
type checker interface {
	Checks() []edge.Check
}

// checks are the node's, the program's and the hub's own.
func (h *Hub) checks() []edge.Check {
	all := h.Node.Checks()
	if h.Checks != nil {
		all = append(all, h.Checks()...)
	}
	return append(all, h.functionsCheck())
}

// functionsCheck says whether the node has what the ledger holds.
func (h *Hub) functionsCheck() edge.Check {
	if !h.handed.Load() {
		return edge.Check{Name: "functions", Why: "the node is still being given its functions"}
	}
	return edge.Check{Name: "functions", OK: true}
}

func (h *Hub) metrics(w http.ResponseWriter, r *http.Request) {
	if h.Metrics == nil {
		h.refuse(w, r, noPath(r))
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
