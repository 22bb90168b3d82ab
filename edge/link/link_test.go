package link_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/keys"
	"github.com/sedge-iot/sedge/edge/link"
)

// newKey returns a new key, of a hub or a node.
func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519Key()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ed25519Key() (ed25519.PublicKey, ed25519.PrivateKey, error) {
	return ed25519.GenerateKey(rand.Reader)
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// admitAll is a hub's verdict on whoever comes.
func admitAll(_ context.Context, p edge.Proof, _ string) edge.Verdict {
	return edge.Verdict{Admitted: true, ID: edge.NodeID(p.Key), Name: p.Name}
}

// A hub is a real one on loopback, with TLS of its own authority, which does with each session
// what serve says.
type hub struct {
	gate   *link.Gate
	ca     *keys.Authority
	addr   string
	answer http.HandlerFunc // instead of the gate's, or nil
	done   sync.WaitGroup
	ended  chan error // of Accept and Serve
}

// newHub starts a hub. What serve returns for a connection handles its messages.
func newHub(t testing.TB, serve func(*link.Conn) func([]byte) error) *hub {
	t.Helper()
	return newHubAt(t, newAuthority(t), time.Now(), serve)
}

// newAuthority returns one that was made five years ago.
func newAuthority(t testing.TB) *keys.Authority {
	t.Helper()
	ca, err := keys.OpenAuthority(filepath.Join(t.TempDir(), "ca.pem"), time.Now().AddDate(-5, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// newHubAt starts a hub with the certificate that the authority makes at that time.
func newHubAt(t testing.TB, ca *keys.Authority, then time.Time, serve func(*link.Conn) func([]byte) error) *hub {
	t.Helper()
	cert, err := ca.Server([]string{"127.0.0.1", "hub.example"}, func() time.Time { return then })
	if err != nil {
		t.Fatal(err)
	}
	h := &hub{gate: &link.Gate{Key: newKey(t), Admit: admitAll}, ca: ca, ended: make(chan error, 100)}
	ctx, stop := context.WithCancel(context.Background())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = l.Addr().String()
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if h.answer != nil {
				h.answer(w, r)
				return
			}
			conn, _, err := h.gate.Accept(w, r)
			if err != nil {
				h.ended <- err
				return
			}
			h.done.Go(func() { h.ended <- conn.Serve(ctx, serve(conn)) })
		}),
		TLSConfig:         cert.TLS(),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(slog.NewTextHandler(t.Output(), nil), slog.LevelInfo),
	}
	h.done.Go(func() { srv.ServeTLS(l, "", "") })
	t.Cleanup(func() {
		stop()
		srv.Close()
		h.done.Wait()
	})
	return h
}

// echo sends back what comes.
func echo(c *link.Conn) func([]byte) error {
	return func(data []byte) error { return c.Send([]byte(string(data))) }
}

// url returns the address of the hub's link.
func (h *hub) url() string { return "wss://" + h.addr + link.Path }

// dialer returns one of a new node that knows the hub as a join token tells.
func (h *hub) dialer(t testing.TB) *link.Dialer {
	t.Helper()
	return &link.Dialer{URL: h.url(), Hub: public(h.gate.Key), Key: newKey(t), Trust: link.Trust{Pin: h.ca.Pin()}}
}

// now is a clock that is right.
func now() link.Clock { return link.Clock{Now: time.Now(), Trusted: true} }

func TestMessagesGoBothWaysInOrder(t *testing.T) {
	h := newHub(t, echo)
	conn, reply, err := h.dialer(t).Dial(t.Context(), now(), edge.Proof{Name: "hall", Counter: 1})
	if err != nil {
		t.Fatal(err)
	}
	if reply.Verdict.Name != "hall" || time.Since(reply.Time).Abs() > time.Minute {
		t.Errorf("reply = %+v, want the verdict on hall and the hub's time", reply)
	}
	sent := []string{"a", "", strings.Repeat("b", edge.MaxMessage), "c"}
	for _, m := range sent {
		if err := conn.Send([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	err = conn.Serve(t.Context(), func(data []byte) error {
		if got = append(got, string(data)); len(got) == len(sent) {
			conn.Close("enough")
		}
		return nil
	})
	if err != nil {
		t.Errorf("Serve = %v, want nil after Close", err)
	}
	for i := range got {
		if got[i] != sent[i] {
			t.Errorf("message %d came back as %.20q, want %.20q", i, got[i], sent[i])
		}
	}
	if len(got) != len(sent) {
		t.Errorf("%d messages came back, want %d", len(got), len(sent))
	}
	if err, want := <-h.ended, "enough"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("at the hub Serve = %v, want the node's reason %q", err, want)
	}
}

// TestTheReasonArrivesWhileMuchIsOnItsWay has the hub end a session in the middle of what the
// node sends: a socket that is closed then answers with a reset, which overtakes the reason.
func TestTheReasonArrivesWhileMuchIsOnItsWay(t *testing.T) {
	h := newHub(t, func(*link.Conn) func([]byte) error {
		return func([]byte) error { return errors.New("not like this") }
	})
	for range 10 {
		conn, _, err := h.dialer(t).Dial(t.Context(), now(), edge.Proof{})
		if err != nil {
			t.Fatal(err)
		}
		for range 15 {
			if err := conn.Send(make([]byte, 64<<10)); err != nil {
				break // it has ended already
			}
		}
		err = conn.Serve(t.Context(), func([]byte) error { return nil })
		if left, ok := errors.AsType[*link.Left](err); !ok || left.Reason != "not like this" {
			t.Fatalf("Serve = %v, want the hub's reason", err)
		}
	}
}
