package link

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"encoding/json"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

var (
	hubKey  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte("h"), 32))
	nodeKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte("n"), 32))
	then    = time.Date(2026, 11, 26, 12, 0, 0, 7, time.UTC)
)

// own returns the same ephemeral key each time: the processes of a fuzz run must
// agree on what was said.
func own(t testing.TB, seed string) *ecdh.PrivateKey {
	t.Helper()
	key, err := ecdh.X25519().NewPrivateKey(bytes.Repeat([]byte(seed), 32))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// meetings returns both ends of the session of a node with that ephemeral key.
func meetings(t testing.TB, seed string) (g greeting, welcome []byte, hub, node meeting) {
	t.Helper()
	g, err := greet(own(t, seed))
	if err != nil {
		t.Fatal(err)
	}
	hub, welcome, err = answer(g.said, own(t, "H"), hubKey, then)
	if err != nil {
		t.Fatal(err)
	}
	node, err = g.recognise(welcome, hubKey.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return g, welcome, hub, node
}

// FuzzHello: to whatever a hub answers, it answers with a welcome that is signed for it, and that
// a node accepts only as the answer to its own hello.
func FuzzHello(f *testing.F) {
	g, _, _, _ := meetings(f, "N")
	f.Add(g.said)
	f.Add([]byte(`{"protocols":[1,1000000000000],"ephemeral":"AAAA"}`))
	f.Add([]byte(`{"protocols":[1,9],"ephemeral":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Fuzz(func(t *testing.T, hello []byte) {
		m, welcome, err := answer(hello, own(t, "H"), hubKey, then)
		if err != nil {
			return
		}
		if m.welcome.Protocol < lowest || m.welcome.Protocol > edge.Protocol || len(welcome) > handshakeMax {
			t.Errorf("answered %q with %q", hello, welcome)
		}
		_, err = g.recognise(welcome, hubKey.Public().(ed25519.PublicKey))
		if same := bytes.Equal(hello, g.said); same != (err == nil) {
			t.Errorf("the answer to %q, which is the node's own: %v, is recognised with %v", hello, same, err)
		}
	})
}

// FuzzWelcome: a node takes nothing for the hub's word that the hub has not signed, whatever
// else is beside it, and agrees on keys only about the very bytes that the hub has sent.
func FuzzWelcome(f *testing.F) {
	g, welcome, hub, node := meetings(f, "N")
	sealed := hub.toNode.seal(nil, []byte("verdict"))
	f.Add(welcome)
	f.Add(append([]byte(" "), welcome...))
	f.Add(bytes.Replace(welcome, []byte(`"protocol":1`), []byte(`"protocol":2`), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := g.recognise(data, hubKey.Public().(ed25519.PublicKey))
		if err != nil {
			return
		}
		w := m.welcome
		if w.Protocol != node.welcome.Protocol || !bytes.Equal(w.Ephemeral, node.welcome.Ephemeral) || !w.Time.Equal(node.welcome.Time) {
			t.Errorf("%q is taken for the hub's word", data)
		}
		_, err = m.toNode.open(bytes.Clone(sealed))
		if same := bytes.Equal(data, welcome); same != (err == nil) {
			t.Errorf("%q, which is what the hub sent: %v, opens its next message with %v", data, same, err)
		}
	})
}

// FuzzProof: a hub believes no key that has not signed this session.
func FuzzProof(f *testing.F) {
	_, _, hub, node := meetings(f, "N")
	right, err := json.Marshal(node.prove(edge.Proof{Name: "hall", Counter: 1}, nodeKey))
	if err != nil {
		f.Fatal(err)
	}
	_, _, _, other := meetings(f, "O")
	wrong, err := json.Marshal(other.prove(edge.Proof{Name: "hall", Counter: 1}, nodeKey))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(right)
	f.Add(wrong)
	f.Add([]byte(`{"key":"","signature":""}`))
	f.Add([]byte(`{"key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","signature":"AAAA"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := hub.believe(data)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Key, nodeKey.Public().(ed25519.PublicKey)) {
			t.Errorf("%q is believed", data)
		}
	})
}

func TestAProofHoldsInItsSessionAlone(t *testing.T) {
	_, _, hub, node := meetings(t, "N")
	_, _, otherHub, _ := meetings(t, "O")
	proof, err := json.Marshal(node.prove(edge.Proof{}, nodeKey))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hub.believe(proof); err != nil {
		t.Errorf("in its session: %v, want no error", err)
	}
	if _, err := otherHub.believe(proof); err == nil {
		t.Error("in another session: no error, want one")
	}
}

// FuzzOpen: nothing opens but the next message as it was sealed, and what does not open
// changes nothing.
func FuzzOpen(f *testing.F) {
	_, _, hub, node := meetings(f, "N")
	first, second := node.toHub.seal(nil, []byte("first")), node.toHub.seal(nil, []byte("second"))
	for _, seed := range [][]byte{first, second, nil, first[:overhead], append(bytes.Clone(first), 0)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := *hub.toHub // as at the beginning of the session
		plain, err := in.open(bytes.Clone(data))
		if same := bytes.Equal(data, first); same != (err == nil) || same && string(plain) != "first" {
			t.Fatalf("open of %x = %q, %v", data, plain, err)
		}
		next, want := first, "first"
		if err == nil {
			next, want = second, "second"
		}
		if plain, err := in.open(bytes.Clone(next)); err != nil || string(plain) != want {
			t.Errorf("after that open = %q, %v, want %s", plain, err, want)
		}
	})
}

func TestAMessageCannotBeSentBackToWhereItCameFrom(t *testing.T) {
	_, _, hub, node := meetings(t, "N")
	if _, err := node.toNode.open(node.toHub.seal(nil, []byte("n"))); err == nil {
		t.Error("the node opens what it has sealed itself, want an error")
	}
	if _, err := hub.toHub.open(hub.toNode.seal(nil, []byte("h"))); err == nil {
		t.Error("the hub opens what it has sealed itself, want an error")
	}
}
