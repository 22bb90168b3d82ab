package fleet_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/fleet"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/link"
	"github.com/sedge-iot/sedge/edge/selector"
	"github.com/sedge-iot/sedge/functions"
)

// patience is how long a test waits for what should come at once.
const patience = time.Minute

var ada = ledger.Who{By: "ada"}

// A hub is a fleet over a ledger, served on loopback, or over pipes in a bubble.
type hub struct {
	*fleet.Fleet
	t      *testing.T
	dir    string
	key    ed25519.PrivateKey
	ledger *ledger.Ledger
	ln     *listener
	end    func() // ends the hub and waits for it
}

// A listener makes connections without a network: with TCP on loopback, or with pipes.
type listener struct {
	net.Listener
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// loopback listens on the loopback.
func loopback(t *testing.T) *listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &listener{ln, func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	}}
}

// start starts a hub with a ledger in dir.
func start(t *testing.T, dir string, key ed25519.PrivateKey, ln *listener, with ...func(*fleet.Config)) *hub {
	t.Helper()
	l, err := ledger.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, dir, l, key, ln, with...)
}

// startOn starts a hub on an open ledger, which it closes.
func startOn(t *testing.T, dir string, l *ledger.Ledger, key ed25519.PrivateKey, ln *listener, with ...func(*fleet.Config)) *hub {
	t.Helper()
	cfg := fleet.Config{Ledger: l, Key: key, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	for _, w := range with {
		w(&cfg)
	}
	h := &hub{Fleet: fleet.New(cfg), t: t, dir: dir, key: key, ledger: l, ln: ln}
	ctx, stop := context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.Handle(link.Path, h.Fleet)
	mux.HandleFunc(fleet.PeerPath, h.ServePeer)
	srv := &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.Run(ctx); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	running.Go(func() { srv.Serve(ln) })
	h.end = sync.OnceFunc(func() {
		stop()
		srv.Close()
		running.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(h.end)
	h.until("the hub lets nodes in", func() bool { return h.Check().OK })
	return h
}

func newHub(t *testing.T, with ...func(*fleet.Config)) *hub {
	t.Helper()
	return start(t, t.TempDir(), newKey(t), loopback(t), with...)
}

// restarted ends the hub and starts it again from the same ledger.
func (h *hub) restarted() *hub {
	h.t.Helper()
	h.end()
	return start(h.t, h.dir, h.key, loopback(h.t))
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// token makes a join token.
func (h *hub) token(with edge.Token) *edge.Join {
	h.t.Helper()
	with.ID, with.Expires, with.Uses = rand.Text(), time.Now().Add(time.Hour), max(with.Uses, 1)
	secret := []byte(rand.Text())
	if err := h.ledger.MakeToken(with, sha256.Sum256(secret), ada); err != nil {
		h.t.Fatal(err)
	}
	return &edge.Join{Token: with.ID, Secret: secret}
}

// function returns a function of that name; code makes it another revision, and nodes is
// where it is placed.
func function(t *testing.T, name, code string, nodes map[string]string) functions.Function {
	t.Helper()
	text := fmt.Sprintf("apiVersion: sedge.dev/v1\nkind: Function\nmetadata: {name: %s}\nspec:\n  runtime: javascript\n  source: {path: index.js}\n  triggers: [{mqtt: {topic: a/b}}]\n", name)
	if len(nodes) > 0 {
		text += "  placement: {nodes: {"
		for _, key := range slices.Sorted(maps.Keys(nodes)) {
			text += fmt.Sprintf("%q: %q, ", key, nodes[key])
		}
		text = strings.TrimSuffix(text, ", ") + "}}\n"
	}
	m, err := functions.Parse("", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	f, err := functions.New(m, code)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// deploy deploys a function everywhere, unless in says otherwise.
func (h *hub) deploy(f functions.Function, in ...ledger.Intent) ledger.Result {
	h.t.Helper()
	intent := ledger.Intent{By: "ada", Confirmed: true}
	if len(in) > 0 {
		intent = in[0]
	}
	r, err := h.ledger.Deploy(f, intent)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// until waits until the hub sees that ok holds.
func (h *hub) until(what string, ok func() bool) {
	h.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	if err := h.Until(ctx, ok); err != nil {
		h.t.Fatalf("never happened: %s", what)
	}
}

// inStep waits until a machine has what it is to have as of a position, and fails if it has not.
func (h *hub) inStep(m *machine, at edge.Position) {
	h.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	if err := h.WaitAt(ctx, m.id(), at); err != nil {
		h.t.Fatalf("%s is not in step: %v", m.name, err)
	}
}

// node returns a node as the hub knows it.
func (h *hub) node(name string) edge.NodeDetail {
	h.t.Helper()
	d, err := h.Node(name)
	if err != nil {
		h.t.Fatal(err)
	}
	return d
}

// audited returns the details of the audit's entries of an action, newest first.
func (h *hub) audited(action string) (details []string) {
	h.t.Helper()
	list, err := h.ledger.Audit(context.Background(), ledger.AuditQuery{Limit: 1000})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range list {
		if e.Action == action {
			details = append(details, e.Detail)
		}
	}
	return details
}

// A machine is a node without an agent: a real link, a real replica, functions in a map.
type machine struct {
	t       *testing.T
	name    string
	key     ed25519.PrivateKey
	labels  map[string]string
	join    *edge.Join
	counter int64
	answer  func(c *edge.Call, say func(edge.Message)) // or nil

	mu      sync.Mutex
	replica *edge.Replica                 // guarded by mu, as all below
	has     map[string]functions.Revision // what it runs
	said    []edge.Message                // by the hub
	conn    *link.Conn
	stir    chan struct{}
}

func newMachine(t *testing.T, name string, labels map[string]string) *machine {
	t.Helper()
	return &machine{
		t: t, name: name, key: newKey(t), labels: labels, replica: edge.NewReplica(edge.Synced{}, edge.Policy{}),
		has: map[string]functions.Revision{}, stir: make(chan struct{}),
	}
}

func (m *machine) id() string { return edge.NodeID(m.key.Public().(ed25519.PublicKey)) }

// dial makes a session.
func (m *machine) dial(h *hub) (*link.Conn, edge.Verdict, error) {
	m.counter++
	d := link.Dialer{URL: "ws://127.0.0.1:1" + link.Path, Hub: h.key.Public().(ed25519.PublicKey), Key: m.key, Net: h.ln.dial}
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	proof := edge.Proof{Counter: m.counter, Name: m.name, Version: "v1", Platform: "linux/arm/6", Labels: m.labels, Join: m.join}
	conn, reply, err := d.Dial(ctx, link.Clock{Now: time.Now()}, proof)
	return conn, reply.Verdict, err
}

// A stay is a session of a machine.
type stay struct {
	conn *link.Conn
	done chan struct{} // closed at its end
	err  error         // why it ended
}

// connect makes a session and keeps to it until it ends, at the latest with the test.
func (m *machine) connect(h *hub) *stay {
	m.t.Helper()
	conn, _, err := m.dial(h)
	if err != nil {
		m.t.Fatal(err)
	}
	s := m.stay(conn)
	h.until(m.name+" is connected", func() bool {
		d, err := h.Node(m.id())
		return err == nil && d.Connected && d.Counter == m.counter && d.Standing == edge.Member
	})
	return s
}

func (m *machine) stay(conn *link.Conn) *stay {
	s := &stay{conn: conn, done: make(chan struct{})}
	m.mu.Lock()
	m.conn = conn
	m.say(m.replica.Begin()...)
	m.mu.Unlock()
	go func() { // the cleanup waits
		defer close(s.done)
		s.err = conn.Serve(context.Background(), m.heard)
	}()
	m.t.Cleanup(s.leave)
	return s
}

// leave ends the session and waits for that.
func (s *stay) leave() {
	s.conn.Close("bye")
	<-s.done
}

// ended waits until the hub has ended the session, and returns how.
func (s *stay) ended(t *testing.T) string {
	t.Helper()
	select {
	case <-s.done:
	case <-time.After(patience):
		t.Fatal("the session goes on")
	}
	if left, ok := errors.AsType[*link.Left](s.err); ok {
		return left.Reason
	}
	return fmt.Sprint(s.err)
}

// heard does what the hub says.
func (m *machine) heard(data []byte) error {
	msg, err := edge.Decode(data)
	if err != nil {
		return err
	}
	if c, ok := msg.(*edge.Call); ok && m.answer != nil {
		m.answer(c, func(a edge.Message) { m.say(a) })
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, msg)
	m.do(m.replica.Step(msg))
	close(m.stir)
	m.stir = make(chan struct{})
	return nil
}

func (m *machine) do(out edge.Output) {
	m.say(out.Send...)
	if out.Apply == nil {
		return
	}
	for _, d := range out.Apply.Put {
		m.has[d.Function.Name()] = d.Function.Revision
	}
	for _, r := range out.Apply.Remove {
		delete(m.has, r.Name)
	}
	m.say(m.replica.Applied(edge.Result{})...)
}

func (m *machine) say(messages ...edge.Message) {
	for _, msg := range messages {
		data, err := edge.Encode(msg)
		if err != nil {
			m.t.Error(err)
		}
		m.conn.Send(data) // if that fails the session has ended, which somebody looks at
	}
}

// tell says something to the hub.
func (m *machine) tell(msg edge.Message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.say(msg)
}

// until waits until ok, which is called with mu held, holds.
func (m *machine) until(what string, ok func() bool) {
	m.t.Helper()
	deadline := time.After(patience)
	for {
		m.mu.Lock()
		held, stir := ok(), m.stir
		m.mu.Unlock()
		if held {
			return
		}
		select {
		case <-stir:
		case <-deadline:
			m.t.Fatalf("%s: never happened: %s", m.name, what)
		}
	}
}

// runs checks what the machine runs.
func (m *machine) runs(want ...functions.Function) {
	m.t.Helper()
	revisions := map[string]functions.Revision{}
	for _, f := range want {
		revisions[f.Name()] = f.Revision
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !maps.Equal(m.has, revisions) {
		m.t.Errorf("%s runs %v, want %v", m.name, m.has, revisions)
	}
}

// kinds counts what the hub has said.
func (m *machine) kinds() map[edge.Kind]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := map[edge.Kind]int{}
	for _, msg := range m.said {
		n[msg.Kind()]++
	}
	return n
}

// joined returns a machine that has joined and is connected.
func (h *hub) joined(name string, labels map[string]string) (*machine, *stay) {
	h.t.Helper()
	m := newMachine(h.t, name, labels)
	m.join = h.token(edge.Token{})
	return m, m.connect(h)
}

// position returns how far the ledger is.
func (h *hub) position() edge.Position {
	h.t.Helper()
	at, err := h.ledger.Position(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	return at
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

var all selector.Selector
