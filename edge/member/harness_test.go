package member_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/agent"
	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/link"
	"github.com/sedge-iot/sedge/edge/member"
	"github.com/sedge-iot/sedge/functions"
)

// A hub is the hub's side of links, over pipes: what every node is to run, and what
// nodes have said.
type hub struct {
	t    *testing.T
	key  ed25519.PrivateKey
	gate *link.Gate
	pipes
	bytes atomic.Int64 // that went over the pipes, both ways

	mu      sync.Mutex
	want    *edge.Set      // guarded by mu, as is all below
	conns   map[*line]bool // sessions
	verdict edge.Verdict   // on who comes
	proofs  []edge.Proof   // of who came
	fetched []edge.Fetch   // asked for
	ats     []edge.At      // said
	refused []edge.Refusal // said
	reports []edge.Report  // said
	answers []edge.Answer  // said
	cutAt   int            // offset of a chunk at which the link breaks, once; 0: none
	bundles map[functions.Revision][]byte

	programs    map[string][]byte   // by digest
	pieces      []edge.UpgradeFetch // asked for
	programCut  int64               // offset of a piece at which the link breaks, once; 0: none
	programLost int64               // offset of a piece that is lost, once; 0: none
}

// pipes is a listener whose connections are made by dial.
type pipes struct {
	came   chan net.Conn
	closed chan struct{}
	down   *atomic.Bool // nobody gets through
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.came:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// A counted connection counts what it carries.
type counted struct {
	net.Conn
	bytes *atomic.Int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (h *hub) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if h.down.Load() {
		return nil, errors.New("network is unreachable")
	}
	ours, theirs := net.Pipe()
	select {
	case h.came <- theirs:
		return counted{ours, &h.bytes}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// A line is one session at the hub.
type line struct {
	conn *link.Conn
	feed *edge.Feed
}

func newHub(t *testing.T) *hub {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{
		t: t, key: key, conns: map[*line]bool{}, bundles: map[functions.Revision][]byte{},
		verdict: edge.Verdict{Admitted: true, ID: "id", Name: "hall"},
		pipes:   pipes{make(chan net.Conn), make(chan struct{}), new(atomic.Bool)},
	}
	h.gate = &link.Gate{Key: key, Admit: func(_ context.Context, p edge.Proof, _ string) edge.Verdict {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.proofs = append(h.proofs, p)
		return h.verdict
	}}
	ctx, stop := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, _, err := h.gate.Accept(w, r); err == nil {
			parts.Go(func() { h.serve(ctx, conn) })
		}
	}), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	parts.Go(func() { srv.Serve(h.pipes) })
	parts.Go(func() { h.beat(ctx) })
	t.Cleanup(func() { stop(); srv.Close(); parts.Wait() })
	return h
}

func (h *hub) serve(ctx context.Context, conn *link.Conn) {
	h.mu.Lock()
	l := &line{conn, edge.NewFeed(h.want)}
	h.conns[l] = true
	h.mu.Unlock()
	conn.Serve(ctx, func(data []byte) error {
		m, err := edge.Decode(data)
		if err != nil {
			h.t.Error(err)
			return err
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.hearLocked(l, m)
		return nil
	})
	h.mu.Lock()
	delete(h.conns, l)
	h.mu.Unlock()
}

func (h *hub) hearLocked(l *line, m edge.Message) {
	l.say(l.feed.Heard(m)...)
	switch m := m.(type) {
	case *edge.At:
		h.ats = append(h.ats, *m)
	case *edge.Refusal:
		h.refused = append(h.refused, *m)
	case *edge.Report:
		h.reports = append(h.reports, *m)
	case *edge.Answer:
		h.answers = append(h.answers, *m)
	case *edge.Fetch:
		h.fetched = append(h.fetched, *m)
		if h.cutAt > 0 && m.Offset >= h.cutAt {
			h.cutAt = 0
			l.conn.Close("cut")
			return
		}
		l.say(edge.Cut(h.bundles[m.Revision], *m))
	case *edge.UpgradeFetch:
		h.pieceLocked(l, m)
	}
}

// pieceLocked answers as a hub does.
func (h *hub) pieceLocked(l *line, m *edge.UpgradeFetch) {
	h.pieces = append(h.pieces, *m)
	switch {
	case h.programCut > 0 && m.Offset >= h.programCut:
		h.programCut = 0
		l.conn.Close("cut")
		return
	case h.programLost > 0 && m.Offset >= h.programLost:
		h.programLost = 0
		return
	}
	chunk := &edge.UpgradeChunk{Digest: m.Digest, Offset: m.Offset}
	if program := h.programs[m.Digest]; m.Offset < int64(len(program)) {
		next := (m.Offset/edge.ChunkSize + 1) * edge.ChunkSize
		chunk.Data = program[m.Offset:min(next, int64(len(program)))]
	}
	l.say(chunk)
}

func (l *line) say(messages ...edge.Message) {
	for _, m := range messages {
		if now, ok := m.(*edge.Current); ok {
			now.Time = time.Now()
		}
		data, err := edge.Encode(m)
		if err != nil {
			panic(err)
		}
		l.conn.Send(data)
	}
}

func (h *hub) beat(ctx context.Context) {
	tick := time.NewTicker(edge.BeatTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h.mu.Lock()
		for l := range h.conns {
			l.say(l.feed.Tick()...)
		}
		h.mu.Unlock()
	}
}

// wants makes these what nodes are to run, as of a revision of the hub.
func (h *hub) wants(revision int64, refs ...edge.Ref) {
	h.t.Helper()
	set, err := edge.NewSet(edge.Position{Epoch: "e", Revision: revision}, refs, edge.Terms{})
	if err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range refs {
		if h.bundles[r.Revision], err = edge.Bundle(*r.Function); err != nil {
			h.t.Fatal(err)
		}
	}
	h.want = set
	for l := range h.conns {
		l.say(l.feed.Want(set)...)
	}
}

// says sends a message to every node.
func (h *hub) says(m edge.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.conns {
		l.say(m)
	}
}

// cut ends every session, and lets nobody in until mended.
func (h *hub) cut() {
	h.down.Store(true)
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.conns {
		l.conn.Close("cut")
	}
}

// call asks every node, which is to be one, and returns the answers once that is still.
func (h *hub) call(id int64, verb edge.Verb, body any) []edge.Answer {
	h.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		h.t.Fatal(err)
	}
	h.says(&edge.Call{ID: id, Verb: verb, Body: text})
	synctest.Wait()
	return h.answered(id)
}

func (h *hub) answered(id int64) (list []edge.Answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.answers {
		if a.ID == id {
			list = append(list, a)
		}
	}
	return list
}

// get returns a copy of a list of what nodes have said.
func get[T any](h *hub, list *[]T) []T {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(*list)
}

// A node is a real agent with its member, on a bus and a sandbox in memory.
type node struct {
	*member.Member
	agent *agent.Agent
	t     *testing.T
	dir   string
	home  string
	bus   *bus
	end   func()
}

// joined makes the home of a node that has joined the hub.
func joined(t *testing.T, h *hub) (home string) {
	t.Helper()
	home = t.TempDir()
	invitation := edge.Invitation{Token: "0123456789abcdef", Secret: make([]byte, edge.TokenSecret), HubKey: h.key.Public().(ed25519.PublicKey)}
	_, err := member.Join(t.Context(), home, "ws://127.0.0.1", invitation, member.JoinOptions{Name: "hall", Net: h.dial})
	if err != nil {
		t.Fatal(err)
	}
	return home
}

func startNode(t *testing.T, h *hub, with ...func(*member.Config)) *node {
	t.Helper()
	return runNode(t, h, t.TempDir(), joined(t, h), with...)
}

func runNode(t *testing.T, h *hub, dir, home string, with ...func(*member.Config)) *node {
	t.Helper()
	lg := slog.New(slog.NewTextHandler(t.Output(), nil))
	st, err := store.OpenBy(store.Clock{Boot: "b", Since: func() time.Duration { return time.Hour }, Wall: time.Now}, dir, lg)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, dir: dir, home: home, bus: &bus{}}
	n.agent, err = agent.New(agent.Config{Node: "hall", Bus: n.bus, Store: st, Sandboxes: map[string]functions.Sandbox{"process": sandbox{}}, Logger: lg})
	if err != nil {
		t.Fatal(err)
	}
	where, err := member.OpenHome(home)
	if err != nil {
		t.Fatal(err)
	}
	cfg := member.Config{Home: where, Agent: n.agent, Version: "1", Net: h.dial, Logger: lg, Checks: n.agent.Checks}
	for _, w := range with {
		w(&cfg)
	}
	if n.Member, err = member.New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- n.agent.Run(ctx) }()  // awaited by end
	go func() { ended <- n.Member.Run(ctx) }() // the same
	n.end = sync.OnceFunc(func() {
		stop()
		if err := errors.Join(<-ended, <-ended, st.Close()); err != nil {
			t.Errorf("the node ended with %v", err)
		}
	})
	t.Cleanup(n.end)
	synctest.Wait()
	return n
}

