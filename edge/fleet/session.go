package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/link"
)

// How many messages a node may say, but for answers and fetches, which who asks and the
// bandwidth limit.
const (
	paceRate  = 20 // a second
	paceBurst = 600
)

// A session is a node while it is connected.
type session struct {
	fleet *Fleet
	conn  *link.Conn
	id    string // the node's
	name  string // that the node had as it came
	proof edge.Proof
	from  string // its address
	calls calls
	slot  int // the second of a beat that is its turn

	told   order // of versions; guarded by Fleet.mu
	seated int64 // the last read of the ledger that had begun before; guarded by Fleet.mu

	pace     *rate.Limiter // of what costs the hub something
	reported bool          // the first report has come; of the receiving goroutine

	mu   sync.Mutex // taken before Fleet.mu, where both are
	feed *edge.Feed // guarded by mu
	old  *edge.Set  // that it had before; guarded by mu
	want *edge.Set  // guarded by mu
}

func newSession(f *Fleet, conn *link.Conn, a link.Arrival, from string) *session {
	s := &session{fleet: f, conn: conn, id: a.Verdict.ID, name: a.Verdict.Name, proof: a.Proof, from: from, feed: edge.NewFeed(nil), pace: rate.NewLimiter(paceRate, paceBurst)}
	s.proof.Join, s.proof.Signature, s.proof.Labels = nil, nil, nil
	for _, c := range s.id {
		s.slot = (s.slot*31 + int(c)) % beatSlots
	}
	return s
}

// run serves the session to its end.
func (s *session) run(ctx context.Context) {
	if !s.fleet.seat(s) {
		s.conn.Close("a later session of this node stands already")
	}
	err := s.conn.Serve(ctx, func(data []byte) error {
		return apart(func() error { return s.heard(ctx, data) })
	})
	s.fleet.leave(s, err)
}

// apart runs do on a stack of its own, and waits for it: what reads JSON takes a large one,
// and those of thousands of goroutines that wait for a message are to stay small.
func apart(do func() error) (err error) {
	var done sync.WaitGroup
	done.Go(func() { err = do() })
	done.Wait()
	return err
}

// seat makes s the session of its node, in place of an earlier one. It reports whether it is.
// Whether the node may have one is looked at by the next refresh, if it is not known to
// be a member.
func (f *Fleet) seat(s *session) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[s.id]
	if n == nil {
		n = &node{}
		n.is.ID, n.is.Name = s.id, s.name
		f.nodes[s.id] = n
	}
	if n.session != nil {
		if n.session.proof.Counter >= s.proof.Counter {
			return false
		}
		n.session.conn.Close("another session of this node has begun")
	}
	s.seated = f.reads
	n.session, n.elsewhere, n.dirty, n.refusal = s, "", true, nil
	n.begun = true
	n.owe(atOnce)
	n.is.Counter, n.is.Address, n.is.Seen = s.proof.Counter, s.from, time.Now()
	n.is.Version, n.is.Platform = shared(clipped(s.proof.Version)), shared(clipped(s.proof.Platform))
	if !n.member() {
		f.Changed()
	}
	f.changedLocked()
	return true
}

// leave notes that a session has ended.
func (f *Fleet) leave(s *session, why error) {
	name := s.id
	f.mu.Lock()
	if n := f.nodes[s.id]; n != nil {
		name = n.is.Name
		if n.session == s {
			n.session, n.dirty, n.is.Seen = nil, true, time.Now()
			n.owe(atOnce)
			f.changedLocked()
		}
	}
	f.mu.Unlock()
	gone := &edge.Error{Code: edge.Unavailable, Message: fmt.Sprintf("the session of node %s ended before it answered", name), Hint: "try again once it is back"}
	s.calls.end(gone)
	if errors.Is(why, link.ErrSlow) {
		f.counts.slow.Add(1)
	}
	f.Logger.Debug("node disconnected", "node", name, "err", why)
}

// heard takes a message of the node. An error ends the session.
func (s *session) heard(ctx context.Context, data []byte) error {
	f := s.fleet
	f.counts.heard.Add(1)
	m, err := edge.Decode(data)
	if errors.Is(err, edge.ErrUnknown) {
		f.counts.unknown.Add(1)
		return nil
	}
	if err != nil {
		f.counts.malformed.Add(1)
		return err
	}
	switch m.(type) {
	case *edge.Answer, *edge.Fetch, *edge.UpgradeFetch:
	default:
		if !s.pace.Allow() {
			f.counts.malformed.Add(1)
			return fmt.Errorf("more than %d messages a second", paceRate)
		}
	}
	switch m := m.(type) {
	case *edge.At:
		s.at(m)
	case *edge.Refusal:
		s.refused(m)
	case *edge.Fetch:
		s.fetched(ctx, m)
	case *edge.UpgradeFetch:
		s.sent(ctx, m)
	case *edge.Report:
		f.reported(s, m)
	case *edge.Answer:
		s.calls.answered(m)
	default:
		f.counts.malformed.Add(1)
		return fmt.Errorf("a node does not say %s", m.Kind())
	}
	return nil
}

