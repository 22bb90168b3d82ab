package link_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/link"
)

var (
	fromNodeSaid = []string{"n0", "n1", "n2", "n3"}
	fromHubSaid  = []string{"h0", "h1", "h2", "h3"}
)

// A node runs one session: it says its messages and keeps what it hears.
type node struct {
	got []string
	err error // of Dial or Serve
}

func (n *node) run(ctx context.Context, d *link.Dialer, proof edge.Proof) {
	conn, _, err := d.Dial(ctx, now(), proof)
	if err != nil {
		n.err = err
		return
	}
	for _, m := range fromNodeSaid {
		conn.Send([]byte(m)) // which may be closed already
	}
	n.err = conn.Serve(ctx, func(data []byte) error { n.got = append(n.got, string(data)); return nil })
}

// An attack is what a middle does to the message with the number k of a side. Numbers 0 and
// 1 are the handshake's. Its other session is what was seen in one that went before.
type attack struct {
	name  string
	touch func(k int, other []message) func(n int, m message) []message
	from  int // the first k for which it can be told from a slow line
	plus  int // how many more messages arrive than those before k
}

// at changes message k alone.
func at(change func(k int, m message, other []message) []message) func(int, []message) func(int, message) []message {
	return func(k int, other []message) func(int, message) []message {
		return func(n int, m message) []message {
			if n == k {
				return change(k, m, other)
			}
			return []message{m}
		}
	}
}

var attacks = []attack{
	{name: "a flipped bit", touch: at(func(_ int, m message, _ []message) []message {
		m.data[len(m.data)/2] ^= 4
		return []message{m}
	})},
	{name: "forged", touch: at(func(_ int, m message, _ []message) []message {
		rand.Read(m.data)
		return []message{m}
	})},
	{name: "cut", touch: at(func(_ int, m message, _ []message) []message {
		m.data = m.data[:len(m.data)-1]
		return []message{m}
	})},
	{name: "longer", touch: at(func(_ int, m message, _ []message) []message {
		m.data = append(m.data, '}')
		return []message{m}
	})},
	{name: "empty", touch: at(func(_ int, m message, _ []message) []message { return []message{{m.kind, nil}} })},
	{name: "of another kind", touch: at(func(_ int, m message, _ []message) []message {
		m.kind = websocket.TextMessage + websocket.BinaryMessage - m.kind
		return []message{m}
	})},
	{name: "dropped", touch: at(func(int, message, []message) []message { return nil })},
	{name: "doubled", plus: 1, touch: at(func(_ int, m message, _ []message) []message { return []message{m, m} })},
	{name: "of another session", touch: at(func(k int, _ message, other []message) []message { return other[k : k+1] })},
	{name: "swapped with the next", from: 2, touch: func(k int, _ []message) func(int, message) []message {
		var held []message
		return func(n int, m message) []message {
			if n == k {
				held = []message{m}
				return nil
			}
			out := append([]message{m}, held...)
			held = nil
			return out
		}
	}},
}

// TestNoAttackOnAMessageGetsAnythingThrough attacks each message of a session in each way.
func TestNoAttackOnAMessageGetsAnythingThrough(t *testing.T) {
	for _, a := range attacks {
		for s, who := range []string{"node", "hub"} {
			for k := a.from; k < 6; k++ {
				t.Run(fmt.Sprintf("%s/%s/%d", a.name, who, k), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { a.run(t, side(s), k) })
				})
			}
		}
	}
}

