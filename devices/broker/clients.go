package broker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sedge-iot/sedge/edge/sqlite"
)

// greeting is what a client said of itself when it connected.
type greeting struct {
	clean   bool
	expiry  time.Duration
	window  int // packets it takes unacknowledged, or 0
	largest int // bytes of a packet that it takes, or 0
}

// enter gives a connection its session: the one that its client has left, or a
// new one. A connection that still has it is closed first, and has left with
// all that it brought when the new one begins.
func (b *Broker) enter(c *conn, g greeting) error {
	for c.session == nil {
		rival, over := b.tryEnter(c, g)
		for _, s := range over {
			s.end()
		}
		if rival == nil {
			break
		}
		if rival.version == 5 {
			b.mochi.DisconnectClient(rival.client, packets.ErrSessionTakenOver)
		}
		rival.Close()
		<-rival.gone
		b.tookOver(c.who)
	}
	return b.keep(c.session, g.expiry)
}

// tryEnter attaches c to its session, unless a rival still has it, and returns
// the sessions that are over by that.
func (b *Broker) tryEnter(c *conn, g greeting) (rival *conn, over []*session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sessions[c.who]
	if s != nil && s.online.Load() {
		return s.conn, nil
	}
	if s != nil && g.clean {
		over = append(over, s)
		s = nil
	}
	c.present = s != nil
	if s == nil {
		over = append(over, b.makeRoomLocked()...)
		s = newSession(b, c.who)
		b.sessions[c.who] = s
	}
	s.attach(c, g)
	c.session = s
	return nil, over
}

// attach gives the session a connection.
func (s *session) attach(c *conn, g greeting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.will = c, nil
	s.window, s.largest = s.broker.limits.Unacked/2, g.largest
	if g.window > 0 {
		s.window = min(s.window, g.window)
	}
	s.online.Store(true)
}

// makeRoomLocked takes out the session that is away longest, if there are as
// many as there may be.
func (b *Broker) makeRoomLocked() []*session {
	if len(b.sessions) < b.limits.Sessions {
		return nil
	}
	var oldest *session
	for _, s := range b.sessions {
		if !s.online.Load() && (oldest == nil || s.away.Before(oldest.away)) {
			oldest = s
		}
	}
	if oldest == nil {
		return nil
	}
	b.log.Warn("too many sessions: the one that is away longest is forgotten", "client", oldest.who.client, "user", oldest.who.user)
	delete(b.sessions, oldest.who)
	return []*session{oldest}
}

// keep stores a session that is to outlive its connection, when it is new or
// has changed.
func (b *Broker) keep(s *session, expiry time.Duration) error {
	s.mu.Lock()
	same := s.kept == (expiry > 0) && s.expiry == expiry
	s.expiry = expiry
	s.mu.Unlock()
	if same || expiry == 0 || b.keeper == nil {
		return nil
	}
	err := b.keeper.write(func(tx *sqlite.Tx) error { return putSession(tx, s, expiry) })
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = true
	return nil
}

// begin lets messages go to a client that has its CONNACK.
func (s *session) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = true
	s.pumpLocked()
}

// leave parts a client from its session. err is why it left, nil if it said
// goodbye; otherwise its will is done.
func (b *Broker) leave(c *conn, err error) {
	defer close(c.gone)
	c.Close()
	b.mu.Lock()
	delete(b.conns, c)
	s := c.session
	if s == nil {
		b.mu.Unlock()
		return
	}
	b.retireMochi(c)
	s.mu.Lock()
	s.expiry = b.expiryOf(c)
	s.mu.Unlock()
	s.detach()
	over := s.expiry == 0
	if over {
		delete(b.sessions, s.who)
	}
	b.mu.Unlock()
	if over {
		s.end()
	}
	if err == nil || c.will == nil {
		return
	}
	b.log.Debug("client is gone", "client", c.who.client, "user", c.who.user, "err", err)
	if c.delay == 0 || over {
		b.bequeath(c.will)
		return
	}
	s.mu.Lock()
	s.will, s.willDue = c.will, time.Now().Add(c.delay)
	s.mu.Unlock()
	b.look()
}

