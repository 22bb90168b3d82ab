package node

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/sedge-iot/sedge/cmd/service"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ops"
)

// listenTrigger opens the listener of HTTP triggers. Beyond this machine it wants a
// token, for whoever reaches it can run functions.
func (n *Node) listenTrigger(o Options) error {
	if isOff(o.HTTPListen) {
		return nil
	}
	if o.HTTPTokenFile != "" {
		data, err := os.ReadFile(o.HTTPTokenFile)
		if err != nil {
			return fmt.Errorf("read token of http triggers: %w", err)
		}
		if n.token = strings.TrimSpace(string(data)); n.token == "" {
			return &edge.Error{Code: edge.Invalid, Message: o.HTTPTokenFile + " holds no token", Hint: "write one: head -c 24 /dev/urandom | base64 > " + o.HTTPTokenFile}
		}
	}
	ln, err := service.Listen("http triggers", o.HTTPListen, "choose another: --http-listen 127.0.0.1:7789, or --http-listen off")
	if err != nil {
		return err
	}
	if n.token == "" && !isLoopback(ln) {
		ln.Close()
		return &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("http triggers on %s could be set off by anyone who reaches this machine", o.HTTPListen), Hint: "give them a token: --http-token-file FILE"}
	}
	n.trigger = ln
	return nil
}

// guarded asks for the token; without one, what asks must be of this machine.
func (n *Node) guarded(h http.Handler) http.Handler {
	if n.token == "" {
		return admitted(ops.Admit, h)
	}
	want := []byte("Bearer " + n.token)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			refuse(w, &edge.Error{Code: edge.Denied, Message: "no token, or a wrong one"})
			return
		}
		h.ServeHTTP(w, r)
	})
}
