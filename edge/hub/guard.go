package hub

import (
	"net/http"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge/fleet"
	"github.com/sedge-iot/sedge/edge/link"
	"github.com/sedge-iot/sedge/edge/ops"
)

// Handler returns the API, and with it the way in for nodes. It answers requests that
// name the hub in their Host.
func (h *Hub) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path { // that keep their own limits, and out who has not the key for them
		case link.Path:
			h.Fleet.ServeHTTP(w, r)
			return
		case fleet.PeerPath:
			h.Fleet.ServePeer(w, r)
			return
		}
		t := &tracked{ResponseWriter: w}
		defer h.survive(t, r)
		t.Header().Set("X-Content-Type-Options", "nosniff")
		t.Header().Set("Cache-Control", "no-store")
		if r.ContentLength != 0 {
			// Ended by body once all is read. Without it, whoever sends no end
			// would hold a connection for ever.
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.bodyTime))
		}
		if err := h.admit(r); err != nil {
			h.refuse(t, r, err)
			return
		}
		h.mux.ServeHTTP(t, r)
	})
}

// survive answers for a handler that panicked.
func (h *Hub) survive(w *tracked, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p) // a handler's way of cutting the connection
	}
	h.Logger.Error("request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	if w.begun {
		panic(http.ErrAbortHandler)
	}
	h.refuse(w, r, internal())
}

// admit refuses what a web page, or a name that someone has pointed at this
// machine, may have sent; and paths that are not written the one right way.
func (h *Hub) admit(r *http.Request) error {
	admit := ops.Admit
	if len(h.Hosts) > 0 {
		admit = ops.AdmitNames(h.Hosts)
	}
	if err := admit(r); err != nil {
		return err
	}
	p := r.URL.EscapedPath()
	if r.Method == http.MethodConnect || !strings.HasPrefix(p, "/") || p != "/" && path.Clean(p) != strings.TrimSuffix(p, "/") {
		return noPath(r)
	}
	return nil
}

// A tracked writer knows whether the answer has begun.
type tracked struct {
	http.ResponseWriter
	begun bool
}

func (t *tracked) WriteHeader(status int) {
	t.begun = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracked) Write(b []byte) (int, error) {
	t.begun = true
	return t.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (t *tracked) Unwrap() http.ResponseWriter { return t.ResponseWriter }
