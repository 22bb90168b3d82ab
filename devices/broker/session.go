package broker

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A session is what the broker knows of a client, connected or not.
type session struct {
	broker *Broker
	who    identity
	name   string // what the agent knows it by
	rules  rules
	online atomic.Bool

	mu      sync.Mutex
	conn    *conn                    // or nil
	ready   bool                     // CONNACK has been sent on conn
	ended   bool                     // is forgotten
	kept    bool                     // in the database
	expiry  time.Duration            // that it outlives its connection
	away    time.Time                // since when it has no connection
	will    *message                 // to be published at willDue, or nil
	willDue time.Time                //
	subs    map[string]*subscription // by filter
	exact   map[uint16]*receipt      // packets at QoS 2 that the client has not released

	// Towards the client.
	flying  map[uint16]*parcel // sent and not acknowledged
	waiting []*parcel          // to be sent, in order
	bytes   int                // that they take
	window  int                // how many may fly
	largest int                // bytes of a packet that the client takes, or 0
	lastID  uint16
	lastSeq uint64
	shed    bool // has lost messages since it was last up to date
}

func newSession(b *Broker, who identity) *session {
	return &session{
		broker: b,
		who:    who,
		name:   b.nextName(who),
		rules:  b.acl.of(who),
		subs:   map[string]*subscription{},
		exact:  map[uint16]*receipt{},
		flying: map[uint16]*parcel{},
		away:   time.Now(),
	}
}

// A flag says what a message is to the one who gets it.
type flag byte

const (
	live      flag = iota
	published      // live, with the retain flag that its publisher set
	replay         // retained from before the subscription
)

// deliver sends a message to the session's client, or keeps it until it can.
// r, if not nil, hears of it when the session is one that is kept.
func (s *session) deliver(m *message, to target, flag flag, r *receipt) {
	p := parcel{message: m, session: s, ids: to.ids, qos: min(m.qos, to.qos), retain: flag != live, replay: flag == replay}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended || p.qos == 0 && !s.ready:
	case s.largest > 0 && p.size() > s.largest:
		s.broker.dropped.Add(1)
	case p.qos == 0 && len(s.waiting) == 0 && s.conn.publish(&p):
		s.broker.sent.Add(1)
	default:
		one := p
		s.queueLocked(&one, r)
	}
}

// queueLocked has p sent when its turn comes.
func (s *session) queueLocked(p *parcel, r *receipt) {
	l := &s.broker.limits
	full := len(s.waiting)+len(s.flying) >= l.Queue || s.bytes+p.size() > l.QueueBytes
	if p.replay { // what is retained is bounded by itself
		full = len(s.waiting) >= l.Queue+l.Retained
	}
	if full {
		s.shedLocked()
		return
	}
	s.lastSeq++
	p.seq = s.lastSeq
	s.bytes += p.size()
	s.waiting = append(s.waiting, p)
	if p.qos > 0 && s.kept {
		if r != nil {
			r.left.Add(1)
			p.receipt = r
		}
		s.broker.keeper.hold(p, s.ready)
	}
	s.pumpLocked()
}

// shedLocked counts a message that the session has no room for, and says so
// once until there is room again.
func (s *session) shedLocked() {
	s.broker.dropped.Add(1)
	if !s.shed {
		s.shed = true
		s.broker.log.Warn("queue of a session is full: messages are dropped", "client", s.who.client, "user", s.who.user)
	}
}

// pump sends what waits and may be sent.
func (s *session) pump() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pumpLocked()
}

func (s *session) pumpLocked() {
	if s.conn == nil || !s.ready {
		return
	}
	for len(s.waiting) > 0 {
		p := s.waiting[0]
		if p.qos > 0 {
			if len(s.flying) >= s.window {
				return
			}
			if p.id == 0 {
				p.id = s.nextIDLocked()
			}
		}
		if !s.conn.publish(p) {
			return
		}
		s.broker.sent.Add(1)
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		if p.qos > 0 {
			s.flying[p.id] = p
		} else {
			s.bytes -= p.size()
		}
	}
	s.waiting, s.shed = nil, false
}

// nextIDLocked returns a packet id that is not in use towards the client. The
// ids that the client gives to its own packets are another matter.
func (s *session) nextIDLocked() uint16 {
	for {
		s.lastID++
		if _, used := s.flying[s.lastID]; s.lastID != 0 && !used {
			return s.lastID
		}
	}
}

// acknowledged ends the parcel that the client has acknowledged.
func (s *session) acknowledged(id uint16) {
	s.mu.Lock()
	p := s.flying[id]
	var r *receipt
	if p != nil {
		delete(s.flying, id)
		r = s.finishLocked(p)
		s.pumpLocked()
	}
	s.mu.Unlock()
	if r != nil {
		r.settle()
	}
}

// finishLocked ends a parcel and returns the receipt to settle, or nil.
func (s *session) finishLocked(p *parcel) *receipt {
	p.done = true
	s.bytes -= p.size()
	if p.row > 0 {
		s.broker.keeper.drop(p.row)
	}
	r := p.receipt
	p.receipt = nil
	return r
}

// detach parts the session from its connection; what was sent and not
// acknowledged will be sent again.
func (s *session) detach() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.ready, s.away = nil, false, time.Now()
	s.online.Store(false)
	again := slices.SortedFunc(maps.Values(s.flying), func(a, b *parcel) int { return cmp.Compare(a.seq, b.seq) })
	for _, p := range again {
		p.dup = true
	}
	clear(s.flying)
	s.waiting = append(again, slices.DeleteFunc(s.waiting, func(p *parcel) bool {
		if p.qos == 0 {
			s.bytes -= p.size()
		}
		return p.qos == 0
	})...)
}

// end forgets the session. Nobody waits any longer for what it had to acknowledge.
func (s *session) end() {
	s.mu.Lock()
	s.ended = true
	var due []*receipt
	for _, p := range slices.Concat(slices.Collect(maps.Values(s.flying)), s.waiting) {
		if p.qos == 0 {
			continue
		}
		if r := s.finishLocked(p); r != nil {
			due = append(due, r)
		}
	}
	s.flying, s.waiting = nil, nil
	subs, kept := s.subs, s.kept
	s.subs = nil
	s.mu.Unlock()
	for _, sub := range subs {
		s.broker.topics.remove(sub)
	}
	if kept {
		s.broker.keeper.forget(s.who)
	}
	for _, r := range due {
		r.settle()
	}
}

// subscribe adds or changes a subscription and reports whether it is new, and
// whether it is another than it was.
func (s *session) subscribe(sub *subscription) (added, changed bool) {
	s.mu.Lock()
	old := s.subs[sub.filter]
	if old != nil && *old == *sub {
		s.mu.Unlock()
		return false, false
	}
	s.subs[sub.filter] = sub
	s.mu.Unlock()
	s.broker.topics.add(sub)
	if old != nil {
		s.broker.topics.remove(old)
	}
	return old == nil, true
}

// unsubscribe reports whether there was such a subscription.
func (s *session) unsubscribe(filter string) bool {
	s.mu.Lock()
	sub := s.subs[filter]
	delete(s.subs, filter)
	s.mu.Unlock()
	if sub != nil {
		s.broker.topics.remove(sub)
	}
	return sub != nil
}
