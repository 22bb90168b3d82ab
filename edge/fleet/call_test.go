package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/fleet"
)

// on returns a node to ask.
func (h *hub) on(name string) *fleet.Remote {
	h.t.Helper()
	r, err := h.On(name)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// answering returns a machine that answers calls, and is connected.
func answering(h *hub, answer func(c *edge.Call, say func(edge.Message))) (*machine, *stay) {
	h.t.Helper()
	m := newMachine(h.t, "hall", nil)
	m.join, m.answer = h.token(edge.Token{}), answer
	return m, m.connect(h)
}

func encode(t *testing.T, v any) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Error(err)
	}
	return text
}

// code returns the code of an error that is for people.
func code(err error) edge.Code {
	if e, ok := errors.AsType[*edge.Error](err); ok {
		return e.Code
	}
	return edge.Code(fmt.Sprint(err))
}

// eachWay tests with a hub to which the machine "hall" is to connect, and by which it is then
// asked: that one itself, or another replica.
func eachWay(t *testing.T, test func(t *testing.T, h *hub, asked func(*hub) *hub)) {
	t.Run("here", func(t *testing.T) {
		test(t, newHub(t), func(h *hub) *hub { return h })
	})
	t.Run("by another replica", func(t *testing.T) {
		hubs := replicas(t, 2)
		test(t, hubs[0], func(*hub) *hub { hubs[1].knows("hall", true); return hubs[1] })
	})
}

func TestANodeIsAskedAndAnswers(t *testing.T) {
	eachWay(t, func(t *testing.T, h *hub, asked func(*hub) *hub) {
		answering(h, func(c *edge.Call, say func(edge.Message)) {
			switch c.Verb {
			case edge.VerbInvoke:
				var in edge.InvokeCall
				if err := json.Unmarshal(c.Body, &in); err != nil {
					t.Error(err)
				}
				say(&edge.Answer{ID: c.ID, Body: encode(t, edge.Invoked{Returned: in.Function + string(in.Payload)})})
			case edge.VerbDead: // in two parts
				say(&edge.Answer{ID: c.ID, Body: encode(t, []edge.DeadLetter{{ID: 1}, {ID: 2}}), More: true})
				say(&edge.Answer{ID: c.ID, Body: encode(t, []edge.DeadLetter{{ID: 3}})})
			case edge.VerbRedrive:
				say(&edge.Answer{ID: c.ID, Body: encode(t, 3)})
			case edge.VerbStateDelete:
				say(&edge.Answer{ID: c.ID, Error: &edge.Error{Code: edge.Conflict, Message: "the version is 7"}})
			case edge.VerbChecks:
				say(&edge.Answer{ID: c.ID, Body: json.RawMessage(`{"no":"list"}`)})
			case edge.VerbTry:
				say(&edge.Answer{ID: c.ID})
			}
		})
		r, ctx := asked(h).on("hall"), t.Context()
		in, err := r.Invoke(ctx, "lamp", edge.Invoke{Payload: []byte("!")})
		if err != nil || in.Returned != "lamp!" {
			t.Errorf("Invoke = %+v, %v", in, err)
		}
		dead, err := r.Dead(ctx, edge.Query{})
		if err != nil || len(dead) != 3 || dead[2].ID != 3 {
			t.Errorf("Dead = %+v, %v", dead, err)
		}
		if n, err := r.Redrive(ctx, "lamp", nil); n != 3 || err != nil {
			t.Errorf("Redrive = %d, %v", n, err)
		}
		want(t, "error of StateDelete", code(r.StateDelete(ctx, "lamp", "k", nil)), edge.Conflict)
		_, err = r.Checks(ctx)
		want(t, "error of an answer that is none", code(err), edge.Internal)
		if err := r.Try(ctx, function(t, "lamp", "1", nil), ""); err != nil {
			t.Errorf("Try = %v", err)
		}
	})
}

func TestALargeFunctionToTryIsFetched(t *testing.T) {
	eachWay(t, func(t *testing.T, h *hub, asked func(*hub) *hub) {
		large := function(t, "lamp", strings.Repeat("// large\n", 40_000), nil)
		var m *machine
		m, _ = answering(h, func(c *edge.Call, say func(edge.Message)) {
			say(&edge.Fetch{Revision: large.Revision})
			m.until("a chunk has come", func() bool {
				return slices.ContainsFunc(m.said, func(msg edge.Message) bool {
					chunk, ok := msg.(*edge.Chunk)
					return ok && chunk.Revision == large.Revision && chunk.Total > 300_000
				})
			})
			say(&edge.Answer{ID: c.ID})
		})
		answer := m.answer
		m.answer = func(c *edge.Call, say func(edge.Message)) { go answer(c, say) } // it ends by the answer that the test waits for
		if err := asked(h).on("hall").Try(t.Context(), large, ""); err != nil {
			t.Errorf("Try = %v", err)
		}
		m.tell(&edge.Fetch{Revision: large.Revision, Offset: 7})
		m.until("a chunk has come", func() bool {
			i := slices.IndexFunc(m.said, func(msg edge.Message) bool { c, ok := msg.(*edge.Chunk); return ok && c.Offset == 7 })
			if i >= 0 && m.said[i].(*edge.Chunk).Total != 0 {
				t.Error("the node gets the function after it has tried it, though it is not placed there")
			}
			return i >= 0
		})
	})
}

