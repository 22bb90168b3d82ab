package sandboxtest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// patience is how long a test waits for what must come, on however slow a machine.
const patience = time.Minute

// A host is the agent of one attempt: a functions.Run that remembers.
type host struct {
	mu        sync.Mutex
	state     map[string]string // JSON by key; guarded by mu
	peeked    []string          // guarded by mu
	published []devices.Publication
	logs      []string // "level text"; guarded by mu
	dones     int      // guarded by mu
	refuse    error    // what Publish returns; guarded by mu

	done chan functions.Outcome
}

func newHost() *host {
	return &host{state: map[string]string{}, done: make(chan functions.Outcome, 1)}
}

func (h *host) Get(key string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if v, ok := h.state[key]; ok {
		return []byte(v), nil
	}
	return nil, nil
}

func (h *host) Peek(key string) ([]byte, error) {
	h.mu.Lock()
	h.peeked = append(h.peeked, key)
	h.mu.Unlock()
	return h.Get(key)
}

func (h *host) Publish(p devices.Publication) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.published = append(h.published, p)
	return h.refuse
}

func (h *host) refuseWith(err error) {
	h.mu.Lock()
	h.refuse = err
	h.mu.Unlock()
}

func (h *host) Log(level functions.Level, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.logs = append(h.logs, string(level)+" "+text)
}

func (h *host) Done(o functions.Outcome) {
	h.mu.Lock()
	h.dones++
	h.mu.Unlock()
	h.done <- o // cap 1: a second one would block for ever, and be seen
}

func (h *host) lines() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.logs)
}

// outcome waits for the outcome.
func (h *host) outcome(t *testing.T) functions.Outcome {
	t.Helper()
	select {
	case o := <-h.done:
		return o
	case <-time.After(patience):
		t.Fatal("no outcome came")
		return functions.Outcome{}
	}
}

// function returns a JavaScript function, with room for concurrency 4 and time
// enough unless edited.
func function(t *testing.T, code string, edits ...func(*functions.Spec)) functions.Function {
	t.Helper()
	m := functions.Manifest{
		APIVersion: functions.APIVersion,
		Kind:       "Function",
		Metadata:   functions.Metadata{Name: "tested"},
		Spec: functions.Spec{
			Runtime:   "javascript",
			Source:    functions.Source{Path: "index.js"},
			Triggers:  []functions.Trigger{{MQTT: &functions.MQTTTrigger{Topic: "test/{device}"}}},
			Resources: functions.Resources{Memory: 64 << 20, Timeout: functions.Duration(patience), Concurrency: 4},
		},
	}
	for _, edit := range edits {
		edit(&m.Spec)
	}
	f, err := functions.New(m, code)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// handler wraps the body of a handler.
func handler(body string) string {
	return "export default function (event, sedge) {\n" + body + "\n}\n"
}

func timeout(d time.Duration) func(*functions.Spec) {
	return func(s *functions.Spec) { s.Resources.Timeout = functions.Duration(d) }
}

// briefly is the timeout of runs that are to exceed it.
const briefly = 300 * time.Millisecond

// timeFor returns the timeout of a run that is to end as want says.
func timeFor(want string) time.Duration {
	if strings.HasPrefix(want, string(functions.CodeTimeout)) {
		return briefly
	}
	return patience
}

// start starts a function that is closed when the test ends.
func start(t *testing.T, s functions.Sandbox, f functions.Function) functions.Instance {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	i, err := s.Start(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

// invocation returns an invocation of f with a payload.
func invocation(f functions.Function, payload string) functions.Invocation {
	return functions.Invocation{
		ID:      "inv-1",
		Attempt: 1,
		Timeout: time.Duration(f.Manifest.Spec.Resources.Timeout),
		Event: devices.Event{
			ID: "ev-1", Source: devices.MQTT, Topic: "test/lamp", Payload: []byte(payload), QoS: 1,
			Time:     time.Date(2026, 11, 23, 7, 0, 0, 5_000_000, time.UTC),
			Captures: []devices.Capture{{Name: "device", Value: "lamp"}},
		},
	}
}

// run runs code once and returns its outcome.
func run(t *testing.T, s functions.Sandbox, code, payload string) (functions.Outcome, *host) {
	t.Helper()
	f := function(t, code)
	h := newHost()
	start(t, s, f).Invoke(invocation(f, payload), h)
	return h.outcome(t), h
}

// succeed is run for code that must not fail.
func succeed(t *testing.T, s functions.Sandbox, code, payload string) (functions.Outcome, *host) {
	t.Helper()
	o, h := run(t, s, code, payload)
	if o.Err != nil {
		t.Fatalf("failed: %s\n%s", o.Err.Message, o.Err.Stack)
	}
	return o, h
}

// again runs one more invocation on i and checks what it returns.
func again(t *testing.T, i functions.Instance, f functions.Function, payload, want string) {
	t.Helper()
	h := newHost()
	i.Invoke(invocation(f, payload), h)
	o := h.outcome(t)
	if o.Err != nil {
		t.Fatalf("failed: %v\n%s", o.Err, o.Err.Stack)
	}
	if got := string(o.Returned); got != want {
		t.Errorf("returned %s, want %s", got, want)
	}
}

func describe(o functions.Outcome) string {
	if o.Err != nil {
		return fmt.Sprintf("%s: %s", o.Err.Code, o.Err.Message)
	}
	return string(o.Returned)
}