// run has a session of another node go well, and then attacks one.
func (a attack) run(t *testing.T, s side, k int) {
	b := newBench(t, fromHubSaid...)
	m := newMiddle(t, b.wire, pass)
	var other, victim node
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(time.Second, stop)
	other.run(ctx, b.dialer(t, m.wire), edge.Proof{Name: "other"})
	synctest.Wait()
	if got := b.messages(); !slices.Equal(got, fromNodeSaid) || !slices.Equal(other.got, fromHubSaid) || other.err != nil {
		t.Fatalf("without an attack the hub got %q, the node %q, %v", got, other.got, other.err)
	}

	touch := a.touch(k, m.what(s))
	m.touch = func(from side, n int, msg message) []message {
		if from == s {
			return touch(n, msg)
		}
		return []message{msg}
	}
	b.got, b.ended = nil, nil
	begun := time.Now()
	victim.run(t.Context(), b.dialer(t, m.wire), edge.Proof{Name: "victim"})
	time.Sleep(2 * time.Second) // for the other end
	synctest.Wait()

	got, sent, err := b.messages(), fromNodeSaid, errors.Join(b.endings()...)
	if s == fromHub {
		got, sent, err = victim.got, fromHubSaid, victim.err
	}
	want := sent[:max(0, min(k-2+a.plus, len(sent)))]
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want what was sent before: %q", got, want)
	}
	if err == nil {
		t.Error("the session ended without an error, want one")
	}
	if victim.err == nil || len(b.endings()) == 0 {
		t.Errorf("the session ended at the node with %v, at the hub with %v, want it ended at both", victim.err, b.endings())
	}
	if took := time.Since(begun); took > 3*edge.BeatTime {
		t.Errorf("it took %v to end", took)
	}
}

func TestASessionPlayedAgainToTheHubIsNotAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		m := newMiddle(t, b.wire, pass)
		var first node
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		first.run(ctx, b.dialer(t, m.wire), edge.Proof{Join: &edge.Join{Token: "t", Secret: []byte("once")}})
		synctest.Wait()
		b.got = nil

		ws := rawDial(t, b.wire)
		ended := make(chan error, 1)
		go func() { ended <- readOn(ws) }() // waited for below
		for _, msg := range m.what(fromNode) {
			if err := ws.WriteMessage(msg.kind, msg.data); err != nil {
				break
			}
		}
		if err := <-ended; !websocket.IsCloseError(err, websocket.CloseProtocolError) {
			t.Errorf("the hub ends with %v, want a protocol error", err)
		}
		if got := b.admitted(); got != 1 {
			t.Errorf("Admit was asked %d times, want once", got)
		}
		if got := b.messages(); len(got) > 0 {
			t.Errorf("the hub took %q from a session played again", got)
		}
	})
}

func TestASessionPlayedAgainToTheNodeIsOfNoHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, fromHubSaid...)
		m := newMiddle(t, b.wire, pass)
		d := b.dialer(t, m.wire)
		var first, second node
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		first.run(ctx, d, edge.Proof{})
		synctest.Wait()

		recorded := m.what(fromHub)
		d.Net = fakeHub(t, func(ws *websocket.Conn) {
			ws.ReadMessage() // the hello, or none
			for _, msg := range recorded {
				ws.WriteMessage(msg.kind, msg.data) // as long as somebody listens
			}
			readOn(ws)
		}).dial
		second.run(t.Context(), d, edge.Proof{})
		if !errors.Is(second.err, link.ErrWrongHub) || len(second.got) > 0 {
			t.Errorf("the node got %q and ends with %v, want nothing and ErrWrongHub", second.got, second.err)
		}
	})
}

func TestProtocolNumbersCannotBeChangedOnTheWay(t *testing.T) {
	for _, tt := range []struct {
		from     side
		old, new string
	}{
		{fromNode, fmt.Sprintf(`"protocols":[1,%d]`, edge.Protocol), fmt.Sprintf(`"protocols":[1,%d]`, edge.Protocol+1)},
		{fromHub, fmt.Sprintf(`"protocol":%d`, edge.Protocol), fmt.Sprintf(`"protocol":%d`, edge.Protocol+1)},
		{fromNode, `{`, `{"more":1,`},
		{fromHub, `{`, `{"more":1,`},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			changed := false
			m := newMiddle(t, b.wire, func(s side, n int, m message) []message {
				if s == tt.from && n == 0 {
					with := bytes.Replace(m.data, []byte(tt.old), []byte(tt.new), 1)
					changed = !bytes.Equal(m.data, with)
					m.data = with
				}
				return []message{m}
			})
			var n node
			n.run(t.Context(), b.dialer(t, m.wire), edge.Proof{})
			synctest.Wait()
			if !changed || n.err == nil || b.admitted() > 0 {
				t.Errorf("%s for %s (changed: %v): the node ends with %v, %d admitted, want an error and nobody", tt.new, tt.old, changed, n.err, b.admitted())
			}
		})
	}
}

func TestAHubWithAnotherKeyLearnsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, right := newBench(t), newKey(t)
		m := newMiddle(t, b.wire, pass)
		d := b.dialer(t, m.wire)
		d.Hub = public(right)
		var n node
		n.run(t.Context(), d, edge.Proof{Name: "hall", Join: &edge.Join{Token: "t", Secret: []byte("secret")}})
		if !errors.Is(n.err, link.ErrWrongHub) {
			t.Errorf("Dial = %v, want ErrWrongHub", n.err)
		}
		if got := len(m.what(fromNode)); got != 1 || b.admitted() > 0 {
			t.Errorf("the node sent %d messages, want the hello alone", got)
		}
	})
}

func TestHubAndNodeSayWhichOfThemIsOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for _, tt := range []struct {
			hello, want string
		}{
			{`{"protocols":[7,9],"ephemeral":""}`, "this hub speaks protocols 1 to 1"},
			{`{"protocols":[9,7],"ephemeral":""}`, "you sent a hello that names no protocols"},
			{`{"protocols":[1,9],"ephemeral":""}`, "you sent no ephemeral key"},
			{`{"protocols":[1,9],"ephemeral":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`, "you sent an ephemeral key that is none"},
			{`{`, "you sent what is not understood in a handshake"},
		} {
			ws := rawDial(t, b.wire)
			if err := ws.WriteMessage(websocket.TextMessage, []byte(tt.hello)); err != nil {
				t.Fatal(err)
			}
			e, ok := errors.AsType[*websocket.CloseError](readOn(ws))
			if !ok || e.Code != websocket.CloseProtocolError || e.Text != tt.want {
				t.Errorf("to %s the hub says %v, want 1002 with %q", tt.hello, e, tt.want)
			}
		}
		for reason, want := range map[string]string{
			"this hub speaks protocols 7 to 9": "update the node",
			"this hub speaks protocols 0 to 0": "update the hub",
			"this hub speaks protocols 1 to 1": "closed the link",
			"this hub speaks":                  "closed the link",
		} {
			d := b.dialer(t, fakeHub(t, func(ws *websocket.Conn) {
				ws.ReadMessage() // the hello, or none
				ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseProtocolError, reason), time.Now().Add(time.Second))
				readOn(ws)
			}))
			_, _, err := d.Dial(t.Context(), now(), edge.Proof{})
			if err == nil || !bytes.Contains([]byte(err.Error()), []byte(want)) {
				t.Errorf("to %q the node says %v, want %q", reason, err, want)
			}
		}
	})
}

// fakeHub is a websocket server that does what f says.
func fakeHub(t *testing.T, f func(*websocket.Conn)) *wire {
	w := newWire()
	w.serve(t, func(rw http.ResponseWriter, r *http.Request) {
		ws, err := new(websocket.Upgrader).Upgrade(rw, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer ws.Close()
		f(ws)
	})
	return w
}

// rawDial makes a websocket and says nothing over it.
func rawDial(t *testing.T, w *wire) *websocket.Conn {
	t.Helper()
	ws, _, err := (&websocket.Dialer{NetDialContext: w.dial}).DialContext(t.Context(), "ws://127.0.0.1"+link.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	return ws
}

// readOn reads until there is an error.
func readOn(ws *websocket.Conn) error {
	for {
		if _, _, err := ws.ReadMessage(); err != nil {
			return err
		}
	}
}
