package hub

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ops"
)

// Handler returns the API. It answers requests that came over a loopback
// connection and name it in their Host.
func (h *Hub) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	if err := ops.Admit(r); err != nil {
		return err
	}
	p := r.URL.EscapedPath()
	if r.Method == http.MethodConnect || !strings.HasPrefix(p, "/") || p != "/" && path.Clean(p) != strings.TrimSuffix(p, "/") {
		return noPath(r)
	}
	return nil
}

// authentic returns an error unless the request shows the token.
func (h *Hub) authentic(w http.ResponseWriter, r *http.Request) error {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(h.Token)) // of one length, whatever was sent
	if strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
		return nil
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="sedge"`)
	e := &edge.Error{Code: edge.Denied, Message: "the token is wrong", Hint: "send the hub's token as Authorization: Bearer TOKEN"}
	if token == "" {
		e.Message = "a token is needed"
	}
	if h.TokenFile != "" {
		e.Hint += "; it is in " + h.TokenFile
	}
	return e
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
