package link

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/sedge-iot/sedge/edge"
)

// Path is where a hub has its link.
const Path = "/v1/link"

const (
	underwayMax = 2048            // handshakes at once: four seconds of a fleet of 10,000 that comes back
	again       = 5 * time.Second // when a node that found no room may come again, before its jitter
)

// A Gate is where nodes come in at the hub. Its fields are set before it is used; Accept
// may be called from several goroutines.
type Gate struct {
	Key ed25519.PrivateKey // the hub's

	// Admit decides about a node that has proved that it has the key proof.Key. It has
	// what is left of the handshake's ten seconds, by ctx. A node that is admitted may
	// not hear of it, and comes again: the same key with the same join secret is to be
	// admitted as before.
	Admit func(ctx context.Context, proof edge.Proof, remote string) edge.Verdict

	// Now is the time that nodes are told, which they take for a time that has
	// passed for certain. The zero time says that the hub does not know; nil is time.Now.
	Now func() time.Time

	// Handshakes is how many may be under way at once; 0 is for 2,048.
	Handshakes int

	underway atomic.Int32
	buffers  sync.Pool // for writing
}

// An Arrival is who has come, and what the hub has said to it.
type Arrival struct {
	Proof   edge.Proof
	Verdict edge.Verdict
}

// Accept makes a session of a request. It takes ten seconds at most, one more to say
// what is wrong, and has then answered the request in any case: the handler has nothing
// left to do but to hand the connection to whoever calls [Conn.Serve], and to return. The
// request's context ends with the handler.
//
// The error says why there is no session; if Admit wants none it is a [Refused]. The
// arrival holds what is known, also when there is an error.
//
// Before it there is an http.Server, whose ReadHeaderTimeout limits how long TLS and
// the request may take.
func (g *Gate) Accept(w http.ResponseWriter, r *http.Request) (*Conn, Arrival, error) {
	defer g.underway.Add(-1)
	if most := g.most(); int(g.underway.Add(1)) > most {
		w.Header().Set("Retry-After", strconv.Itoa(int(again/time.Second)))
		http.Error(w, "too many nodes come at once: come again later", http.StatusServiceUnavailable)
		return nil, Arrival{}, fmt.Errorf("%d handshakes are under way", most)
	}
	ws, err := g.upgrade(w, r)
	if err != nil {
		return nil, Arrival{}, fmt.Errorf("upgrade the request: %w", err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), handshakeTime)
	defer cancel()
	p, err := begin(ws)
	if err != nil {
		return nil, Arrival{}, errors.Join(err, ws.Close())
	}
	conn, arrival, err := p.welcome(g.Key, g.now(), func(proof edge.Proof) edge.Verdict {
		return g.Admit(ctx, proof, r.RemoteAddr)
	})
	if err != nil {
		p.abandon(err)
		return nil, arrival, err
	}
	return conn, arrival, nil
}

func (g *Gate) most() int {
	if g.Handshakes > 0 {
		return g.Handshakes
	}
	return underwayMax
}

func (g *Gate) now() time.Time {
	if g.Now != nil {
		return g.Now()
	}
	return time.Now()
}

// upgrade answers the request. The buffer for reading is small: most of the time most links
// are idle, and gorilla reads what is larger past it. Those for writing are shared, and as
// large as a record of TLS, so that a change is one record and one call of the kernel.
func (g *Gate) upgrade(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
	up := websocket.Upgrader{
		HandshakeTimeout: handshakeTime,
		ReadBufferSize:   256,
		WriteBufferSize:  16 << 10,
		WriteBufferPool:  &g.buffers,
		CheckOrigin:      func(r *http.Request) bool { return r.Header.Get("Origin") == "" }, // no web page is a node
	}
	return up.Upgrade(w, r, nil)
}
