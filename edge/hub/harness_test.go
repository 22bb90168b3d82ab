package hub_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/edge/fleet"
	"github.com/sedge-iot/sedge/edge/hub"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/link"
	"github.com/sedge-iot/sedge/edge/member"
	"github.com/sedge-iot/sedge/functions"
)

const token = "the-token-of-these-tests"

// A house is a hub that serves on loopback, with a fleet, and with a client. The node is
// the first one of the fleet, called here.
type house struct {
	*node
	here   *machine // with the node; nil until the hub is open
	hub    *hub.Hub
	fleet  *fleet.Fleet
	ledger *ledger.Ledger
	key    ed25519.PrivateKey
	logs   *journal
	client *client.Client // of the owner
	url    string
	addr   string
	end    func() error // ends Serve and returns what it returned
}

// A journal is a log that can be read.
type journal struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func build(t testing.TB, n *node, dir string, with ...func(*hub.Config)) *house {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return rebuild(t, n, dir, key, with...)
}

// rebuild builds a hub that has that key, on what may be in dir.
func rebuild(t testing.TB, n *node, dir string, key ed25519.PrivateKey, with ...func(*hub.Config)) *house {
	t.Helper()
	l, err := ledger.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	logs := &journal{}
	lg := slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), logs), nil))
	f := fleet.New(fleet.Config{Ledger: l, Key: key, Logger: lg})
	cfg := hub.Config{
		Ledger: l, Fleet: f, Name: "here", Version: "v1.2.3", Token: token, Checks: n.Checks, Logger: lg,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "sedge_up 1\n")
		}),
	}
	for _, w := range with {
		w(&cfg)
	}
	h, err := hub.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &house{node: n, hub: h, fleet: f, ledger: l, key: key, logs: logs}
}

// listen serves the hub until the test ends, without a node.
func (h *house) listen(t testing.TB) *house {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = ln.Addr().String()
	h.url = "http://" + h.addr
	h.on(t, ln)
	h.client = h.as(t, token)
	h.client.User = "ada"
	return h
}

// on serves the hub on ln until the test ends, and its fleet somewhat longer.
func (h *house) on(t testing.TB, ln net.Listener) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	living, last := context.WithCancel(context.Background())
	served, lived := make(chan error, 1), make(chan error, 1)
	go func() { served <- h.hub.Serve(ctx, ln) }() // awaited by end
	go func() { lived <- h.fleet.Run(living) }()   // awaited by the cleanup
	h.end = sync.OnceValue(func() error { stop(); return <-served })
	t.Cleanup(func() {
		last() // so that nothing is under way when the hub ends
		if err := errors.Join(<-lived, h.end()); err != nil {
			t.Errorf("Serve and Run = %v, want nil", err)
		}
	})
	until(t, "nodes are let in", func() bool { return h.fleet.Check().Why != "nodes are not let in yet" })
}

// as returns a client that has the token.
func (h *house) as(t testing.TB, token string) *client.Client {
	c := client.New(h.url, token)
	t.Cleanup(c.Close)
	return c
}

// open serves the hub until the test ends, with its node connected.
func (h *house) open(t testing.TB) *house {
	t.Helper()
	h.listen(t)
	h.here = h.settle(t, "here", nil, h.node)
	return h
}

func serve(t testing.TB) *house {
	t.Helper()
	return build(t, newNode(), t.TempDir()).open(t)
}

// A machine is a node of the fleet: a member on a real link, with an agent that keeps
// everything in maps.
type machine struct {
	*node
	name string
	id   string
	home string
	end  func() // ends the member and waits for it
}

// settle makes the node one of the fleet and connects it.
func (h *house) settle(t testing.TB, name string, labels map[string]string, n *node) *machine {
	t.Helper()
	m := &machine{node: n, name: name, home: t.TempDir(), end: func() {}}
	secret := []byte(rand.Text())
	k := edge.Token{ID: "for-" + name, Labels: labels, Uses: 1, Expires: time.Now().Add(time.Hour)}
	if err := h.ledger.MakeToken(k, sha256.Sum256(secret), ledger.Who{By: "test"}); err != nil {
		t.Fatal(err)
	}
	of := member.Hub{URL: "ws://" + h.addr + link.Path, Key: h.key.Public().(ed25519.PublicKey), Name: name}
	err := member.Belong(m.home, of, func(key ed25519.PublicKey) error {
		is, err := h.ledger.Join(edge.Proof{Key: key, Name: name, Join: &edge.Join{Token: k.ID, Secret: secret}}, "")
		m.id = is.ID
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	m.connect(t, h)
	return m
}

// connect lets the node connect to the hub of its home and waits until it has all.
func (m *machine) connect(t testing.TB, h *house) {
	t.Helper()
	m.start(t)
	until(t, m.name+" is in step", func() bool {
		at, err := h.ledger.Position(t.Context())
		return err == nil && h.fleet.WaitAt(t.Context(), m.id, at) == nil
	})
}

// start lets the node dial until end, or until the test ends.
func (m *machine) start(t testing.TB) {
	t.Helper()
	home, err := member.OpenHome(m.home)
	if err != nil {
		t.Fatal(err)
	}
	lg := slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", m.name)
	is, err := member.New(member.Config{Home: home, Agent: m.node, Version: "v1.2.3", Checks: m.Checks, Logger: lg})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- is.Run(ctx) }() // awaited by end
	m.end = sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("node %s: %v", m.name, err)
		}
	})
	t.Cleanup(m.end)
}

// leave ends the member and waits until the hub has noticed.
func (m *machine) leave(t testing.TB, h *house) {
	t.Helper()
	m.end()
	until(t, m.name+" is away", func() bool {
		d, err := h.fleet.Node(m.id)
		return err == nil && !d.Connected
	})
}

// until polls for what another goroutine brings about.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

const manifest = `apiVersion: sedge.dev/v1
kind: Function
metadata: {name: NAME}
spec:
  runtime: javascript
  source: {path: index.js}
  triggers:
  - mqtt: {topic: "a/{device}"}
`

func function(t testing.TB, name, code string) functions.Function {
	t.Helper()
	m, err := functions.Parse("function.yaml", []byte(strings.Replace(manifest, "NAME", name, 1)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := functions.New(m, code)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (h *house) deploy(t testing.TB, name, code string) edge.Change {
	t.Helper()
	c, err := h.client.Deploy(t.Context(), function(t, name, code), client.DeployOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantCode fails unless err is the API's error of that kind.
func wantCode(t testing.TB, what string, err error, want edge.Code) *edge.Error {
	t.Helper()
	e, ok := errors.AsType[*edge.Error](err)
	if !ok || e.Code != want {
		t.Fatalf("%s = %v (%T), want the code %s", what, err, err, want)
	}
	return e
}
