package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// maxLosses is how often a connection may end on a publish before it is given up.
const maxLosses = 3

// repeatAfter is how long a publish that was not confirmed waits to be repeated.
const repeatAfter = 500 * time.Millisecond

func (f *function) outgoing(d *delivery, p devices.Publication) *outgoing {
	return &outgoing{f: f, d: d, lane: d.lane, Outgoing: store.Outgoing{
		Seq: f.a.seq.Add(1), Function: f.name, Lane: d.lane.key, Hops: d.event.Hops + 1, Publication: p,
	}}
}

// settled takes what became of a publish. It is called by the bus, once for
// each time that it was given to it.
func (o *outgoing) settled(err error) {
	f := o.f
	f.mu.Lock()
	var r *receipt
	var send []*outgoing
	switch {
	case err == nil && o.row:
		o.state = confirmed
		f.sentLocked(o)
		send = f.sendableLocked(o.lane, nil)
	case err == nil:
		o.state = confirmed
		if o.d.stage == publishing {
			r = f.confirmedLocked(o.d)
		}
	default:
		f.lostLocked(o, err)
	}
	f.mu.Unlock()
	r.settle()
	for _, og := range send {
		f.a.Bus.Publish(og.Publication, og.settled)
	}
}

// lostLocked notes that o was not confirmed. It goes to the outbox, from where
// tick repeats it.
func (f *function) lostLocked(o *outgoing, err error) {
	o.state = lost
	if errors.Is(err, devices.ErrLost) {
		o.losses++
	}
	if o.losses >= maxLosses {
		f.giveUpLocked(o)
		return
	}
	f.lost = true
	f.armLocked(time.Now().Add(repeatAfter))
	if !o.row && o.d.stage == publishing {
		f.toOutboxLocked(o.lane, o.d)
	}
}

// toOutboxLocked ends the lane's publishing deliveries up to and including
// last: what is not confirmed of them goes to the outbox.
func (f *function) toOutboxLocked(l *lane, last *delivery) {
	c := &store.Change{}
	var ended []*delivery
	for _, d := range l.list {
		if d.stage != publishing {
			break
		}
		f.outboxLocked(c, d)
		ended = append(ended, d)
		if d == last {
			break
		}
	}
	f.a.Store.Commit(c, func(err error) {
		if err == nil {
			f.stored(nil, ended)
		}
	})
}

// outboxLocked adds to c the publishes of d that are not confirmed, and the end
// of d.
func (f *function) outboxLocked(c *store.Change, d *delivery) {
	d.stage = committing
	for _, og := range d.out {
		if og.state == confirmed {
			continue
		}
		og.row = true
		c.Outbox = append(c.Outbox, og.Outgoing)
		d.lane.out = append(d.lane.out, og)
	}
	d.remove(c)
}

// outboxedLocked follows the commit: d is done.
func (f *function) outboxedLocked(d *delivery) *receipt {
	f.latency.add(time.Since(d.heard))
	f.seen.done(d)
	return f.finishLocked(d, edge.StepDone)
}

// sentLocked forgets a publish of the outbox that was confirmed. Its row may go
// later: should the node end before, it is sent once more.
func (f *function) sentLocked(o *outgoing) {
	f.a.Store.Commit(&store.Change{Sent: []int64{o.Seq}, Lazy: true}, nil)
	l := o.lane
	for i, other := range l.out {
		if other == o {
			l.out = append(l.out[:i], l.out[i+1:]...)
			break
		}
	}
	f.dropLaneLocked(l)
}

// giveUpLocked makes a dead letter of a publish on which connections keep ending.
func (f *function) giveUpLocked(o *outgoing) {
	c := &store.Change{Sent: []int64{o.Seq}, Dead: []store.DeadLetter{{
		Function: f.name, Revision: f.def.Function.Revision, Lane: o.Outgoing.Lane, Seq: o.Seq, Time: time.Now(),
		Failure: functions.Failure{
			Code:    functions.CodePublish,
			Message: fmt.Sprintf("the connection to the broker ended %d times on the publish to %s", o.losses, o.Publication.Topic),
		},
		Event: devices.Event{ID: f.a.newID(), Source: devices.Outbox, Topic: o.Publication.Topic, Payload: o.Publication.Payload, Time: time.Now(), QoS: o.Publication.QoS},
	}}}
	f.a.Store.Commit(c, nil)
	o.state = confirmed
	if o.row {
		l := o.lane
		for i, other := range l.out {
			if other == o {
				l.out = append(l.out[:i], l.out[i+1:]...)
				break
			}
		}
	}
}

// sendableLocked returns which publishes of the lane's outbox may be sent now,
// and marks them so: fresh ones, just committed, if nothing before them is
// waiting to be repeated; else none, for tick repeats all of them in order.
func (f *function) sendableLocked(l *lane, fresh []*outgoing) []*outgoing {
	for _, og := range l.out {
		if og.state == lost {
			for _, og := range fresh {
				og.state = lost
			}
			f.lost = true
			f.armLocked(time.Now().Add(repeatAfter))
			return nil
		}
	}
	return fresh
}

// repeatLocked returns the lost publishes to send again: those of lanes where
// nothing is on its way any more, so that their order is kept.
func (f *function) repeatLocked(now time.Time) []*outgoing {
	if !f.lost {
		return nil
	}
	f.lost = false
	var again []*outgoing
	for _, l := range f.lanes {
		var lostHere []*outgoing
		moving := false
		for _, og := range l.out {
			switch og.state {
			case lost:
				lostHere = append(lostHere, og)
			case sending:
				moving = true
			}
		}
		if moving && len(lostHere) > 0 {
			f.lost = true // once what is on its way has ended
			f.armLocked(now.Add(repeatAfter))
			continue
		}
		for _, og := range lostHere {
			og.state = sending
		}
		again = append(again, lostHere...)
	}
	return again
}
