package agent

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// maxLosses is how often a connection may end on a publish before it is given up: a broker
// that takes offence at one ends it each time, and a link that is bad, or a broker that is
// started again, ends it hardly so often before it has confirmed the oldest.
const maxLosses = 8

// repeatAfter is how long a publish that was not confirmed waits to be repeated.
const repeatAfter = 500 * time.Millisecond

func (f *function) outgoing(d *delivery, p devices.Publication) *outgoing {
	return &outgoing{f: f, d: d, lane: d.lane, Outgoing: store.Outgoing{
		Seq: f.a.seq.Add(1), Function: f.name, Lane: d.lane.key, Hops: d.event.Hops + 1, Publication: p,
	}}
}

// send hands publishes of one lane to the bus, in order, to go out over the line.
// Where one is not taken those behind it wait with it. It must not be called with mu
// held, but the line must be the one at the time when mu was: then nothing of the
// lane that an earlier line has lost can still wait to be repeated.
func (f *function) send(line any, out []*outgoing) {
	for i, og := range out {
		f.remember(og.Publication, og.Hops)
		og.lane.bus(f.a).PublishOn(line, og.Publication, og.settled)
		if i < len(out)-1 && f.stops(og, out[i+1:]) {
			return
		}
	}
}

// stops reports whether og was lost, and marks those behind it so if it was. Nor
// is what follows sent once og's delivery was left to another node.
func (f *function) stops(og *outgoing, behind []*outgoing) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if og.state != lost {
		return og.stale()
	}
	for _, b := range behind {
		b.state = lost
	}
	return true
}

// drain sends what is queued in the lane. One goroutine at a time does so,
// or two could turn the order round between them. It must not be called with mu
// held.
func (f *function) drain(l *lane) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l.draining {
		return
	}
	l.draining = true
	for out := l.queuedOut(); len(out) > 0; out = l.queuedOut() {
		line := l.bus(f.a).Line()
		f.mu.Unlock()
		f.send(line, out)
		f.mu.Lock()
	}
	l.draining = false
}

// queuedOut returns the publishes of the lane to send now, and marks them so:
// none behind one that waits to be repeated.
func (l *lane) queuedOut() []*outgoing {
	var out []*outgoing
	for _, og := range l.unsent() {
		switch og.state {
		case lost:
			return out
		case queued:
			og.state = sending
			out = append(out, og)
		}
	}
	return out
}

// settled takes what became of a publish. It is called by the bus, once for
// each time that it was given to it.
func (o *outgoing) settled(err error) {
	f := o.f
	var room [4]*receipt
	done := room[:0]
	f.mu.Lock()
	switch {
	case err != nil:
		f.lostLocked(o, err)
	case o.row:
		f.sentLocked(o)
	default:
		o.state = confirmed
		done = f.confirmedLocked(o.lane, done)
	}
	more := len(f.awaited) > 0 || len(f.ready) > 0 && len(done) > 0 // what waited for a suspect to be cleared
	f.mu.Unlock()
	settle(done)
	if more {
		f.pump()
	}
}

// lostLocked notes that o was not confirmed. It goes to the outbox, unless its lane
// is shared, and tick repeats it.
func (f *function) lostLocked(o *outgoing, err error) {
	if o.stale() {
		return
	}
	o.state = lost
	if errors.Is(err, devices.ErrLost) {
		o.losses++
	}
	if o.losses >= maxLosses && (o.row || o.lane.shared && f.a.leads.Load()) {
		f.giveUpLocked(o, fmt.Sprintf("the connection to the broker ended %d times on the publish to %s", o.losses, o.Publication.Topic))
		return
	}
	f.lost = true
	f.armLocked(time.Now().Add(repeatAfter))
	if !o.row && o.d.stage == publishing {
		f.toOutboxLocked(o.lane, o.d)
	}
}

// stale reports whether o's delivery was left to another node.
func (o *outgoing) stale() bool { return !o.row && o.d.left }

// toOutboxLocked ends the lane's publishing deliveries up to and including
// last: what is not confirmed of them goes to the outbox. Those of a shared lane
// stay, for nothing of them may be stored.
func (f *function) toOutboxLocked(l *lane, last *delivery) {
	if l.shared {
		return
	}
	c := &store.Change{}
	var ended []*delivery
	for _, d := range l.list {
		if d.stage == publishing {
			f.outboxLocked(c, d)
			ended = append(ended, d)
		}
		if d == last {
			break
		}
	}
	if len(ended) == 0 {
		return
	}
	c.Done = f.owedLocked(l)
	f.a.Store.Commit(c, func(err error) {
		if f.complain(err); err == nil {
			f.stored(nil, ended)
		}
	})
}

