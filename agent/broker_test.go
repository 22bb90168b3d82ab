package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/devices"
)

// A broker keeps the node's session: what it has not acknowledged it gets again.
type broker struct {
	g *game

	mu      sync.Mutex
	lastID  uint16
	session []*parcel // not acknowledged, in order
	out     []devices.Publication
}

type parcel struct {
	m     devices.Message
	tries int
	conn  int // the connection on which it was sent last
}

func (b *broker) say(topic, payload string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lastID++
	b.session = append(b.session, &parcel{m: devices.Message{
		Topic: topic, Payload: []byte(payload), QoS: 1, PacketID: b.lastID, Session: "s",
	}})
	stir(b.g.line.wake)
}

func (b *broker) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.session)
}

func (b *broker) published(topic string) (payloads []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.out {
		if p.Topic == topic {
			payloads = append(payloads, string(p.Payload))
		}
	}
	return payloads
}

// A line is what a node has of the broker, until the node dies.
type line struct {
	b    *broker
	wake chan struct{} // holds a token when there may be something to hear
	sent chan struct{} // holds a token when something was published

	conn    int // which connection this is; guarded by b.mu, as is all below
	dead    bool
	ending  bool // a connection has ended, and not all that was on it is told so
	paused  bool
	flight  []*publish // on its way to the broker
	arrived []*publish // there, and not confirmed
}

var errNoConnection = errors.New("no connection")

type publish struct {
	devices.Publication
	done  func(error)
	ready bool // to be confirmed; guarded by the broker's mu
}

func stir(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *line) Run(ctx context.Context, hear func(devices.Message)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	wg.Go(func() { l.carry(ctx) })
	l.b.mu.Lock()
	l.conn = 1
	for _, p := range l.b.session {
		p.conn = 0
	}
	l.b.mu.Unlock()
	for {
		for m, ok := l.next(); ok; m, ok = l.next() {
			hear(m)
		}
		select {
		case <-ctx.Done():
			l.drop()
			return nil
		case <-l.wake:
		}
	}
}

// next returns the next message that was not sent on this connection.
func (l *line) next() (devices.Message, bool) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	if l.dead || l.paused {
		return devices.Message{}, false
	}
	for _, p := range l.b.session {
		if p.conn == l.conn {
			continue
		}
		p.conn = l.conn
		m := p.m
		m.Dup = p.tries > 0
		m.Ack = &puback{l, p, l.conn}
		p.tries++
		return m, true
	}
	return devices.Message{}, false
}

type puback struct {
	l    *line
	p    *parcel
	conn int
}

func (a *puback) Ack() {
	b := a.l.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if !a.l.dead && a.conn == a.l.conn {
		b.session = slices.DeleteFunc(b.session, func(p *parcel) bool { return p == a.p })
	}
}

// carry lets publishes arrive, one after the other, and confirms them.
func (l *line) carry(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	turn := make(chan struct{}, 1) // confirmations are told one after another
	for {
		if l := l.b.g.luck("carriage"); l.chance(3) {
			time.Sleep(l.upTo(80 * time.Millisecond))
		}
		l.b.mu.Lock()
		var p *publish
		if len(l.flight) > 0 {
			p = l.flight[0]
			l.flight = l.flight[1:]
			l.arrived = append(l.arrived, p)
			l.b.out = append(l.b.out, p.Publication)
		}
		l.b.mu.Unlock()
		if p != nil {
			wg.Go(func() { l.confirm(p, turn) })
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-l.sent:
		}
	}
}

// confirm confirms a publish that has arrived; those on one topic in their order,
// as brokers have to, those on different topics in any.
func (l *line) confirm(p *publish, turn chan struct{}) {
	if luck := l.b.g.luck("confirmation"); luck.chance(3) {
		time.Sleep(luck.upTo(80 * time.Millisecond))
	}
	turn <- struct{}{}
	defer func() { <-turn }()
	l.b.mu.Lock()
	p.ready = true
	var confirmed []*publish
	held := map[string]bool{}
	l.arrived = slices.DeleteFunc(l.arrived, func(q *publish) bool {
		if !q.ready || held[q.Topic] {
			held[q.Topic] = true
			return false
		}
		confirmed = append(confirmed, q)
		return true
	})
	l.b.mu.Unlock()
	for _, q := range confirmed {
		q.done(nil)
	}
}

// drop ends the connection and opens another.
func (l *line) drop() { l.end(false) }

// die ends the line for good, in the middle of everything.
func (l *line) die() { l.end(true) }

// end ends the connection. Of what was on its way to the broker some has arrived.
func (l *line) end(dead bool) {
	arrived := l.b.g.luck("end of a connection").IntN(3)
	l.b.mu.Lock()
	was := l.dead
	l.conn++
	l.ending, l.dead = true, l.dead || dead
	flight, unconfirmed := l.flight, append(l.arrived, l.flight...)
	l.flight, l.arrived = nil, nil
	for i, p := range flight {
		if i < arrived && !was {
			l.b.out = append(l.b.out, p.Publication)
		}
	}
	l.b.mu.Unlock()
	for _, p := range unconfirmed {
		p.done(devices.ErrLost)
	}
	l.b.mu.Lock()
	l.ending = false
	l.b.mu.Unlock()
	stir(l.wake)
}

func (l *line) Subscribe([]string) {}

// A connection is what Line returns.
type connection struct {
	l *line
	n int
}

func (l *line) Line() any {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	if l.ending {
		return nil
	}
	return connection{l, l.conn}
}

func (l *line) PublishOn(line any, p devices.Publication, done func(error)) {
	if luck := l.b.g.luck("preemption"); luck.chance(8) {
		time.Sleep(luck.upTo(5 * time.Millisecond))
	}
	l.b.mu.Lock()
	if l.dead || l.ending || line != (connection{l, l.conn}) {
		l.b.mu.Unlock()
		done(errNoConnection)
		return
	}
	l.flight = append(l.flight, &publish{Publication: p, done: done})
	l.b.mu.Unlock()
	stir(l.sent)
}

func (l *line) Pause() { l.pause(true) }

func (l *line) Resume() { l.pause(false) }

func (l *line) pause(on bool) {
	l.b.mu.Lock()
	l.paused = on
	if on {
		l.conn++
	}
	l.b.mu.Unlock()
	stir(l.wake)
}
