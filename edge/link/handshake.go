package link

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gorilla/websocket"
	"github.com/sedge-iot/sedge/edge"
)

const (
	handshakeTime = 10 * time.Second // from the upgraded websocket to the verdict
	handshakeMax  = 8 << 10          // bytes of each of its messages
)

// A parley is a websocket on which the session is still being made. The two sides take
// turns, so nothing is concurrent here.
type parley struct{ ws *websocket.Conn }

// begin sets the limits of the handshake.
func begin(ws *websocket.Conn) (parley, error) {
	ws.SetReadLimit(handshakeMax)
	until := time.Now().Add(handshakeTime)
	return parley{ws}, errors.Join(ws.SetReadDeadline(until), ws.SetWriteDeadline(until))
}

// session returns the connection for what comes after the handshake.
func (p parley) session(in, out *stream, protocol int) *Conn {
	p.ws.SetReadLimit(sealedMax)
	return &Conn{ws: p.ws, in: in, out: out, protocol: protocol}
}

// hear reads a message of a kind, which for text is JSON in the clear.
func (p parley) hear(kind int) ([]byte, error) {
	got, r, err := p.ws.NextReader()
	if err != nil {
		return nil, heard(err)
	}
	if got != kind {
		return nil, &fault{websocket.CloseUnsupportedData, "a message of the wrong kind"}
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, heard(err)
	}
	return data, nil
}

// heard says what an error of reading means.
func heard(err error) error {
	if e, ok := errors.AsType[*websocket.CloseError](err); ok {
		return &Left{Code: e.Code, Reason: e.Text}
	}
	return err
}

// hearSealed reads a sealed message into v.
func (p parley) hearSealed(in *stream, v any) error {
	data, err := p.hear(websocket.BinaryMessage)
	if err != nil {
		return err
	}
	if data, err = in.open(data); err != nil {
		return err
	}
	return understand(data, v)
}

// saySealed sends v sealed.
func (p parley) saySealed(out *stream, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(data)+overhead > handshakeMax {
		return fmt.Errorf("%d bytes: a message of the handshake has at most %d", len(data), handshakeMax-overhead)
	}
	return p.ws.WriteMessage(websocket.BinaryMessage, out.seal(nil, data))
}

func understand(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return &fault{websocket.CloseProtocolError, "a message of the handshake that is not understood"}
	}
	return nil
}

// A fault is what the other side does wrong, and is told.
type fault struct {
	code int
	text string
}

func (f *fault) Error() string { return "the other side sent " + f.text }

// abandon closes a handshake that has failed, and tells why if the other side can do
// something about it.
func (p parley) abandon(err error) {
	code, text := websocket.CloseProtocolError, "the handshake has failed"
	if f, ok := errors.AsType[*fault](err); ok {
		code, text = f.code, f.text
	} else if i, ok := errors.AsType[*Incompatible](err); ok {
		text = fmt.Sprintf(rangeText, i.Hub[0], i.Hub[1])
	} else if errors.AsType[*Refused](err); ok {
		code, text = websocket.ClosePolicyViolation, "not admitted"
	}
	p.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), time.Now().Add(parting))
	p.ws.Close() // it has failed already
}

// rangeText tells a node which protocols the hub speaks.
const rangeText = "this hub speaks protocols %d to %d"

// welcome is the hub's part of the handshake, up to the verdict, which is admit's.
func (p parley) welcome(key ed25519.PrivateKey, now time.Time, admit func(edge.Proof) edge.Verdict) (*Conn, Arrival, error) {
	ks, t, protocol, err := p.answerHello(key, now)
	if err != nil {
		return nil, Arrival{}, fmt.Errorf("welcome a node: %w", err)
	}
	var proof edge.Proof
	if err := p.hearSealed(ks.toHub, &proof); err != nil {
		return nil, Arrival{}, fmt.Errorf("hear the node's proof: %w", err)
	}
	if len(proof.Key) != ed25519.PublicKeySize || !ed25519.Verify(proof.Key, proven(t, proof.Key), proof.Signature) {
		return nil, Arrival{}, &fault{websocket.ClosePolicyViolation, "a proof that does not hold"}
	}
	a := Arrival{proof, admit(proof)}
	if err := p.saySealed(ks.toNode, a.Verdict); err != nil {
		return nil, a, fmt.Errorf("tell the node the verdict: %w", err)
	}
	if !a.Verdict.Admitted {
		return nil, a, &Refused{a.Verdict}
	}
	return p.session(ks.toHub, ks.toNode, protocol), a, nil
}

