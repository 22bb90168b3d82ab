package fleet

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// PeerPath is where a replica of the hub is asked by others for nodes that are connected to
// it, see [Fleet.ServePeer].
const PeerPath = "/v1/replica/calls"

const (
	maxPeerCall = 4 << 20          // bytes of a call, which may carry a function
	partTime    = 30 * time.Second // that a replica may take for a part of an answer
)

// A peerCall is a call that the replica is to make which the node is connected to. It is
// answered with a line of JSON for each [edge.Answer].
type peerCall struct {
	Node string          `json:"node"` // its id
	Verb edge.Verb       `json:"verb"`
	Body json.RawMessage `json:"body,omitempty"`
}

// peerToken is what replicas show each other. All have the hub's key, and nobody else.
func (f *Fleet) peerToken() string {
	token, err := hkdf.Key(sha256.New, f.Key.Seed(), nil, "sedge replica", sha256.Size)
	if err != nil {
		panic(err) // of fixed lengths: never fails
	}
	return hex.EncodeToString(token)
}

// each has the peer call the node, and hands take each part of the answer, as
// [session.each] does.
func (p peer) each(ctx context.Context, f *Fleet, node string, verb edge.Verb, in any, take func(json.RawMessage) error) error {
	call := peerCall{Node: node, Verb: verb}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode %s: %w", verb, err)
		}
		call.Body = body
	}
	data, err := json.Marshal(call)
	if err != nil {
		return fmt.Errorf("encode %s: %w", verb, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL+PeerPath, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("ask the replica at %s: %w", p.URL, err)
	}
	req.Header.Set("Authorization", "Bearer "+f.peerToken())
	answer, err := f.Peers.Do(req)
	if err != nil {
		return p.gone(ctx, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return p.gone(ctx, errors.New(answer.Status))
	}
	for lines := json.NewDecoder(answer.Body); ; {
		var a edge.Answer
		if err := lines.Decode(&a); err != nil {
			return p.gone(ctx, err)
		}
		if len(a.Body) > 0 {
			if err := take(a.Body); err != nil {
				return err
			}
		}
		switch {
		case a.Error != nil:
			return a.Error
		case !a.More:
			return nil
		}
	}
}

// gone says that the peer does not answer, unless that is who asked.
func (p peer) gone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &edge.Error{
		Code: edge.Unavailable, Message: fmt.Sprintf("the node is connected to the replica of the hub at %s, which does not answer: %v", p.URL, err),
		Hint: "try again; if it stays so, see that replicas reach each other there: sedge-hub --replica-address",
	}
}

// ServePeer has a node that is connected here asked for another replica, which shows that it
// has the hub's key.
func (f *Fleet) ServePeer(w http.ResponseWriter, r *http.Request) {
	want := "Bearer " + f.peerToken()
	if f.Replica == "" || subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(want)) != 1 {
		http.Error(w, "this is for replicas of the hub", http.StatusForbidden)
		return
	}
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(partTime))
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPeerCall))
	rc.SetReadDeadline(time.Time{}) // the replica may listen for long
	var call peerCall
	if err == nil {
		err = json.Unmarshal(data, &call)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	lines := json.NewEncoder(w)
	tell := func(a edge.Answer) error {
		rc.SetWriteDeadline(time.Now().Add(partTime))
		return errors.Join(lines.Encode(a), rc.Flush())
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	if rc.Flush() != nil { // so that a stream is known to have begun
		return
	}
	err = f.answerPeer(r.Context(), call, func(part json.RawMessage) error { return tell(edge.Answer{Body: part, More: true}) })
	tell(edge.Answer{Error: toldPeer(err)}) // who asked may have gone
}

// answerPeer calls a node that is connected here.
func (f *Fleet) answerPeer(ctx context.Context, call peerCall, take func(json.RawMessage) error) error {
	f.mu.Lock()
	n := f.nodes[call.Node]
	if n == nil || n.session == nil {
		defer f.mu.Unlock()
		return f.goneLocked(n, call.Node)
	}
	s := n.session
	f.mu.Unlock()
	var in any
	switch {
	case call.Verb == edge.VerbTry:
		var try edge.Try
		if err := json.Unmarshal(call.Body, &try); err != nil {
			return fmt.Errorf("read the function: %w", err)
		}
		in = try
	case call.Body != nil:
		in = call.Body
	}
	return s.each(ctx, call.Verb, in, take)
}

// toldPeer returns err as it is sent.
func toldPeer(err error) *edge.Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*edge.Error](err); ok {
		return e
	}
	return &edge.Error{Code: edge.Internal, Message: err.Error()}
}
