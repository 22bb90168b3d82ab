package broker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/devices"
)

// maxEcho is how many messages may wait for the agent that are its own, or
// retained from before it wanted them.
const maxEcho = 1 << 16

// errPaused is what becomes of publications that wait for the agent itself.
var errPaused = errors.New("the agent has stopped taking")

// Subscribe makes filters, in MQTT's form, what the agent wants from now on. For
// each that it did not want before, it is handed the retained messages once.
func (b *Broker) Subscribe(filters []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for filter, sub := range b.wanted {
		if !slices.Contains(filters, filter) {
			delete(b.wanted, filter)
			b.topics.remove(sub)
		}
	}
	for _, filter := range filters {
		if b.wanted[filter] != nil || checkFilter(filter) != nil {
			continue
		}
		sub := &subscription{filter: filter}
		b.wanted[filter] = sub
		b.topics.add(sub)
		b.retain.mu.RLock()
		for m := range b.retain.allLocked(filter) {
			b.echo.add(devices.Message{Topic: m.topic, Payload: m.payload, QoS: m.qos, Retained: true})
		}
		b.retain.mu.RUnlock()
	}
}

// Publish takes a message from the agent to whoever wants it. It never waits.
// done is called once, maybe before Publish returns: with nil when the message
// is delivered as far as it must be, which at QoS 1 is when every session that
// is kept has acknowledged or stored it, and the agent, if it wants the message
// itself, has acknowledged it. What the end of Run cuts off gets an error or no
// word at all.
func (b *Broker) Publish(p devices.Publication, done func(error)) { b.PublishOn(nil, p, done) }

// Line is nil: between broker and agent there is nothing that breaks.
func (b *Broker) Line() any { return nil }

// PublishOn is [Broker.Publish], over the only line that there is.
func (b *Broker) PublishOn(_ any, p devices.Publication, done func(error)) {
	if b.over.Load() {
		done(errClosed)
		return
	}
	if err := devices.CheckTopic(p.Topic); err != nil {
		done(err)
		return
	}
	m := &message{topic: p.Topic, payload: p.Payload, qos: min(p.QoS, 2), retain: p.Retain}
	if m.qos == 0 {
		b.spread(m, nil, nil)
		done(nil)
		return
	}
	r := &receipt{done: done}
	r.left.Store(1)
	b.spread(m, r, nil)
	r.settle()
}

// Pause stops taking what would have to be acknowledged: clients that wait for
// an acknowledgement are closed, so that they will repeat what they sent, and
// what others send at QoS 1 and 2 stays unread until Resume.
//
// The agent's own publications that it has not acknowledged itself have failed.
func (b *Broker) Pause() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.paused != nil {
		return
	}
	b.paused = make(chan struct{})
	for c := range b.conns {
		if c.busy() {
			c.Close()
		}
	}
	for _, s := range b.sessions {
		s.unregister()
	}
	b.echo.fail(errPaused)
}

// Resume undoes Pause.
func (b *Broker) Resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.paused != nil {
		close(b.paused)
		b.paused = nil
	}
}

// proceed waits while the broker is paused. It returns false if the client is
// closed meanwhile.
func (b *Broker) proceed(c *conn) bool {
	for {
		b.mu.Lock()
		paused := b.paused
		b.mu.Unlock()
		if paused == nil {
			return true
		}
		select {
		case <-paused:
		case <-c.closed:
			return false
		}
	}
}

// unregister forgets packets at QoS 2 that the agent has not acknowledged: they
// will be handed over again.
func (s *session) unregister() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.exact, func(_ uint16, r *receipt) bool { return !r.acked })
}

// An echo hands to the agent, one after the other, what does not come from a
// device just now, so that Publish and Subscribe never call hear themselves.
type echo struct {
	broker *Broker
	name   string
	wake   chan struct{} // holds a token when there is something

	mu      sync.Mutex
	waiting []devices.Message     // guarded by mu
	unacked map[*receipt]struct{} // guarded by mu; of what was added
	lastID  uint16                // guarded by mu
}

func newEcho(b *Broker) *echo {
	return &echo{broker: b, name: "#" + b.boot, wake: make(chan struct{}, 1), unacked: map[*receipt]struct{}{}}
}

// add queues a message. Above QoS 0 it gets a packet id of its own.
func (e *echo) add(m devices.Message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiting) >= maxEcho {
		e.broker.dropped.Add(1)
		if m.Ack != nil {
			m.Ack.Ack()
		}
		return
	}
	m.Session = e.name
	if m.QoS > 0 {
		e.lastID = max(e.lastID+1, 1)
		m.PacketID = e.lastID
	}
	switch r, ok := m.Ack.(*receipt); {
	case ok:
		r.echo = e
		e.unacked[r] = struct{}{}
	case m.QoS > 0:
		m.Ack = nothing{}
	}
	e.waiting = append(e.waiting, m)
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// forget notes that a message is acknowledged.
func (e *echo) forget(r *receipt) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.unacked, r)
}

// fail gives up what is not acknowledged.
func (e *echo) fail(err error) {
	e.mu.Lock()
	all := e.unacked
	e.unacked = map[*receipt]struct{}{}
	e.mu.Unlock()
	for r := range all {
		r.fail(err)
	}
}

// run hands the messages over until ctx ends.
func (e *echo) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
		}
		e.mu.Lock()
		all := e.waiting
		e.waiting = nil
		e.mu.Unlock()
		hear := e.broker.hear.Load()
		if hear == nil {
			return
		}
		for _, m := range all {
			m.Time = time.Now()
			(*hear)(m)
		}
	}
}

// nothing is the acknowledgement that nobody waits for.
type nothing struct{}

func (nothing) Ack() {}
