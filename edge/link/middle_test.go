package link_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/link"
)

// A wire is a listener in memory, whose connections work in a synctest bubble.
type wire struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newWire() *wire { return &wire{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *wire) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case w.conns <- theirs:
		return ours, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *wire) Close() error   { w.once.Do(func() { close(w.closed) }); return nil }
func (w *wire) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// serve starts an HTTP server on the wire, which ends with the test.
func (w *wire) serve(t *testing.T, f http.HandlerFunc) {
	t.Helper()
	srv := &http.Server{Handler: f}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(w) }() // the cleanup waits
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
}

// A side is who sends.
type side int

const (
	fromNode side = iota
	fromHub
)

// A middle stands between node and hub, sees each message, and passes on what touch makes
// of it.
type middle struct {
	*wire
	touch func(from side, n int, m message) []message
	dead  func() bool // says that nothing gets through any more, not even an end; or nil

	mu   sync.Mutex
	seen [2][]message    // guarded by mu; by side
	hub  *websocket.Conn // guarded by mu; the last connection to the hub
	told [2]error        // guarded by mu; what ended the last connection to each side
}

type message struct {
	kind int
	data []byte
}

func newMiddle(t *testing.T, hub *wire, touch func(side, int, message) []message) *middle {
	m := &middle{wire: newWire(), touch: touch}
	var pumps sync.WaitGroup
	m.serve(t, func(w http.ResponseWriter, r *http.Request) {
		node, err := new(websocket.Upgrader).Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		to, _, err := (&websocket.Dialer{NetDialContext: hub.dial}).DialContext(r.Context(), "ws://127.0.0.1"+link.Path, nil)
		if err != nil {
			node.Close()
			return
		}
		m.mu.Lock()
		m.hub, m.seen = to, [2][]message{}
		m.mu.Unlock()
		pumps.Go(func() { m.pump(fromNode, node, to) })
		pumps.Go(func() { m.pump(fromHub, to, node) })
	})
	t.Cleanup(pumps.Wait)
	return m
}

// pump passes on what comes from one side until that ends.
func (m *middle) pump(s side, from, to *websocket.Conn) {
	defer func() {
		from.Close()
		if m.dead == nil || !m.dead() {
			to.Close()
		}
	}()
	for n := 0; ; n++ {
		kind, data, err := from.ReadMessage()
		m.mu.Lock()
		if err != nil {
			m.told[s] = err
		} else {
			m.seen[s] = append(m.seen[s], message{kind, slices.Clone(data)})
		}
		m.mu.Unlock()
		if m.dead != nil && m.dead() {
			if err != nil {
				return
			}
			continue
		}
		if e, ok := errors.AsType[*websocket.CloseError](err); ok {
			to.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(e.Code, e.Text), time.Now().Add(time.Second))
		}
		if err != nil {
			return
		}
		for _, out := range m.touch(s, n, message{kind, data}) {
			if err := to.WriteMessage(out.kind, out.data); err != nil {
				return
			}
		}
	}
}

// what returns all messages that came from a side.
func (m *middle) what(s side) []message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen[s]
}

// raw writes bytes to the hub as they are.
func (m *middle) raw(data []byte) error {
	m.mu.Lock()
	c := m.hub.NetConn()
	m.mu.Unlock()
	_, err := c.Write(data)
	return err
}

// why returns what the hub said as it closed.
func (m *middle) why() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.told[fromHub]
}

func pass(_ side, _ int, m message) []message { return []message{m} }

// A bench is a hub without TLS in memory, and how its sessions went.
type bench struct {
	*wire
	gate *link.Gate
	echo bool // what is heard is said too

	mu    sync.Mutex
	came  []edge.Proof // guarded by mu; to Admit
	got   []string     // guarded by mu; messages
	ended []error      // guarded by mu; of Accept and Serve
}

// newBench starts a hub that says each of hello to whoever comes.
func newBench(t *testing.T, hello ...string) *bench {
	b := &bench{wire: newWire()}
	b.gate = &link.Gate{Key: newKey(t), Admit: func(ctx context.Context, p edge.Proof, remote string) edge.Verdict {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.came = append(b.came, p)
		return admitAll(ctx, p, remote)
	}}
	var sessions sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	b.serve(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := b.gate.Accept(w, r)
		if err != nil {
			b.end(err)
			return
		}
		sessions.Go(func() {
			for _, m := range hello {
				conn.Send([]byte(m)) // which may be closed already
			}
			b.end(conn.Serve(ctx, func(data []byte) error {
				if b.echo {
					conn.Send(slices.Clone(data)) // which may be closed already
				}
				return b.take(data)
			}))
		})
	})
	t.Cleanup(func() { synctest.Wait(); stop(); sessions.Wait() })
	return b
}

func (b *bench) take(data []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, string(data))
	return nil
}

func (b *bench) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = append(b.ended, err)
}

func (b *bench) admitted() int { b.mu.Lock(); defer b.mu.Unlock(); return len(b.came) }

func (b *bench) messages() []string { b.mu.Lock(); defer b.mu.Unlock(); return slices.Clone(b.got) }

func (b *bench) endings() []error { b.mu.Lock(); defer b.mu.Unlock(); return slices.Clone(b.ended) }

// dialer returns one of a new node that comes over a wire, its own or a middle's.
func (b *bench) dialer(t *testing.T, w *wire) *link.Dialer {
	t.Helper()
	return &link.Dialer{URL: "ws://127.0.0.1" + link.Path, Hub: public(b.gate.Key), Key: newKey(t), Net: w.dial}
}