// answerHello makes the hub's keys.
func (p parley) answerHello(key ed25519.PrivateKey, now time.Time) (keys, transcript, int, error) {
	raw, err := p.hear(websocket.TextMessage)
	if err != nil {
		return keys{}, transcript{}, 0, err
	}
	var hello edge.Hello
	if err := understand(raw, &hello); err != nil {
		return keys{}, transcript{}, 0, err
	}
	protocol, err := choose(spoken(), hello.Protocols)
	if err != nil {
		return keys{}, transcript{}, 0, err
	}
	own, err := ephemeral()
	if err != nil {
		return keys{}, transcript{}, 0, err
	}
	w := edge.Welcome{Protocol: protocol, Ephemeral: own.PublicKey().Bytes(), Time: whole(now)}
	t := welcomed(raw, w, key.Public().(ed25519.PublicKey))
	w.Signature = ed25519.Sign(key, t[:])
	said, err := json.Marshal(w)
	if err != nil {
		return keys{}, transcript{}, 0, err
	}
	t = settled(t, said)
	ks, err := agree(own, hello.Ephemeral, t)
	if err != nil {
		return keys{}, transcript{}, 0, &fault{websocket.CloseProtocolError, "a hello without a key"}
	}
	return ks, t, protocol, p.ws.WriteMessage(websocket.TextMessage, said)
}

// introduce is the node's part of the handshake. The reply holds what the hub has said,
// also when there is an error.
func (p parley) introduce(key ed25519.PrivateKey, hub ed25519.PublicKey, proof edge.Proof) (*Conn, Reply, error) {
	own, err := ephemeral()
	if err != nil {
		return nil, Reply{}, err
	}
	ks, t, w, err := p.sayHello(own, hub)
	if err != nil {
		return nil, Reply{}, fmt.Errorf("greet the hub: %w", err)
	}
	reply := Reply{Time: w.Time}
	proof.Key = key.Public().(ed25519.PublicKey)
	proof.Signature = ed25519.Sign(key, proven(t, ed25519.PublicKey(proof.Key)))
	if err := p.saySealed(ks.toHub, proof); err != nil {
		return nil, reply, fmt.Errorf("prove who this node is: %w", err)
	}
	if err := p.hearSealed(ks.toNode, &reply.Verdict); err != nil {
		return nil, reply, fmt.Errorf("hear the hub's verdict: %w", err)
	}
	if !reply.Verdict.Admitted {
		return nil, reply, &Refused{reply.Verdict}
	}
	return p.session(ks.toNode, ks.toHub, w.Protocol), reply, nil
}

// sayHello challenges the hub and makes the node's keys, if it is the right hub.
func (p parley) sayHello(own *ecdh.PrivateKey, hub ed25519.PublicKey) (keys, transcript, edge.Welcome, error) {
	none := func(err error) (keys, transcript, edge.Welcome, error) {
		return keys{}, transcript{}, edge.Welcome{}, err
	}
	hello, err := json.Marshal(edge.Hello{Protocols: spoken(), Ephemeral: own.PublicKey().Bytes()})
	if err != nil {
		return none(err)
	}
	if err := p.ws.WriteMessage(websocket.TextMessage, hello); err != nil {
		return none(err)
	}
	raw, err := p.hear(websocket.TextMessage)
	if err != nil {
		return none(incompatible(err))
	}
	var w edge.Welcome
	if err := understand(raw, &w); err != nil {
		return none(err)
	}
	t := welcomed(hello, w, hub)
	if !ed25519.Verify(hub, t[:], w.Signature) {
		return none(ErrWrongHub)
	}
	if ours := spoken(); w.Protocol < ours[0] || w.Protocol > ours[1] {
		return none(&Incompatible{Node: ours, Hub: [2]int{w.Protocol, w.Protocol}})
	}
	t = settled(t, raw)
	ks, err := agree(own, w.Ephemeral, t)
	if err != nil {
		return none(err)
	}
	return ks, t, w, nil
}

// incompatible returns what a hub says that speaks none of our protocols, or err.
func incompatible(err error) error {
	l, ok := errors.AsType[*Left](err)
	if !ok || l.Code != websocket.CloseProtocolError {
		return err
	}
	i := &Incompatible{Node: spoken()}
	if _, bad := fmt.Sscanf(l.Reason, rangeText, &i.Hub[0], &i.Hub[1]); bad != nil || i.Hub[0] <= i.Node[1] && i.Node[0] <= i.Hub[1] {
		return err // another fault, or a hub that is not the one it says it is
	}
	return i
}