// outboxLocked adds to c the publishes of d that are not confirmed, and the end
// of d.
func (f *function) outboxLocked(c *store.Change, d *delivery) {
	d.stage = committing
	f.doneLocked(d)
	var left []*outgoing
	for _, og := range d.out {
		if og.state != confirmed {
			og.row, og.d = true, nil
			c.Outbox = append(c.Outbox, og.Outgoing)
			left = append(left, og)
		}
	}
	f.queueLocked(d.lane, left)
	d.remove(c)
}

// sentLocked forgets a publish of the outbox that was confirmed. Its row may go
// later: should the node end before, it is sent once more.
func (f *function) sentLocked(o *outgoing) {
	f.forgetLocked(o.lane, &store.Change{Sent: []int64{o.Seq}})
	f.unqueueLocked(o)
}

// giveUpLocked makes a dead letter of a publish. One of the outbox is rid of at
// once; the delivery of another waits until that is stored.
func (f *function) giveUpLocked(o *outgoing, why string) {
	c := &store.Change{Dead: []store.DeadLetter{{
		Function: f.name, Revision: f.def.Function.Revision, Lane: o.Lane, Seq: o.Seq, Time: time.Now(),
		Failure: functions.Failure{Code: functions.CodePublish, Message: why},
		Event: devices.Event{
			ID: f.a.newID(), Source: devices.Outbox, Time: time.Now(),
			Topic: o.Publication.Topic, Payload: o.Publication.Payload, QoS: o.Publication.QoS,
		},
	}}}
	if o.row {
		c.Sent = []int64{o.Seq}
		f.a.Store.Commit(c, nil)
		f.unqueueLocked(o)
		return
	}
	o.state = sending // it is not repeated, and nothing behind it
	f.a.Store.Commit(c, func(err error) {
		if f.complain(err); err == nil {
			o.settled(nil)
		}
	})
}

// queueLocked puts publishes at the end of the lane's outbox. It has the same
// quota as the inbox: past it, the one that was lost first becomes a dead letter.
func (f *function) queueLocked(l *lane, out []*outgoing) {
	l.out = append(l.out, out...)
	for _, og := range out {
		f.outbox.count++
		f.outbox.bytes += int64(og.size())
	}
	q := f.manifest().Spec.Delivery.Inbox
	for q.Deliveries > 0 && (f.outbox.count > q.Deliveries || f.outbox.bytes > int64(q.Bytes)) { // zero: of a function that is no more
		og := f.firstLostLocked()
		if og == nil {
			return
		}
		f.giveUpLocked(og, "the function's outbox is full")
	}
}

// unqueueLocked takes o out of its lane's outbox.
func (f *function) unqueueLocked(o *outgoing) {
	o.state = confirmed
	l := o.lane
	if i := slices.Index(l.out, o); i >= 0 {
		l.out = slices.Delete(l.out, i, i+1)
		f.outbox.count--
		f.outbox.bytes -= int64(o.size())
	}
	f.dropLaneLocked(l)
}

// firstLostLocked returns the earliest publish that waits to be repeated, or nil.
func (f *function) firstLostLocked() (first *outgoing) {
	for _, l := range f.lanes {
		for _, og := range l.out {
			if og.state != lost {
				continue
			}
			if first == nil || og.Seq < first.Seq {
				first = og
			}
			break
		}
	}
	return first
}

func (o *outgoing) size() int { return len(o.Publication.Topic) + len(o.Publication.Payload) }

// repeatLocked readies the lost publishes to be sent again, and returns their
// lanes: those where nothing is on its way any more, so that the order is kept.
func (f *function) repeatLocked(now time.Time) (again []*lane) {
	if !f.lost {
		return nil
	}
	f.lost = false
	for _, l := range f.lanes {
		unsent := l.unsent()
		has := func(s outState) bool {
			return slices.ContainsFunc(unsent, func(og *outgoing) bool { return og.state == s })
		}
		switch {
		case !has(lost):
		case has(sending):
			f.lost = true // once what is on its way has ended
			f.armLocked(now.Add(repeatAfter))
		default:
			for _, og := range unsent {
				og.state = queued
			}
			again = append(again, l)
		}
	}
	return again
}
