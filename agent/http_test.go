package agent

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

const onRequest = "triggers: [{http: {path: /do, methods: [POST, GET]}}]\n"

// request asks the node's HTTP trigger.
func (n *node) request(method, path string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	n.t.Helper()
	r := httptest.NewRequestWithContext(n.t.Context(), method, path, body)
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	n.Trigger().ServeHTTP(w, r)
	return w
}

// returning is a handler that returns value and fails with code, where given.
func returning(value string, code functions.Code) handler {
	return func(functions.Invocation, functions.Run) functions.Outcome {
		var o functions.Outcome
		if value != "" {
			o.Returned = []byte(value)
		}
		if code != "" {
			o.Err = &functions.Failure{Code: code, Message: "because"}
		}
		return o
	}
}

func TestARequestIsAnsweredWithWhatTheHandlerReturned(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		tests := []struct {
			name   string
			h      handler
			status int
			body   string
		}{
			{"a value", returning(`{"a":1}`, ""), 200, `{"a":1}`},
			{"nothing", returning("", ""), 204, ""},
			{"a failure", returning("", functions.CodeThrown), 500, "function.error: because"},
			{"too slow", returning("", functions.CodeTimeout), 503, "function.timeout"},
			{"the runner died", returning("", functions.CodeDied), 500, "runner.died"},
		}
		for _, tt := range tests {
			n.deploy("do", onRequest+"env: {CASE: \""+tt.name+"\"}", tt.h)
			w := n.request("POST", "/do", strings.NewReader("x"))
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("%s: %d %s, want %d %s", tt.name, w.Code, w.Body, tt.status, tt.body)
			}
			pass(time.Minute) // restarts after a death are spaced
		}
		if c := n.status("do").Counts; c.Taken != int64(len(tests)) || c.Done != 2 || c.Discarded != 3 {
			t.Errorf("counts %+v, want two done and three discarded without a retry", c)
		}
	})
}

func TestRequestsThatNoFunctionTakesAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("do", onRequest, returning("1", ""))
		n.deploy("other", "triggers: [{http: {path: /do, methods: [PUT]}}]", returning("2", ""))
		tests := []struct {
			method, path string
			status       int
		}{
			{"POST", "/", 404}, {"POST", "/do/", 404}, {"POST", "/DO", 404}, {"POST", "/x/../do", 404}, {"POST", "//do", 404},
			{"POST", "/do%00", 404}, {"POST", "/d%6f", 200}, {"POST", "/do?x=/other", 200}, {"GET", "/do", 200}, {"PUT", "/do", 200},
			{"DELETE", "/do", 405}, {"OPTIONS", "/do", 405},
		}
		for _, tt := range tests {
			w := n.request(tt.method, tt.path, nil)
			if w.Code != tt.status {
				t.Errorf("%s %s: %d %s, want %d", tt.method, tt.path, w.Code, w.Body, tt.status)
			}
			if want := "GET, POST, PUT"; w.Code == 405 && w.Header().Get("Allow") != want {
				t.Errorf("Allow %q, want %q", w.Header().Get("Allow"), want)
			}
		}
		if got := n.request("PUT", "/do", nil).Body.String(); got != "2" {
			t.Errorf("PUT answered %s, want 2: of the function that takes it", got)
		}
		if w := n.request("POST", "/do", strings.NewReader(strings.Repeat("x", maxBody+1))); w.Code != 413 {
			t.Errorf("a body over the limit: %d, want 413", w.Code)
		}
		if w := n.request("POST", "/do", io.MultiReader(strings.NewReader("x"), brokenBody{})); w.Code != 408 {
			t.Errorf("a body that ends early: %d, want 408", w.Code)
		}
	})
}

type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestARequestThatPrefersToBeAnsweredLaterIsStoredFirstAndRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		var runs atomic.Int32
		n.deploy("do", onRequest+"delivery: {retry: {attempts: 50, backoff: 1s}}", func(functions.Invocation, functions.Run) functions.Outcome {
			runs.Add(1)
			return thrown("not yet")
		})
		w := n.request("POST", "/do", strings.NewReader("x"), "Prefer: wait=10, respond-async")
		if w.Code != http.StatusAccepted || len(n.stored()) != 1 {
			t.Errorf("%d with %d rows, want 202 with one", w.Code, len(n.stored()))
		}
		pass(10 * time.Second)
		if runs.Load() < 2 {
			t.Errorf("%d runs, want retries", runs.Load())
		}
		n.box.set("do", returning("", ""))
		n = n.restart()
		pass(time.Minute)
		if c := n.status("do").Counts; c.Recovered != 1 || c.Done != 1 {
			t.Errorf("counts %+v, want one recovered and done", c)
		}
		n.stop()
	})
}

