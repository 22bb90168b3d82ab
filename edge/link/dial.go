package link

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/sedge-iot/sedge/edge"
)

const (
	reachTime  = 20 * time.Second // for name, proxy, TLS and the upgrade
	statusText = 200              // bytes that are kept of an answer that is no websocket
)

// A Dialer is how a node comes to its hub. Its fields are set before it is used; Dial is
// not for several goroutines at once.
//
// The proxy of HTTPS_PROXY, but for NO_PROXY, is gone through.
type Dialer struct {
	URL   string             // wss://NAME/v1/link, or ws:// for a hub on this machine
	Hub   ed25519.PublicKey  // that the hub has to have
	Key   ed25519.PrivateKey // the node's
	Trust Trust              // whose certificates hold; the zero Trust is the system's

	// Net makes the connections, or nil for TCP.
	Net func(ctx context.Context, network, address string) (net.Conn, error)

	found *anchor // the hub's authority, by its pin, once it has been seen
}

// A Reply is what the hub has said in the handshake.
type Reply struct {
	Verdict edge.Verdict
	Time    time.Time // at the hub, signed with its key: it has passed for certain. Zero: the hub did not say
}

// Dial makes a session. The proof's Key and Signature are filled in here; its Counter
// must have been stored before, and its join secret is sent to nobody but the hub.
// The reply holds what the hub said, also when there is an error.
//
// The error tells by its type what is wrong: [ErrWrongCA], [ErrWrongTime], [ErrWrongName],
// [ErrWrongHub], [Refused], [Incompatible], [Status]; anything else is a network that
// is not there, or broken. [RetryAfter] tells whether the hub has named a time.
func (d *Dialer) Dial(ctx context.Context, clock Clock, proof edge.Proof) (*Conn, Reply, error) {
	conn, reply, err := d.dial(ctx, clock, proof)
	if err != nil {
		return nil, reply, fmt.Errorf("dial %s: %w", d.URL, err)
	}
	return conn, reply, nil
}

func (d *Dialer) dial(ctx context.Context, clock Clock, proof edge.Proof) (*Conn, Reply, error) {
	u, err := parse(d.URL)
	if err != nil {
		return nil, Reply{}, err
	}
	if len(d.Hub) != ed25519.PublicKeySize || len(d.Key) != ed25519.PrivateKeySize {
		return nil, Reply{}, errors.New("the hub's key or the node's is missing")
	}
	ws, err := d.reach(ctx, u, clock)
	if err != nil {
		return nil, Reply{}, err
	}
	defer context.AfterFunc(ctx, func() { ws.Close() })()
	p, err := begin(ws)
	if err != nil {
		return nil, Reply{}, errors.Join(err, ws.Close())
	}
	conn, reply, err := p.introduce(d.Key, d.Hub, proof)
	if err != nil {
		p.abandon(err)
		return nil, reply, errors.Join(context.Cause(ctx), err)
	}
	return conn, reply, nil
}

// parse returns the URL if a node may dial it.
func parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	switch {
	case u.Host == "" || u.User != nil || u.Fragment != "":
		return nil, errors.New("the URL is not like wss://hub.example.org" + Path)
	case u.Scheme == "wss":
	case u.Scheme == "ws" && loopback(u.Hostname()):
	case u.Scheme == "ws":
		return nil, errors.New("without TLS only a hub on this machine is dialled: write wss instead of ws")
	default:
		return nil, fmt.Errorf("the scheme %.20q is not wss", u.Scheme)
	}
	return u, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}

// open makes the websocket, with TLS as it is configured.
func (d *Dialer) open(ctx context.Context, u *url.URL, conf *tls.Config) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	var line *metered
	ws, answer, err := (&websocket.Dialer{
		NetDialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := d.line(ctx, u, network, address)
			if err != nil {
				return nil, err
			}
			line = &metered{Conn: conn}
			line.left.Store(reachMax)
			context.AfterFunc(ctx, func() { // gorilla looks at deadlines only
				if !line.through.Load() {
					conn.Close()
				}
			})
			return line, nil
		},
		TLSClientConfig: conf,
		ReadBufferSize:  1 << 10,
	}).DialContext(ctx, u.String(), http.Header{"User-Agent": {"sedge-agent"}})
	if err != nil {
		if answer != nil {
			return nil, status(answer)
		}
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		return nil, err
	}
	line.through.Store(true)
	return ws, nil
}

// status says what answered instead of a hub. Of the body gorilla has kept 1 KiB.
func status(r *http.Response) *Status {
	text, _ := io.ReadAll(io.LimitReader(r.Body, statusText)) // as far as it is there
	s := &Status{Code: r.StatusCode, Text: string(bytes.TrimSpace(bytes.ToValidUTF8(text, nil)))}
	if n, err := strconv.ParseInt(r.Header.Get("Retry-After"), 10, 32); err == nil && n > 0 {
		s.After = time.Duration(n) * time.Second
	}
	return s
}