// restart ends the node and starts it again.
func (n *node) restart(h *hub) *node {
	n.t.Helper()
	n.end()
	return runNode(n.t, h, n.dir, n.home)
}

// runs returns what the node runs, as name=code.
func (n *node) runs() string {
	var words []string
	for _, f := range n.agent.Functions() {
		words = append(words, f.Name+"="+f.Revision.Short())
	}
	return strings.Join(words, " ")
}

// wantRuns fails unless the node runs exactly these.
func (n *node) wantRuns(refs ...edge.Ref) {
	n.t.Helper()
	var words []string
	for _, r := range refs {
		words = append(words, r.Name+"="+r.Revision.Short())
	}
	if got, want := n.runs(), strings.Join(words, " "); got != want {
		n.t.Errorf("the node runs %q, want %q", got, want)
	}
}

// ref returns a function of that name and code as the hub tells it.
func ref(t *testing.T, name, code string) edge.Ref {
	t.Helper()
	yaml := fmt.Sprintf("apiVersion: sedge.dev/v1\nkind: Function\nmetadata: {name: %s}\nspec:\n  runtime: javascript\n  source: {path: index.js}\n  triggers: [{mqtt: {topic: in}}]\n  output: {topic: out}\n  state: {maxBytes: 8Mi}\n", name)
	m, err := functions.Parse("function.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	fn, err := functions.New(m, code)
	if err != nil {
		t.Fatal(err)
	}
	return edge.Ref{Name: name, Revision: fn.Revision, Enabled: true, Function: &fn}
}

// pass lets time pass and everything come to rest.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// A bus is a broker in memory.
type bus struct {
	mu   sync.Mutex
	hear func(devices.Message)
	sent []string
}

func (b *bus) Run(ctx context.Context, hear func(devices.Message)) error {
	b.mu.Lock()
	b.hear = hear
	b.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (b *bus) Subscribe([]string) {}
func (b *bus) Line() any          { return nil }
func (b *bus) Pause()             {}
func (b *bus) Resume()            {}

func (b *bus) PublishOn(_ any, p devices.Publication, done func(error)) {
	b.mu.Lock()
	b.sent = append(b.sent, p.Topic+"="+string(p.Payload))
	b.mu.Unlock()
	done(nil)
}

// say lets the bus hear a message.
func (b *bus) say(topic, payload string) {
	b.hear(devices.Message{Topic: topic, Payload: []byte(payload), Time: time.Now()})
}

func (b *bus) published() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sent)
}