// bequeath publishes a will.
func (b *Broker) bequeath(m *message) {
	if !m.from.rules.allow(m.topic, writing) {
		return
	}
	if m.qos == 0 {
		b.spread(m, nil, nil)
		return
	}
	r := &receipt{done: func(error) {}}
	r.left.Store(1)
	b.spread(m, r, nil)
	r.settle()
}

// look has tidy look again.
func (b *Broker) look() {
	select {
	case b.alarm <- struct{}{}:
	default:
	}
}

// tidy publishes wills that were to wait, and forgets sessions whose clients
// have been away too long, until ctx ends.
func (b *Broker) tidy(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.alarm:
		case <-timer.C:
		}
		timer.Reset(b.tidyUp(time.Now()))
	}
}

// tidyUp does what is due and returns when to look again.
func (b *Broker) tidyUp(now time.Time) time.Duration {
	next := time.Hour
	var wills []*message
	var over []*session
	b.mu.Lock()
	for who, s := range b.sessions {
		s.mu.Lock()
		if s.conn == nil && s.will != nil {
			if left := s.willDue.Sub(now); left <= 0 {
				wills = append(wills, s.will)
				s.will = nil
			} else {
				next = min(next, left)
			}
		}
		if s.conn == nil {
			if left := s.away.Add(s.expiry).Sub(now); left <= 0 {
				delete(b.sessions, who)
				over = append(over, s)
				if s.will != nil {
					wills = append(wills, s.will)
				}
			} else {
				next = min(next, left)
			}
		}
		s.mu.Unlock()
	}
	b.mu.Unlock()
	for _, m := range wills {
		b.bequeath(m)
	}
	for _, s := range over {
		s.end()
	}
	return next
}

// closeAll closes every connection, and those that come.
func (b *Broker) closeAll() {
	b.mu.Lock()
	b.closing = true
	all := slices.Collect(maps.Keys(b.conns))
	b.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
}

// all returns the sessions.
func (b *Broker) all() []*session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.sessions))
}

// subscribed takes the subscriptions that a client has been granted, and
// returns when they are on disk.
func (b *Broker) subscribed(c *conn, subs []*subscription, fresh func(i int, added bool)) error {
	var changed []*subscription
	for i, sub := range subs {
		added, other := c.session.subscribe(sub)
		fresh(i, added)
		if other {
			changed = append(changed, sub)
		}
	}
	if len(changed) == 0 || !c.session.kept {
		return nil
	}
	return b.keeper.write(func(tx *sqlite.Tx) error {
		var errs []error
		for _, sub := range changed {
			errs = append(errs, putSubscription(tx, sub))
		}
		return errors.Join(errs...)
	})
}

// unsubscribed takes subscriptions away.
func (b *Broker) unsubscribed(c *conn, filters []string) error {
	filters = slices.DeleteFunc(filters, func(f string) bool { return !c.session.unsubscribe(f) })
	if len(filters) == 0 || !c.session.kept {
		return nil
	}
	return b.keeper.write(func(tx *sqlite.Tx) error {
		var errs []error
		for _, f := range filters {
			errs = append(errs, dropSubscription(tx, c.who, f))
		}
		return errors.Join(errs...)
	})
}

// repeat sends the retained messages that subscriptions ask for.
func (b *Broker) repeat(s *session, subs []*subscription) {
	b.retain.mu.RLock()
	defer b.retain.mu.RUnlock()
	for _, sub := range subs {
		to := target{session: s, qos: sub.qos}
		if sub.id > 0 {
			to.ids = []int{sub.id}
		}
		for m := range b.retain.allLocked(sub.filter) {
			if s.rules.allow(m.topic, reading) {
				s.deliver(m, to, replay, nil)
			}
		}
	}
}