// at takes where the node is.
func (s *session) at(m *edge.At) {
	f := s.fleet
	if len(m.Discarded) > edge.MaxFunctions {
		m.Discarded = nil // no node has so many
	}
	f.mu.Lock()
	n := f.nodes[s.id]
	if n.session != s {
		f.mu.Unlock()
		return
	}
	n.keepUnfit(m.Unfit)
	n.refusal, n.discarded = nil, m.Discarded
	n.owe(atOnce)
	f.movedLocked(n, at(m.At))
	f.mu.Unlock()
	s.tell(m)
}

// refused keeps why the node did not take what it was told, and notes it in the audit.
func (s *session) refused(m *edge.Refusal) {
	f := s.fleet
	f.counts.balked.Add(1)
	f.mu.Lock()
	n := f.nodes[s.id]
	if n.session != s {
		f.mu.Unlock()
		return
	}
	kept := edge.Refusal{Of: edge.Kind(cut(string(m.Of))), To: at(m.To), At: at(m.At), Reason: edge.RefusalReason(cut(string(m.Reason))), Why: cut(m.Why)}
	again := n.refusal != nil && n.refusal.Reason == kept.Reason && n.refusal.To == kept.To
	n.refusal = &kept
	n.owe(atOnce)
	f.movedLocked(n, kept.At)
	name := n.is.Name
	f.mu.Unlock()
	s.tell(m)
	if again {
		return
	}
	if _, ok := f.refusals.may(); !ok {
		return
	}
	detail := fmt.Sprintf("%s to %d: %s: %s", kept.Of, kept.To.Revision, kept.Reason, kept.Why)
	if err := f.Ledger.Note(ledger.Who{By: "node/" + name, Address: s.from}, "sync.refused", "node/"+name, detail); err != nil {
		f.Logger.Error("refusal cannot be noted", "node", name, "why", detail, "err", err)
	}
}

// at makes a position that a node says one that may be kept.
func at(p edge.Position) edge.Position {
	if len(p.Epoch) > 64 || len(p.Digest) > 64 {
		return edge.Position{}
	}
	return edge.Position{Epoch: shared(p.Epoch), Revision: p.Revision, Digest: shared(p.Digest)}
}

// tell has the feed lead to what the node is to have by now, and hear m, unless that is nil.
func (s *session) tell(m edge.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set := s.fleet.setOf(s)
	if set != s.want {
		s.old, s.want = s.want, set
	}
	messages := s.feed.Want(set)
	if m != nil {
		messages = append(messages, s.feed.Heard(m)...)
	}
	s.sayLocked(messages)
}

// beat says what is to be said from time to time.
func (s *session) beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sayLocked(s.feed.Tick())
}

func (s *session) sayLocked(messages []edge.Message) {
	for _, m := range messages {
		if c, ok := m.(*edge.Current); ok {
			c.Time = s.fleet.Now()
		}
		if err := s.say(m); err != nil {
			s.fleet.Logger.Debug("message not sent", "node", s.id, "kind", m.Kind(), "err", err)
		}
	}
}

// say sends a message. If that cannot be, for more than its size, the session is over.
func (s *session) say(m edge.Message) error {
	data, err := edge.Encode(m)
	if err != nil {
		return err
	}
	s.fleet.counts.said.Add(1)
	return s.conn.Send(data)
}

// fetched answers a fetch, as fast as all together may. The node gets only what it is
// to run, or to try.
func (s *session) fetched(ctx context.Context, m *edge.Fetch) {
	s.mu.Lock()
	s.feed.Heard(m)
	name := cmp.Or(nameOf(s.want, m.Revision), nameOf(s.old, m.Revision))
	s.mu.Unlock()
	chunk, err := s.fleet.library.cut(ctx, s.id, name, *m)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.fleet.Logger.Error("function cannot be read", "fn", name, "revision", m.Revision.Short(), "err", err)
		return // the node asks again
	}
	if err := s.say(chunk); err != nil {
		s.fleet.Logger.Debug("function not sent", "node", s.id, "err", err)
	}
}

// reported keeps a report.
func (f *Fleet) reported(s *session, m *edge.Report) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.nodes[s.id]; n.session == s {
		n.heard(m, !s.reported)
		n.owe(soon)
		f.changedLocked()
	}
	s.reported = true
}
