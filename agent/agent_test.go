package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A node is an agent in a bubble of fake time, with a real store, a bus in
// memory, and functions written in Go.
type node struct {
	*Agent
	t    *testing.T
	dir  string
	bus  *bus
	box  *sandbox
	stop func() // ends the agent as an operator would
}

// newNode starts a node in an empty data directory.
func newNode(t *testing.T) *node {
	return startNode(t, t.TempDir(), &bus{}, newSandbox())
}

func newSandbox() *sandbox { return &sandbox{handlers: map[string]handler{}} }

func startNode(t *testing.T, dir string, b *bus, box *sandbox) *node {
	t.Helper()
	n := start(t, dir, box, Config{Bus: b})
	n.bus = b
	return n
}

// start starts a node as cfg has it, in the data directory dir.
func start(t *testing.T, dir string, box *sandbox, cfg Config) *node {
	t.Helper()
	lg := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	st, err := store.Open(dir, lg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Node, cfg.Store, cfg.Logger = "test", st, lg
	cfg.Sandboxes = map[string]functions.Sandbox{"process": box}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.timers.since = func() time.Duration { return time.Hour + time.Since(bubbleBegan) }
	a.timers.born = a.timers.since()
	for _, timer := range a.timers.queue {
		timer.due = a.timers.dueOnOurClock(timer.Timer)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }() // awaited by stop
	n := &node{Agent: a, t: t, dir: dir, box: box}
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		for _, f := range a.Functions() {
			if lost := f.Counts.Lost(); lost != 0 {
				t.Errorf("%s: the books do not balance by %d: %+v", f.Name, lost, f.Counts)
			}
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(n.stop)
	synctest.Wait()
	return n
}

// bubbleBegan is the time at which every bubble's clock begins.
var bubbleBegan = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// restart ends the node and starts another in its data directory, after the
// bus has lost its connection.
func (n *node) restart() *node {
	n.t.Helper()
	n.stop()
	return startNode(n.t, n.dir, &bus{}, n.box)
}

// copyDir returns a copy of what the disk holds in this moment, which is what a
// node finds after a crash.
func (n *node) copyDir() string {
	n.t.Helper()
	synctest.Wait()
	dir := n.t.TempDir()
	for _, name := range []string{"node.db", "node.db-wal"} {
		data, err := os.ReadFile(filepath.Join(n.dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			n.t.Fatal(err)
		}
	}
	return dir
}

// deploy defines a function by its manifest's spec, less what every one needs.
func (n *node) deploy(name, spec string, h handler) {
	n.t.Helper()
	if err := n.tryDeploy(name, spec, h); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) tryDeploy(name, spec string, h handler) error {
	n.t.Helper()
	n.box.set(name, h)
	yaml := fmt.Sprintf("apiVersion: sedge.dev/v1\nkind: Function\nmetadata: {name: %s}\nspec:\n  runtime: javascript\n  source: {inline: \"x\"}\n%s",
		name, indent(spec))
	m, err := functions.Parse("function.yaml", []byte(yaml))
	if err != nil {
		return err
	}
	fn, err := functions.New(m, "x")
	if err != nil {
		return err
	}
	return n.Put(n.t.Context(), edge.Definition{Function: fn, Enabled: true})
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ") + "\n"
}

// status returns how a function is.
func (n *node) status(name string) edge.FunctionStatus {
	n.t.Helper()
	for _, f := range n.Functions() {
		if f.Name == name {
			return f
		}
	}
	n.t.Fatalf("no function %s", name)
	return edge.FunctionStatus{}
}

// stored returns what a restart would find in the inbox.
func (n *node) stored() []store.Delivery {
	n.t.Helper()
	r, err := n.Store.Recover()
	if err != nil {
		n.t.Fatal(err)
	}
	return r.Inbox
}

// bubble runs a test with a fresh node in fake time.
func bubble(t *testing.T, do func(t *testing.T, n *node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		do(t, n)
		n.stop()
	})
}

// A bus is a broker in memory. It confirms what is published, unless told to lose it.
type bus struct {
	mu       sync.Mutex
	hear     func(devices.Message)
	filters  []string
	sent     []string // topic=payload, in order, all attempts
	lose     int      // so many publishes to come are lost
	silent   []func(error)
	isSilent bool // publishes are taken and not confirmed
	isAway   bool // there is no connection: publishes are not taken
	paused   bool
	packetID uint16
}

func (b *bus) Run(ctx context.Context, hear func(devices.Message)) error {
	b.mu.Lock()
	b.hear = hear
	b.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (b *bus) Subscribe(filters []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.filters = filters
}

func (b *bus) Publish(p devices.Publication, done func(error)) {
	b.mu.Lock()
	if b.isAway {
		b.mu.Unlock()
		done(errors.New("no connection"))
		return
	}
	b.sent = append(b.sent, p.Topic+"="+string(p.Payload))
	switch {
	case b.lose > 0:
		b.lose--
		b.mu.Unlock()
		done(devices.ErrLost)
	case b.isSilent:
		b.silent = append(b.silent, done)
		b.mu.Unlock()
	default:
		b.mu.Unlock()
		done(nil)
	}
}

func (b *bus) setAway(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.isAway = away
}

func (b *bus) setSilent(silent bool) {
	b.mu.Lock()
	b.isSilent = silent
	waiting := b.silent
	b.silent = nil
	b.mu.Unlock()
	for _, done := range waiting {
		done(nil)
	}
}

func (b *bus) Pause()  { b.mu.Lock(); b.paused = true; b.mu.Unlock() }
func (b *bus) Resume() { b.mu.Lock(); b.paused = false; b.mu.Unlock() }

func (b *bus) isPaused() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.paused
}

func (b *bus) published() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sent)
}

