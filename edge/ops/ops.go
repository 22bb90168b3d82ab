// Package ops is what a program tells, by HTTP, those who operate it: that it
// is alive, and whether it is ready. The hub and a node without one share it, so
// that both say it alike, and so that both refuse alike what a web page sends.
//
// It decides nothing: what is checked, and where it is served, is the caller's
// part.
package ops

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/sedge-iot/sedge/edge"
)

// Alive answers that the program runs.
func Alive(w http.ResponseWriter, _ *http.Request) {
	text(w, http.StatusOK, "ok\n")
}

// Ready returns a handler that answers 200 if all checks hold, else 503. It
// lists them as Kubernetes does, when asked to by ?verbose or when one fails. One
// that holds and yet has something to say is marked, and does not count as failed.
// checks is called for each request, from several goroutines.
func Ready(checks func() []edge.Check) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var list bytes.Buffer
		status, verdict := http.StatusOK, "readyz check passed\n"
		for _, c := range checks() {
			switch {
			case !c.OK:
				status, verdict = http.StatusServiceUnavailable, "readyz check failed\n"
				fmt.Fprintf(&list, "[-]%s failed: %s\n", c.Name, c.Why)
			case c.Why != "":
				fmt.Fprintf(&list, "[!]%s ok, but: %s\n", c.Name, c.Why)
			default:
				fmt.Fprintf(&list, "[+]%s ok\n", c.Name)
			}
		}
		if status == http.StatusOK && !r.URL.Query().Has("verbose") {
			text(w, status, "ok\n")
			return
		}
		text(w, status, list.String()+verdict)
	}
}

func text(w http.ResponseWriter, status int, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, s) // who asked may have gone
}
