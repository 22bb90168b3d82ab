package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A checker says how a node is.
type checker interface {
	Checks() []edge.Check
}

func alive(w http.ResponseWriter, _ *http.Request) {
	text(w, http.StatusOK, "ok\n")
}

// ready lists the checks as Kubernetes does, when asked to or when one fails.
func (h *Hub) ready(w http.ResponseWriter, r *http.Request) {
	checks := append(h.Node.Checks(), h.functionsCheck())
	var list bytes.Buffer
	status, verdict := http.StatusOK, "readyz check passed\n"
	for _, c := range checks {
		switch {
		case c.OK:
			fmt.Fprintf(&list, "[+]%s ok\n", c.Name)
		default:
			status, verdict = http.StatusServiceUnavailable, "readyz check failed\n"
			fmt.Fprintf(&list, "[-]%s failed: %s\n", c.Name, c.Why)
		}
	}
	if status == http.StatusOK && !r.URL.Query().Has("verbose") {
		text(w, status, "ok\n")
		return
	}
	text(w, status, list.String()+verdict)
}

// functionsCheck says whether the node has what the ledger holds.
func (h *Hub) functionsCheck() edge.Check {
	if !h.handed.Load() {
		return edge.Check{Name: "functions", Why: "the node is still being given its functions"}
	}
	return edge.Check{Name: "functions", OK: true}
}

func text(w http.ResponseWriter, status int, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, s) // who asked may have gone
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