// spoken is a message that counts how often it was acknowledged.
type spoken struct {
	devices.Message
	acks atomic.Int32
}

func (p *spoken) Ack()        { p.acks.Add(1) }
func (p *spoken) acked() bool { return p.acks.Load() > 0 }

// say lets the bus hear a message at QoS 1.
func (b *bus) say(topic, payload string) *spoken {
	p := b.saying(topic, payload)
	b.hear(p.Message)
	return p
}

// saying returns such a message, not heard yet.
func (b *bus) saying(topic, payload string) *spoken {
	b.packetID++
	p := &spoken{Message: devices.Message{
		Topic: topic, Payload: []byte(payload), QoS: 1, PacketID: b.packetID, Session: "s", Time: time.Now(),
	}}
	p.Message.Ack = p
	return p
}

// repeat lets the bus hear a message again, as after a lost connection.
func (b *bus) repeat(p *spoken) *spoken {
	q := &spoken{Message: p.Message}
	q.Dup = true
	q.Message.Ack = q
	b.hear(q.Message)
	return q
}

// A handler is a function in Go.
type handler func(inv functions.Invocation, r functions.Run) functions.Outcome

// A sandbox runs handlers in this process.
type sandbox struct {
	mu       sync.Mutex
	handlers map[string]handler
	starts   int
	fail     error // what Start returns, or nil
	live     []*instance
}

func (s *sandbox) set(name string, h handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[name] = h
}

// refuse makes every start fail with err.
func (s *sandbox) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *sandbox) Start(_ context.Context, f functions.Function) (functions.Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	s.starts++
	i := &instance{handle: s.handlers[f.Name()], ended: make(chan struct{})}
	s.live = append(s.live, i)
	return i, nil
}

// die ends the runners, as if each had been killed.
func (s *sandbox) die(code functions.Code) {
	s.mu.Lock()
	live := s.live
	s.live = nil
	s.mu.Unlock()
	for _, i := range live {
		i.end(code)
	}
}

type instance struct {
	handle handler
	mu     sync.Mutex
	runs   map[functions.Run]bool
	ended  chan struct{}
	over   bool
}

func (i *instance) Invoke(inv functions.Invocation, r functions.Run) {
	i.mu.Lock()
	if i.over {
		i.mu.Unlock()
		go r.Done(functions.Outcome{Err: &functions.Failure{Code: functions.CodeDied, Message: "runner is gone"}})
		return
	}
	if i.runs == nil {
		i.runs = map[functions.Run]bool{}
	}
	i.runs[r] = true
	i.mu.Unlock()
	go func() {
		o := i.handle(inv, r)
		i.mu.Lock()
		mine := i.runs[r]
		delete(i.runs, r)
		i.mu.Unlock()
		if mine {
			r.Done(o)
		}
	}()
}

func (i *instance) end(code functions.Code) {
	i.mu.Lock()
	if i.over {
		i.mu.Unlock()
		return
	}
	i.over = true
	runs := i.runs
	i.runs = nil
	i.mu.Unlock()
	for r := range runs {
		r.Done(functions.Outcome{Err: &functions.Failure{Code: code, Message: string(code)}})
	}
	close(i.ended)
}

func (i *instance) Ended() <-chan struct{}          { return i.ended }
func (i *instance) Close() error                    { i.end(functions.CodeClosed); return nil }
func (i *instance) Describe() functions.Description { return functions.Description{Sandbox: "test"} }

// publishes is a handler that answers on out/DEVICE with the payload.
func publishes(inv functions.Invocation, _ functions.Run) functions.Outcome {
	return functions.Outcome{Effects: functions.Effects{Publish: []devices.Publication{{
		Topic: "out/" + inv.Event.Capture("device"), Payload: inv.Event.Payload, QoS: 1,
	}}}}
}

func thrown(text string) functions.Outcome {
	return functions.Outcome{Err: &functions.Failure{Code: functions.CodeThrown, Message: text}}
}

const onIn = `
triggers: [{mqtt: {topic: "in/{device}"}}]
permissions: {publish: ["out/#"]}
`
