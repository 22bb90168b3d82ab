package link_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/link"
)

// silence is how long a side waits for a message that it can open.
const silence = edge.BeatTime * 5 / 2

// Bits and opcodes of RFC 6455.
const (
	final, compressed    = 0x80, 0x40
	next, text, bin, png = 0x0, 0x1, 0x2, 0x9
)

// frame returns a websocket frame of a client whose head says that it is n bytes long.
func frame(head byte, n int64, data []byte) []byte {
	f := binary.BigEndian.AppendUint64([]byte{head, 0x80 | 127}, uint64(n))
	return append(append(f, 0, 0, 0, 0), data...) // masked with zeros
}

func small(head byte, data string) []byte {
	return append([]byte{head, 0x80 | byte(len(data)), 0, 0, 0, 0}, data...)
}

func TestFramesThatNoNodeSendsEndTheSession(t *testing.T) {
	for _, tt := range []struct {
		name  string
		frame []byte
		code  int
	}{
		{"text", small(final|text, "{}"), websocket.CloseUnsupportedData},
		{"not to be opened", small(final|bin, strings.Repeat("x", 40)), websocket.CloseProtocolError},
		{"shorter than a seal", small(final|bin, "x"), websocket.CloseProtocolError},
		{"too large", frame(final|bin, edge.MaxMessage+17, nil), websocket.CloseMessageTooBig},
		{"as large as can be said", frame(final|bin, 1<<62, nil), websocket.CloseMessageTooBig},
		{"too large in fragments", slices.Concat(frame(bin, edge.MaxMessage, make([]byte, edge.MaxMessage)), frame(next, 100, make([]byte, 100))), websocket.CloseMessageTooBig},
		{"compressed", small(final|compressed|bin, "x"), websocket.CloseProtocolError},
		{"a fragment of nothing", small(next, "x"), websocket.CloseProtocolError},
		{"of no kind", small(final|0x7, "x"), websocket.CloseProtocolError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				m := newMiddle(t, b.wire, pass)
				if _, _, err := b.dialer(t, m.wire).Dial(t.Context(), now(), edge.Proof{}); err != nil {
					t.Fatal(err)
				}
				m.raw(tt.frame) // the hub need not take all of it
				time.Sleep(5 * time.Second)
				if err := m.why(); !websocket.IsCloseError(err, tt.code) {
					t.Errorf("the hub closes with %v, want %d", err, tt.code)
				}
				if got := b.endings(); len(got) != 1 || got[0] == nil || len(b.messages()) > 0 {
					t.Errorf("the session ended with %v and handed on %q, want an error and nothing", got, b.messages())
				}
			})
		})
	}
}

// TestOnlyWhatCanBeOpenedIsASignOfLife has something between the two keep the line busy.
func TestOnlyWhatCanBeOpenedIsASignOfLife(t *testing.T) {
	for name, frames := range map[string][]byte{
		"pings":           small(final|png, "still there?"),
		"fragments":       small(next, "x"),
		"empty fragments": small(next, ""),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				m := newMiddle(t, b.wire, pass)
				if _, _, err := b.dialer(t, m.wire).Dial(t.Context(), now(), edge.Proof{}); err != nil {
					t.Fatal(err)
				}
				if name != "pings" {
					m.raw(small(bin, "x"))
				}
				begun := time.Now()
				for m.raw(frames) == nil {
					time.Sleep(time.Second)
				}
				if took := time.Since(begun); took < silence-time.Second || took > silence+5*time.Second {
					t.Errorf("the hub ended the session after %v, want after %v", took, silence)
				}
				synctest.Wait()
				if got := b.endings(); len(got) != 1 || !errors.Is(got[0], link.ErrSilent) {
					t.Errorf("Serve = %v, want ErrSilent", got)
				}
			})
		})
	}
}

// TestADeadLineIsNoticedAtBothEnds has both say a beat each half minute, until nothing gets through
// any more, without a sign of that.
func TestADeadLineIsNoticedAtBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.echo = true
		begun, dead := time.Now(), 10*time.Minute+time.Second
		m := newMiddle(t, b.wire, pass)
		m.dead = func() bool { return time.Since(begun) > dead }
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		conn, _, err := b.dialer(t, m.wire).Dial(ctx, now(), edge.Proof{})
		if err != nil {
			t.Fatal(err)
		}
		var beats sync.WaitGroup
		defer beats.Wait()
		beats.Go(func() {
			for conn.Send([]byte("beat")) == nil {
				time.Sleep(edge.BeatTime)
			}
		})
		done := make(chan error, 1)
		go func() { done <- conn.Serve(ctx, b.take) }() // waited for below
		time.Sleep(dead)
		if got := b.endings(); len(got) > 0 {
			t.Fatalf("at the hub the session ended with %v while there were beats", got)
		}
		time.Sleep(silence)
		synctest.Wait()
		if got := b.endings(); len(got) != 1 || !errors.Is(got[0], link.ErrSilent) {
			t.Errorf("at the hub Serve = %v, want ErrSilent", got)
		}
		if err := <-done; !errors.Is(err, link.ErrSilent) {
			t.Errorf("at the node Serve = %v, want ErrSilent", err)
		}
	})
}

