package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

// start starts a node as cfg has it, in the data directory dir. All bubbles are
// one boot of a machine that was started an hour before.
func start(t *testing.T, dir string, box *sandbox, cfg Config) *node {
	t.Helper()
	return startBy(t, store.Clock{
		Boot: "this", Since: func() time.Duration { return time.Hour + time.Since(bubbleBegan) }, Wall: time.Now,
	}, dir, box, cfg)
}

// startBy is start by another clock.
func startBy(t *testing.T, clock store.Clock, dir string, box *sandbox, cfg Config) *node {
	t.Helper()
	lg := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	st, err := store.OpenBy(clock, dir, lg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Node, cfg.Store, cfg.Logger = "test", st, lg
	cfg.Sandboxes = map[string]functions.Sandbox{"process": box}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
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

// pass lets time pass and everything come to rest.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// want fails unless exactly this was published, in this order.
func (n *node) want(published ...string) {
	n.t.Helper()
	if got := n.bus.published(); !slices.Equal(got, published) {
		n.t.Errorf("published %q, want %q", got, published)
	}
}
