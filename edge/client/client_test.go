package client_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

// stranger serves whatever it is given; the hub's own answers are tested in
// package hub, over the same wire.
func stranger(t testing.TB, serve http.HandlerFunc) *client.Client {
	t.Helper()
	srv := httptest.NewServer(serve)
	c := client.New(srv.URL, "secret")
	t.Cleanup(func() { c.Close(); srv.Close() })
	return c
}

func wantCode(t testing.TB, what string, err error, want edge.Code) *edge.Error {
	t.Helper()
	e, ok := errors.AsType[*edge.Error](err)
	if !ok || e.Code != want || e.Message == "" {
		t.Fatalf("%s = %v (%T), want the code %s", what, err, err, want)
	}
	return e
}

func TestWhatIsNoHubIsNotTakenForOne(t *testing.T) {
	for name, serve := range map[string]http.HandlerFunc{
		"a page":            func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") },
		"a page of error":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) },
		"an error of other": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); io.WriteString(w, `{"error":"no"}`) },
		"an empty error":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); io.WriteString(w, `{"error":{}}`) },
		"a cut":             func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a cut in the middle": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{"functions":[`)
		},
	} {
		c := stranger(t, serve)
		_, err := c.Functions(t.Context())
		wantCode(t, name, err, edge.Unavailable)
		n := 0
		for _, err := range c.Logs(t.Context(), edge.Query{Last: -1}) {
			wantCode(t, name+" as a stream", err, edge.Unavailable)
			n++
		}
		if n != 1 {
			t.Errorf("%s as a stream: %d errors, want one", name, n)
		}
	}
}

func TestTheTokenIsNotTakenToAnotherPlace(t *testing.T) {
	var asked atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	c := stranger(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) })
	_, err := c.Functions(t.Context())
	wantCode(t, "Functions", err, edge.Unavailable)
	if asked.Load() != 0 {
		t.Error("the client followed a redirection")
	}
}

func TestAnAnswerWithoutEndIsNotReadToItsEnd(t *testing.T) {
	endless := func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"functions":"`)
		for text := strings.Repeat("x", 1<<16); ; {
			if _, err := io.WriteString(w, text); err != nil {
				return
			}
		}
	}
	c := stranger(t, endless)
	_, err := c.Functions(t.Context())
	wantCode(t, "Functions", err, edge.TooLarge)
	for _, err := range c.Logs(t.Context(), edge.Query{}) {
		wantCode(t, "Logs", err, edge.Unavailable)
	}
}

func TestWhatTheHubAddsIsPassedOver(t *testing.T) {
	c := stranger(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"version":"v9","new":{"field":1}}`)
	})
	if v, err := c.Version(t.Context()); err != nil || v.Version != "v9" {
		t.Errorf("Version = %+v, %v, want v9", v, err)
	}
}

// FuzzAnswer gives the client any answer: it returns, with nothing or with an
// error of the API.
func FuzzAnswer(f *testing.F) {
	var status atomic.Int64
	var body atomic.Value
	c := stranger(f, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(status.Load()))
		io.WriteString(w, body.Load().(string))
	})
	for _, text := range []string{
		"", "null", "{}", "[]", `{"functions":null}`, `{"functions":[{"name":1}]}`, `{"error":{"code":"invalid","message":"m","faults":[{"line":1}]}}`,
		"{}\n{}\n", "{}\n[]\n", `{"time":"yesterday"}`, "\x00", strings.Repeat("[", 20000),
	} {
		for _, s := range []uint16{200, 204, 302, 404, 500, 503} {
			f.Add(s, text)
		}
	}
	f.Fuzz(func(t *testing.T, s uint16, text string) {
		status.Store(200 + int64(s)%400)
		body.Store(text)
		_, err := c.Functions(t.Context())
		errs := []error{err}
		for _, err := range c.Events(t.Context(), edge.Query{}) {
			errs = append(errs, err)
		}
		for _, err := range errs {
			if e, ok := errors.AsType[*edge.Error](err); err != nil && (!ok || e.Code == "" || e.Message == "") {
				t.Errorf("%d %q: %v", 200+int64(s)%400, text, fmt.Sprintf("%#v", err))
			}
		}
	})
}
