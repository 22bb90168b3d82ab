package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/link"
	"github.com/sedge-iot/sedge/functions"
)

const (
	glance    = 2 * time.Second // after which a node has seen at the latest how a new function does
	addresses = 16              // that nodes come from: the ports of one might run short
)

// A simNode is a node of a fleet. What a real one has on disk, it has in memory, and it
// runs what it is told without running it.
type simNode struct {
	fleet   *fleet
	dialer  link.Dialer
	proof   edge.Proof
	backoff link.Backoff

	connected atomic.Bool
	at        atomic.Pointer[string] // the digest of what it runs
	since     atomic.Int64           // Unix nanoseconds

	mu      sync.Mutex
	replica *edge.Replica // guarded by mu
}

func newSimNode(f *fleet, i int, v edge.Invitation) (*simNode, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	s := &simNode{fleet: f, replica: edge.NewReplica(edge.Synced{}, edge.Policy{})}
	s.backoff.Random = func() float64 { return mrand.Float64() * f.Window }
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%addresses))}}
	s.dialer = link.Dialer{
		URL: f.URL, Hub: v.HubKey, Key: key, Trust: link.Trust{Pin: v.CA},
		Net: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := from.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return counted{conn, f}, nil
		},
	}
	s.proof = edge.Proof{
		Name: fmt.Sprintf("node-%05d", i), Version: "v1.0.0", Platform: "linux/arm64",
		Labels: map[string]string{"site": fmt.Sprintf("site-%02d", i%20)},
		Join:   &edge.Join{Token: v.Token, Secret: v.Secret},
	}
	return s, nil
}

// run dials until there is a session, keeps to it, and begins anew, until ctx is done. It
// calls joined once the first dial is over.
func (s *simNode) run(ctx context.Context, joined func()) {
	defer joined()
	for ctx.Err() == nil {
		s.fleet.dials()
		s.proof.Counter++
		conn, _, err := s.dialer.Dial(ctx, link.Clock{Now: time.Now()}, s.proof)
		joined()
		lasted := time.Duration(0)
		if err == nil {
			s.proof.Join = nil
			began := time.Now()
			s.stay(ctx, conn)
			lasted = time.Since(began)
		} else {
			s.fleet.fails(reason(err))
		}
		select {
		case <-time.After(s.backoff.Next(lasted, link.RetryAfter(err))):
		case <-ctx.Done():
		}
	}
}

// reason sorts out why a dial has failed.
func reason(err error) string {
	if st, ok := errors.AsType[*link.Status](err); ok {
		return fmt.Sprintf("HTTP %d", st.Code)
	}
	if r, ok := errors.AsType[*link.Refused](err); ok {
		return "refused: " + string(r.Verdict.Code)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Op + ": " + op.Err.Error()
	}
	text := err.Error()
	return text[max(0, len(text)-80):]
}

// stay keeps a session until it ends.
func (s *simNode) stay(ctx context.Context, conn *link.Conn) {
	s.fleet.arrives()
	s.connected.Store(true)
	defer s.connected.Store(false)
	live, stop := context.WithCancel(ctx)
	news := make(chan struct{}, 1) // holds a token when functions have changed
	var telling sync.WaitGroup
	defer telling.Wait()
	defer stop()
	s.mu.Lock()
	s.say(conn, s.replica.Begin()...)
	s.mu.Unlock()
	telling.Go(func() { s.tell(live, conn, news) })
	conn.Serve(ctx, func(data []byte) error { return s.heard(conn, data, news) }) // why it has ended does not matter
}

// tell reports, and says something at least every edge.BeatTime, as a member of a fleet
// does on which nothing runs.
func (s *simNode) tell(live context.Context, conn *link.Conn, news <-chan struct{}) {
	next := time.NewTimer(mrand.N(glance))
	defer next.Stop()
	told := map[string]functions.Revision{}
	for due := time.Now().Add(edge.BeatTime); ; {
		select {
		case <-live.Done():
			return
		case <-news:
			next.Reset(mrand.N(glance))
			continue
		case <-next.C:
		}
		s.mu.Lock()
		if !time.Now().Before(due) {
			s.say(conn, s.replica.Tick()...)
			due = time.Now().Add(edge.BeatTime)
		}
		s.say(conn, untold(told, s.replica.Synced().Functions))
		s.mu.Unlock()
		next.Reset(min(time.Until(due), edge.BeatTime-glance))
	}
}

// untold says how the functions are that were not told yet.
func untold(told map[string]functions.Revision, list []edge.Ref) *edge.Report {
	r := &edge.Report{}
	for _, f := range list {
		if told[f.Name] != f.Revision {
			told[f.Name] = f.Revision
			r.Functions = append(r.Functions, edge.FunctionReport{Name: f.Name, Revision: f.Revision, Phase: edge.Asleep})
		}
	}
	return r
}

// heard does what the hub says.
func (s *simNode) heard(conn *link.Conn, data []byte, news chan<- struct{}) error {
	m, err := s.fleet.heard.decode(data)
	if err != nil {
		return err
	}
	if c, ok := m.(*edge.Call); ok {
		s.say(conn, &edge.Answer{ID: c.ID}) // it can run whatever it is to try
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.replica.Step(m)
	s.say(conn, out.Send...)
	if out.Apply == nil {
		return nil
	}
	s.say(conn, s.replica.Applied(edge.Result{})...)
	s.since.Store(time.Now().UnixNano())
	s.at.Store(&out.Apply.Next.At.Digest)
	select {
	case news <- struct{}{}:
	default:
	}
	return nil
}

func (s *simNode) say(conn *link.Conn, messages ...edge.Message) {
	for _, m := range messages {
		data, err := edge.Encode(m)
		if err != nil {
			s.fleet.fails(err.Error())
			continue
		}
		conn.Send(data) // if that fails, the session has ended
	}
}