// A sandbox runs functions in this process, by the first word of their code: echo returns
// the payload and logs it, fail fails, none does not load, stuck never ends.
type sandbox struct{}

func (sandbox) Start(_ context.Context, f functions.Function) (functions.Instance, error) {
	word, _, _ := strings.Cut(f.Code, " ")
	if word == "none" {
		return nil, fmt.Errorf("no such word: %w", functions.ErrUnfit)
	}
	return &instance{word: word, ended: make(chan struct{})}, nil
}

type instance struct {
	word  string
	ended chan struct{}
	once  sync.Once
	runs  sync.WaitGroup
}

func (i *instance) Invoke(inv functions.Invocation, r functions.Run) {
	i.runs.Go(func() {
		switch i.word {
		case "echo":
			r.Log(functions.LevelInfo, string(inv.Event.Payload))
			text, _ := json.Marshal(string(inv.Event.Payload))
			r.Done(functions.Outcome{Returned: text})
		case "fail":
			r.Done(functions.Outcome{Err: &functions.Failure{Code: functions.CodeThrown, Message: "no"}})
		case "stuck":
			<-i.ended
			r.Done(functions.Outcome{Err: &functions.Failure{Code: functions.CodeClosed, Message: "closed"}})
		}
	})
}

func (i *instance) Ended() <-chan struct{} { return i.ended }
func (i *instance) Close() error {
	i.once.Do(func() { close(i.ended) })
	i.runs.Wait()
	return nil
}
func (i *instance) Describe() functions.Description { return functions.Description{Sandbox: "test"} }