func TestARequestWhoseClientIsGoneDoesNotRun(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		n.deploy("do", onRequest+"resources: {concurrency: 1, timeout: 10m}", func(functions.Invocation, functions.Run) functions.Outcome {
			<-release
			return functions.Outcome{}
		})
		go n.request("POST", "/do", nil) // ends with release
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w := httptest.NewRecorder()
		n.Trigger().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/do", nil))
		if w.Code != 408 {
			t.Errorf("%d, want 408", w.Code)
		}
		close(release)
		pass(time.Second)
		if c := n.status("do").Counts; c.Done != 1 || c.Filtered != 1 {
			t.Errorf("counts %+v, want one done, and the one whose client was gone not run", c)
		}
		if f := n.function("do"); len(f.lanes) > 0 {
			t.Errorf("%d lanes are left", len(f.lanes))
		}
	})
}

func TestRequestsThatWaitAreAnsweredWhenTheNodeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.deploy("do", onRequest+"resources: {concurrency: 1, timeout: 10m}", func(functions.Invocation, functions.Run) functions.Outcome {
			time.Sleep(time.Hour)
			return functions.Outcome{}
		})
		codes := make(chan int, 2)
		for range 2 {
			go func() { codes <- n.request("POST", "/do", nil).Code }() // both are received below
		}
		synctest.Wait()
		began := time.Now()
		n.stop()
		if first, second := <-codes, <-codes; first != 503 || second != 503 {
			t.Errorf("answered %d and %d, want 503", first, second)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the end took %v, want at most 10 s", took)
		}
		if w := n.request("POST", "/do", nil); w.Code != 503 {
			t.Errorf("after the end: %d, want 503", w.Code)
		}
		time.Sleep(time.Hour)
		n = startNode(t, n.dir, &bus{}, n.box)
		if rows := n.stored(); len(rows) > 0 {
			t.Errorf("stored %v, but nobody waits for it any more", rows)
		}
		n.stop()
	})
}

func TestWhatCannotRunNowSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("do", onRequest, returning("1", ""))
		code := func(name string) edge.Code {
			_, err := n.Invoke(t.Context(), name, edge.Invoke{})
			if e, ok := errors.AsType[*edge.Error](err); ok {
				return e.Code
			}
			return ""
		}
		if got := code("nobody"); got != edge.NotFound {
			t.Errorf("unknown: %q, want %q", got, edge.NotFound)
		}
		n.function("do").pause("reasons")
		if got := code("do"); got != edge.Unavailable {
			t.Errorf("paused: %q, want %q", got, edge.Unavailable)
		}
		def := n.function("do").def
		def.Enabled = false
		if err := n.Put(t.Context(), def.Definition); err != nil {
			t.Fatal(err)
		}
		if got := code("do"); got != edge.Unavailable {
			t.Errorf("disabled: %q, want %q", got, edge.Unavailable)
		}
		def.Enabled = true
		if err := n.Put(t.Context(), def.Definition); err != nil {
			t.Fatal(err)
		}
		if got := code("do"); got != "" {
			t.Errorf("enabled again: %q, want no error", got)
		}
	})
}

func TestInvokeTellsTheFailureAndCarriesOutNothingThen(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("do", onIn, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			o := publishes(inv, r)
			if string(inv.Event.Payload) == "bad" {
				o.Err = thrown("bad").Err
			}
			return o
		})
		good, err := n.Invoke(t.Context(), "do", edge.Invoke{Topic: "in/a", Payload: []byte("good")})
		if err != nil || good.Error != nil || len(good.Published) != 1 {
			t.Errorf("Invoke = %+v, %v; want one publish", good, err)
		}
		bad, err := n.Invoke(t.Context(), "do", edge.Invoke{Topic: "in/a", Payload: []byte("bad")})
		if err != nil || bad.Error == nil || bad.Error.Message != "bad" || len(bad.Published) > 0 {
			t.Errorf("Invoke = %+v, %v; want the failure", bad, err)
		}
		pass(time.Second)
		n.want("out/a=good")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n.box.refuse(errors.New("no runner just now"))
		n.box.die(functions.CodeDied)
		pass(time.Second)
		_, err = n.Invoke(ctx, "do", edge.Invoke{})
		if e, ok := errors.AsType[*edge.Error](err); !ok || e.Code != edge.Timeout {
			t.Errorf("Invoke = %v when nobody answers, want a timeout", err)
		}
	})
}

func TestAFunctionThatOnlyRequestsWakeRecoversFromAFailedStart(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.box.refuse(errors.New("no runner just now"))
		n.deploy("do", onRequest, returning("1", ""))
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		w := httptest.NewRecorder()
		n.Trigger().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", "/do", nil))
		if w := n.request("POST", "/do", nil); w.Code != 503 {
			t.Errorf("%d just after a failed start, want 503", w.Code)
		}
		n.box.refuse(nil)
		pass(10 * time.Second)
		if w := n.request("POST", "/do", nil); w.Code != 200 {
			t.Errorf("%d once it can be started, want 200", w.Code)
		}
	})
}
