package link

import (
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

// rangeText tells a node which protocols the hub speaks, when the node speaks none of them.
const rangeText = "this hub speaks protocols %d to %d"

// A parley is a websocket on which the session is still being made. The two sides take
// turns, so nothing is concurrent here.
type parley struct{ ws *websocket.Conn }

// begin sets the limits of the handshake.
func begin(ws *websocket.Conn) (parley, error) {
	ws.SetReadLimit(handshakeMax)
	until := time.Now().Add(handshakeTime)
	return parley{ws}, errors.Join(ws.SetReadDeadline(until), ws.SetWriteDeadline(until))
}

// introduce is the node's part. The reply holds what the hub has said, also when there
// is an error.
func (p parley) introduce(key ed25519.PrivateKey, hub ed25519.PublicKey, proof edge.Proof) (*Conn, Reply, error) {
	own, err := ephemeral()
	if err != nil {
		return nil, Reply{}, err
	}
	g, err := greet(own)
	if err != nil {
		return nil, Reply{}, err
	}
	if err := p.ws.WriteMessage(websocket.TextMessage, g.said); err != nil {
		return nil, Reply{}, fmt.Errorf("greet the hub: %w", err)
	}
	welcome, err := p.hear(websocket.TextMessage)
	if err != nil {
		return nil, Reply{}, fmt.Errorf("hear the hub's welcome: %w", incompatible(err))
	}
	m, err := g.recognise(welcome, hub)
	if err != nil {
		return nil, Reply{}, err
	}
	reply := Reply{Time: m.welcome.Time}
	if err := p.saySealed(m.toHub, m.prove(proof, key)); err != nil {
		return nil, reply, fmt.Errorf("prove who this node is: %w", err)
	}
	verdict, err := p.hearSealed(m.toNode)
	if err == nil {
		err = understand(verdict, &reply.Verdict)
	}
	if err != nil {
		return nil, reply, fmt.Errorf("hear the hub's verdict: %w", err)
	}
	if !reply.Verdict.Admitted {
		return nil, reply, &Refused{reply.Verdict}
	}
	return p.session(m, m.toNode, m.toHub), reply, nil
}

// welcome is the hub's part. The arrival holds what is known, also when there is an error.
func (p parley) welcome(key ed25519.PrivateKey, now time.Time, admit func(edge.Proof) edge.Verdict) (*Conn, Arrival, error) {
	hello, err := p.hear(websocket.TextMessage)
	if err != nil {
		return nil, Arrival{}, fmt.Errorf("hear a node's hello: %w", err)
	}
	own, err := ephemeral()
	if err != nil {
		return nil, Arrival{}, err
	}
	m, said, err := answer(hello, own, key, now)
	if err != nil {
		return nil, Arrival{}, err
	}
	if err := p.ws.WriteMessage(websocket.TextMessage, said); err != nil {
		return nil, Arrival{}, fmt.Errorf("welcome a node: %w", err)
	}
	data, err := p.hearSealed(m.toHub)
	if err != nil {
		return nil, Arrival{}, fmt.Errorf("hear a node's proof: %w", err)
	}
	proof, err := m.believe(data)
	if err != nil {
		return nil, Arrival{}, err
	}
	a := Arrival{proof, admit(proof)}
	if err := p.saySealed(m.toNode, a.Verdict); err != nil {
		return nil, a, fmt.Errorf("tell a node the verdict: %w", err)
	}
	if !a.Verdict.Admitted {
		return nil, a, &Refused{a.Verdict}
	}
	return p.session(m, m.toHub, m.toNode), a, nil
}

// session returns the connection for what comes after the handshake.
func (p parley) session(m meeting, in, out *stream) *Conn {
	p.ws.SetReadLimit(sealedMax)
	return &Conn{ws: p.ws, in: in, out: out, protocol: m.welcome.Protocol}
}

// hear reads a message: text is in the clear, binary sealed.
func (p parley) hear(kind int) ([]byte, error) {
	got, r, err := p.ws.NextReader()
	if err == nil && got != kind {
		return nil, &fault{websocket.CloseUnsupportedData, "text instead of binary, or the other way round"}
	}
	var data []byte
	if err == nil {
		data, err = io.ReadAll(r)
	}
	if err != nil {
		return nil, lost(err).err
	}
	return data, nil
}

func (p parley) hearSealed(in *stream) ([]byte, error) {
	data, err := p.hear(websocket.BinaryMessage)
	if err != nil {
		return nil, err
	}
	return in.open(data)
}

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

// abandon closes a handshake that has failed, and says why where the other side can
// do something about it.
func (p parley) abandon(err error) {
	code, text := websocket.CloseProtocolError, "the handshake has failed"
	if f, ok := errors.AsType[*fault](err); ok {
		code, text = f.code, "you sent "+f.what
	} else if i, ok := errors.AsType[*Incompatible](err); ok {
		text = fmt.Sprintf(rangeText, i.Hub[0], i.Hub[1])
	} else if _, ok := errors.AsType[*Refused](err); ok {
		code, text = websocket.ClosePolicyViolation, "not admitted"
	}
	part(p.ws, code, text)
	if p.ws.NetConn().SetReadDeadline(time.Now().Add(parting)) == nil {
		io.Copy(io.Discard, p.ws.NetConn()) // see Conn.drain
	}
	p.ws.Close() // it has failed already
}

// incompatible returns what a hub means that speaks none of our protocols, or err.
func incompatible(err error) error {
	l, ok := errors.AsType[*Left](err)
	if !ok || l.Code != websocket.CloseProtocolError {
		return err
	}
	i := &Incompatible{Node: spoken()}
	if _, bad := fmt.Sscanf(l.Reason, rangeText, &i.Hub[0], &i.Hub[1]); bad != nil {
		return err
	}
	if _, common := choose(i.Hub, i.Node); common == nil {
		return err // of the hub's own making, or not the hub's at all
	}
	return i
}
