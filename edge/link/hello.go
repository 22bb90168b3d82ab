package link

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/gorilla/websocket"
	"github.com/sedge-iot/sedge/edge"
)

// A greeting is what a node keeps between its hello and the hub's welcome.
type greeting struct {
	own  *ecdh.PrivateKey
	said []byte // the hello
}

// ephemeral returns a key for one session.
func ephemeral() (*ecdh.PrivateKey, error) { return ecdh.X25519().GenerateKey(rand.Reader) }

// greet makes a hello, which challenges the hub.
func greet(own *ecdh.PrivateKey) (greeting, error) {
	said, err := json.Marshal(edge.Hello{Protocols: spoken(), Ephemeral: own.PublicKey().Bytes()})
	return greeting{own, said}, err
}

// A meeting is a session that has keys, whose node the hub does not know yet.
type meeting struct {
	toHub, toNode *stream
	transcript    transcript
	welcome       edge.Welcome
}

// answer makes the hub's welcome to a hello.
func answer(hello []byte, own *ecdh.PrivateKey, key ed25519.PrivateKey, now time.Time) (m meeting, said []byte, err error) {
	var h edge.Hello
	if err := understand(hello, &h); err != nil {
		return meeting{}, nil, err
	}
	protocol, err := choose(spoken(), h.Protocols)
	if err != nil {
		return meeting{}, nil, err
	}
	w := edge.Welcome{Protocol: protocol, Ephemeral: own.PublicKey().Bytes(), Time: now.Round(0).UTC()}
	t := welcomed(hello, w, key.Public().(ed25519.PublicKey))
	w.Signature = ed25519.Sign(key, t[:])
	if said, err = json.Marshal(w); err != nil {
		return meeting{}, nil, err
	}
	m, err = meet(own, h.Ephemeral, settled(t, said), w)
	return m, said, err
}

// recognise returns the meeting with the hub that has sent the welcome, if that is the
// one with the key.
func (g greeting) recognise(welcome []byte, hub ed25519.PublicKey) (meeting, error) {
	var w edge.Welcome
	if err := understand(welcome, &w); err != nil {
		return meeting{}, err
	}
	t := welcomed(g.said, w, hub)
	if !ed25519.Verify(hub, t[:], w.Signature) {
		return meeting{}, ErrWrongHub
	}
	if ours := spoken(); w.Protocol < ours[0] || w.Protocol > ours[1] {
		return meeting{}, &Incompatible{Node: ours, Hub: [2]int{w.Protocol, w.Protocol}}
	}
	return meet(g.own, w.Ephemeral, settled(t, welcome), w)
}

// meet makes the keys out of one's own ephemeral key and the other's.
func meet(own *ecdh.PrivateKey, other []byte, t transcript, w edge.Welcome) (meeting, error) {
	public, err := ecdh.X25519().NewPublicKey(other)
	if err != nil {
		return meeting{}, &fault{websocket.CloseProtocolError, "no ephemeral key"}
	}
	secret, err := own.ECDH(public)
	if err != nil { // a point that gives everyone the same secret
		return meeting{}, &fault{websocket.CloseProtocolError, "an ephemeral key that is none"}
	}
	toHub, err := newStream(secret, t, forHub)
	if err != nil {
		return meeting{}, err
	}
	toNode, err := newStream(secret, t, forNode)
	return meeting{toHub, toNode, t, w}, err
}

// prove fills in what shows who the node is.
func (m meeting) prove(p edge.Proof, key ed25519.PrivateKey) edge.Proof {
	public := key.Public().(ed25519.PublicKey)
	p.Key, p.Signature = public, ed25519.Sign(key, proven(m.transcript, public))
	return p
}

// believe reads a proof that holds in this session.
func (m meeting) believe(data []byte) (p edge.Proof, err error) {
	if err := understand(data, &p); err != nil {
		return edge.Proof{}, err
	}
	if len(p.Key) != ed25519.PublicKeySize || !ed25519.Verify(p.Key, proven(m.transcript, p.Key), p.Signature) {
		return edge.Proof{}, &fault{websocket.ClosePolicyViolation, "a proof that does not hold"}
	}
	return p, nil
}

// understand reads a message of the handshake.
func understand(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return &fault{websocket.CloseProtocolError, "what is not understood in a handshake"}
	}
	return nil
}

// A fault is what the other side has sent and should not have. It is told so.
type fault struct {
	code int
	what string
}

func (f *fault) Error() string { return "the other side sent " + f.what }

// spoken is which protocols this program speaks: all from the first to the second.
func spoken() [2]int { return [2]int{lowest, edge.Protocol} }

// choose returns the newest protocol that both speak.
func choose(hub, node [2]int) (int, error) {
	if node[0] < 1 || node[0] > node[1] {
		return 0, &fault{websocket.CloseProtocolError, "a hello that names no protocols"}
	}
	if node[1] < hub[0] || node[0] > hub[1] {
		return 0, &Incompatible{Node: node, Hub: hub}
	}
	return min(hub[1], node[1]), nil
}