func TestAStreamComesLineByLineAndEndsWithWhoListens(t *testing.T) {
	eachWay(t, func(t *testing.T, h *hub, asked func(*hub) *hub) {
		m, _ := answering(h, func(c *edge.Call, say func(edge.Message)) {
			for i := range 3 {
				say(&edge.Answer{ID: c.ID, Body: encode(t, edge.LogLine{Text: fmt.Sprint(i)}), More: true})
			}
		})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var got []string
		for line, err := range asked(h).on("hall").Logs(ctx, edge.Query{Last: -1, Follow: true}) {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, line.Text); len(got) == 3 {
				stop()
			}
		}
		want(t, "lines", got, "[0 1 2]")
		m.until("the call is cancelled", func() bool {
			return slices.ContainsFunc(m.said, func(msg edge.Message) bool { return msg.Kind() == edge.KindCancel })
		})
		for range asked(h).on("hall").Logs(t.Context(), edge.Query{Last: -1, Follow: true}) {
			break // who has enough
		}
		m.until("the second call is cancelled", func() bool {
			n := 0
			for _, msg := range m.said {
				if msg.Kind() == edge.KindCancel {
					n++
				}
			}
			return n == 2
		})
	})
}

func TestAStreamOfANodeThatGoesAwayEndsWithAnError(t *testing.T) {
	eachWay(t, func(t *testing.T, h *hub, asked func(*hub) *hub) {
		_, stay := answering(h, func(c *edge.Call, say func(edge.Message)) {
			say(&edge.Answer{ID: c.ID, Body: encode(t, edge.LogLine{Text: "one"}), More: true})
		})
		var got []string
		for line, err := range asked(h).on("hall").Logs(t.Context(), edge.Query{Last: -1}) {
			if err != nil {
				got = append(got, string(code(err)))
				continue
			}
			got = append(got, line.Text)
			stay.leave()
		}
		want(t, "lines", got, "[one unavailable]")
	})
}

func TestNobodyWaitsForASlowListener(t *testing.T) {
	h := newHub(t)
	const many = 5_000
	answering(h, func(c *edge.Call, say func(edge.Message)) {
		if c.Verb == edge.VerbRedrive {
			say(&edge.Answer{ID: c.ID, Body: json.RawMessage(`1`)})
			return
		}
		for range many {
			say(&edge.Answer{ID: c.ID, Body: json.RawMessage(`{"text":"x"}`), More: true})
		}
		say(&edge.Answer{ID: c.ID})
	})
	lines := 0
	for _, err := range h.on("hall").Logs(t.Context(), edge.Query{Last: -1}) {
		if err != nil {
			t.Fatal(err)
		}
		if lines++; lines == 1 { // the listener is slow: all has come, and what came after it is answered
			if n, err := h.on("hall").Redrive(t.Context(), "", nil); n != 1 || err != nil {
				t.Fatalf("Redrive = %d, %v", n, err)
			}
		}
	}
	if lines == 0 || lines == many {
		t.Errorf("%d of %d lines came, want some that were kept", lines, many)
	}
}

func TestANodeThatIsAwayCannotBeAsked(t *testing.T) {
	h := newHub(t)
	asked := make(chan struct{})
	m, s := answering(h, func(*edge.Call, func(edge.Message)) { close(asked) })
	failed := make(chan error)
	go func() { // ends with the session
		_, err := h.on("hall").Invoke(context.Background(), "lamp", edge.Invoke{})
		failed <- err
	}()
	<-asked
	s.leave()
	err := <-failed
	if code(err) != edge.Unavailable || !strings.Contains(err.Error(), "session of node hall ended") {
		t.Errorf("of a session that ends in between: %v", err)
	}
	_, err = h.on("hall").Invoke(t.Context(), "lamp", edge.Invoke{})
	if code(err) != edge.Unavailable || !strings.Contains(err.Error(), "node hall is not connected; last seen 20") {
		t.Errorf("of a node that is away: %v", err)
	}
	want(t, "Here", code(h.on("hall").Here()), edge.Unavailable)
	for line, err := range h.on("hall").Steps(t.Context(), edge.Query{}) {
		if code(err) != edge.Unavailable {
			t.Errorf("of a node that is away: %+v, %v", line, err)
		}
	}
	if _, err := h.On("attic"); code(err) != edge.NotFound {
		t.Errorf("On = %v, want that there is none", err)
	}
	m.answer = func(c *edge.Call, say func(edge.Message)) {
		say(&edge.Answer{ID: c.ID, Body: encode(t, edge.Invoked{Returned: "back"})})
	}
	r := h.on("hall")
	m.connect(h)
	if in, err := r.Invoke(t.Context(), "lamp", edge.Invoke{}); err != nil || in.Returned != "back" {
		t.Errorf("once it is back: %+v, %v", in, err)
	}
}

func TestACallThatDoesNotFitIsRefused(t *testing.T) {
	h := newHub(t)
	answering(h, nil)
	_, err := h.on("hall").Invoke(t.Context(), "lamp", edge.Invoke{Payload: make([]byte, edge.MaxMessage)})
	want(t, "error", code(err), edge.TooLarge)
}

func TestANodeThatDoesNotListenIsDropped(t *testing.T) {
	h := newHub(t)
	dial := h.ln.dial
	h.ln.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		}
		return conn, err
	}
	m := newMachine(t, "hall", nil)
	m.join = h.token(edge.Token{})
	conn, _, err := m.dial(h) // and reads nothing
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close("")
	h.until("it is connected", func() bool { d, err := h.Node("hall"); return err == nil && d.Connected && d.Standing == edge.Member })
	r := h.on("hall")
	var asking sync.WaitGroup
	for range 64 {
		asking.Go(func() {
			_, err := r.Invoke(t.Context(), "lamp", edge.Invoke{Payload: make([]byte, 150<<10)})
			if code(err) != edge.Unavailable {
				t.Errorf("Invoke = %v, want that the session ended", err)
			}
		})
	}
	asking.Wait()
	h.until("it is away", func() bool { return !h.node("hall").Connected })
}