func TestHandshakesThatDoNotEndTakeNoRoomForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.gate.Handshakes = 2
		begun := time.Now()
		slow := []*websocket.Conn{rawDial(t, b.wire), rawDial(t, b.wire)}
		for _, ws := range slow {
			go readOn(ws) // until the hub closes it
		}
		_, _, err := b.dialer(t, b.wire).Dial(t.Context(), now(), edge.Proof{})
		if s, ok := errors.AsType[*link.Status](err); !ok || s.Code != http.StatusServiceUnavailable || link.RetryAfter(err) != 5*time.Second {
			t.Errorf("Dial while two others are silent = %v, want 503 and to come again after 5 s", err)
		}
		for len(b.endings()) < 3 {
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(begun); took < 9*time.Second || took > 12*time.Second {
			t.Errorf("the silent ones were dropped after %v, want after 10 s", took)
		}
		conn, _, err := b.dialer(t, b.wire).Dial(t.Context(), now(), edge.Proof{})
		if err != nil {
			t.Fatalf("Dial after that = %v", err)
		}
		conn.Close("")
	})
}

func TestADialAtWhatDoesNotAnswerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mute := newWire() // takes a connection and does nothing with it
		defer mute.Close()
		go func() {
			for {
				if _, err := mute.Accept(); err != nil {
					return
				}
			}
		}()
		begun := time.Now()
		_, _, err := newBench(t).dialer(t, mute).Dial(t.Context(), now(), edge.Proof{})
		if took := time.Since(begun); err == nil || took > 20*time.Second {
			t.Errorf("Dial = %v after %v, want an error within 20 s", err, took)
		}
		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { stop(errors.New("no more")) })
		begun = time.Now()
		_, _, err = newBench(t).dialer(t, mute).Dial(ctx, now(), edge.Proof{})
		if took := time.Since(begun); err == nil || took > time.Second || !strings.Contains(err.Error(), "no more") {
			t.Errorf("Dial = %v after %v, want the context's error after 1 s", err, took)
		}
	})
}

func TestASlowNodeIsLetGoAndHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		conns := make(chan *link.Conn, 1)
		hub := newWire()
		ended := make(chan error, 1)
		hub.serve(t, func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := b.gate.Accept(w, r)
			if err != nil {
				t.Error(err)
				return
			}
			conns <- conn
			go func() { ended <- conn.Serve(context.Background(), b.take) }() // waited for below
		})
		node, _, err := b.dialer(t, hub).Dial(t.Context(), now(), edge.Proof{})
		if err != nil {
			t.Fatal(err)
		}
		defer node.Close("") // it reads nothing
		conn, begun, sent := <-conns, time.Now(), 0
		for err = nil; err == nil; sent++ {
			err = conn.Send(make([]byte, 10<<10))
		}
		if !errors.Is(err, link.ErrSlow) || time.Since(begun) > 0 {
			t.Errorf("Send = %v after %v, want ErrSlow at once", err, time.Since(begun))
		}
		if bytes := sent * 10 << 10; bytes < 4<<20-1<<17 || bytes > 4<<20+1<<15 {
			t.Errorf("%d bytes found room, want about 4 MiB", bytes)
		}
		if err := conn.Send(nil); !errors.Is(err, link.ErrClosed) {
			t.Errorf("Send after that = %v, want ErrClosed", err)
		}
		if err := <-ended; !errors.Is(err, link.ErrSlow) || time.Since(begun) > 2*time.Second {
			t.Errorf("Serve = %v after %v, want ErrSlow within 2 s", err, time.Since(begun))
		}
	})
}

func TestAMessageSentToManyIsNotTouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		shared := []byte(strings.Repeat("shared", 1000))
		for range 5 {
			conn, _, err := b.dialer(t, b.wire).Dial(t.Context(), now(), edge.Proof{})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close("")
			if err := conn.Send(shared); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		got := b.messages()
		if len(got) != 5 || slices.ContainsFunc(got, func(m string) bool { return m != string(shared) }) {
			t.Errorf("%d messages came, want 5 of those sent", len(got))
		}
		if string(shared) != strings.Repeat("shared", 1000) {
			t.Error("sending changed the message")
		}
		if err := (&link.Conn{}).Send(make([]byte, edge.MaxMessage+1)); err == nil {
			t.Error("Send of too large a message = nil, want an error")
		}
	})
}

func TestARefusedNodeHearsWhyAndWhenToComeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		verdict := edge.Verdict{Waiting: true, Code: edge.Denied, Message: "not yet", Retry: time.Minute}
		b.gate.Admit = func(context.Context, edge.Proof, string) edge.Verdict { return verdict }
		b.gate.Now = func() time.Time { return time.Time{} }
		_, reply, err := b.dialer(t, b.wire).Dial(t.Context(), now(), edge.Proof{})
		r, ok := errors.AsType[*link.Refused](err)
		if !ok || r.Verdict != verdict || reply.Verdict != verdict || link.RetryAfter(err) != time.Minute {
			t.Errorf("Dial = %+v, %v, want the verdict %+v", reply, err, verdict)
		}
		if !reply.Time.IsZero() {
			t.Errorf("time = %v, want none of a hub that does not know it", reply.Time)
		}
		synctest.Wait()
		if got := b.endings(); len(got) != 1 {
			t.Errorf("Accept = %v, want one error", got)
		} else if _, ok := errors.AsType[*link.Refused](got[0]); !ok {
			t.Errorf("Accept = %v, want a Refused", got[0])
		}
	})
}

func TestAnEndIsToldToTheOtherSide(t *testing.T) {
	long := strings.Repeat("ä", 100) // 200 bytes
	for _, tt := range []struct {
		name string
		end  func(c *link.Conn, stop func())
		want string
	}{
		{"closed", func(c *link.Conn, _ func()) { c.Close("enough"); c.Close("again") }, `(1000): "enough"`},
		{"closed with much to say", func(c *link.Conn, _ func()) { c.Close(long) }, `(1000): "` + strings.Repeat("ä", 61) + `"`},
		{"ended from above", func(_ *link.Conn, stop func()) { stop() }, `(1001): "going away"`},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			conn, _, err := b.dialer(t, b.wire).Dial(t.Context(), now(), edge.Proof{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			time.AfterFunc(time.Second, func() { tt.end(conn, stop) })
			if err := conn.Serve(ctx, b.take); err != nil {
				t.Errorf("%s: Serve = %v, want nil", tt.name, err)
			}
			synctest.Wait()
			if got := errors.Join(b.endings()...); got == nil || !strings.Contains(got.Error(), tt.want) {
				t.Errorf("%s: at the other side Serve = %v, want %s", tt.name, got, tt.want)
			}
		})
	}
}

func TestAHandlersErrorEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "what no hub says")
		conn, _, err := b.dialer(t, b.wire).Dial(t.Context(), now(), edge.Proof{})
		if err != nil {
			t.Fatal(err)
		}
		bad := errors.New("of no kind")
		if err := conn.Serve(t.Context(), func([]byte) error { return bad }); !errors.Is(err, bad) {
			t.Errorf("Serve = %v, want the handler's error", err)
		}
		synctest.Wait()
		if got := errors.Join(b.endings()...); got == nil || !strings.Contains(got.Error(), `(1002): "of no kind"`) {
			t.Errorf("at the hub Serve = %v, want 1002 and the reason", got)
		}
	})
}

func TestAWebPageIsNoNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		_, answer, err := (&websocket.Dialer{NetDialContext: b.dial}).DialContext(t.Context(), "ws://127.0.0.1"+link.Path, http.Header{"Origin": {"http://127.0.0.1"}})
		if err == nil || answer == nil || answer.StatusCode != http.StatusForbidden {
			t.Errorf("with an Origin: %v, want 403", err)
		}
	})
}

func TestNothingIsHandedOnAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, "first", "second", "third")
		conn, _, err := b.dialer(t, b.wire).Dial(t.Context(), now(), edge.Proof{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		err = conn.Serve(t.Context(), func(data []byte) error {
			got = append(got, string(data))
			conn.Close("enough")
			return nil
		})
		if want := []string{"first"}; !slices.Equal(got, want) || err != nil {
			t.Errorf("Serve handed on %q, and %v, want %q alone", got, err, want)
		}
	})
}
