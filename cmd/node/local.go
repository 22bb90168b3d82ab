package node

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/sedge-iot/sedge/edge"
)

// local lets pass what a program of this machine asks, and refuses what a web
// page in its browser may have sent: by a name that someone has pointed here, or
// from another origin.
func local(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e := stranger(r); e != nil {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(e.Code.Status())
			json.NewEncoder(w).Encode(map[string]any{"error": e})
			return
		}
		h.ServeHTTP(w, r)
	})
}

// stranger says why a request is not local, or returns nil.
func stranger(r *http.Request) *edge.Error {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]") // without a port
	}
	const hint = "ask by a loopback address, like 127.0.0.1; with --http-token-file any name will do"
	if ip := net.ParseIP(host); !strings.EqualFold(host, "localhost") && (ip == nil || !ip.IsLoopback()) {
		return &edge.Error{Code: edge.Misdirected, Message: fmt.Sprintf("http triggers are not served under the name %.100q", r.Host), Hint: hint}
	}
	for _, origin := range r.Header.Values("Origin") {
		if origin != "http://"+r.Host {
			return &edge.Error{Code: edge.Misdirected, Message: fmt.Sprintf("pages of %.100q may not set off triggers", origin), Hint: hint}
		}
	}
	return nil
}
