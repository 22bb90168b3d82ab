package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// succeeded carries out what a successful attempt asked for.
//
// One that changed no state publishes at once, and is done when the broker has
// confirmed. One that did commits everything first (state, timers, publishes,
// that it is done) in one transaction, and publishes then.
func (f *function) succeeded(t *attempt, o functions.Outcome) {
	pubs, fail := f.publishes(t, o)
	if fail != nil {
		o.Err = fail
		f.failed(t, fail, false)
		return
	}
	stateless := len(o.Effects.State) == 0 && len(o.Effects.Timers) == 0
	if !stateless && !t.keeps() {
		f.failed(t, errKeepsNothing, false)
		return
	}
	if stateless {
		if !t.fresh() {
			f.again(t)
			return
		}
		f.publish(t, o, pubs)
		return
	}
	f.commit(t, o, pubs)
}

// publishes returns all that the outcome publishes, the returned value last,
// or why it may not.
func (f *function) publishes(t *attempt, o functions.Outcome) ([]devices.Publication, *functions.Failure) {
	pubs := o.Effects.Publish
	if fail := t.permit(pubs); fail != nil {
		return nil, fail
	}
	if out := t.w.function.Manifest.Spec.Output; out != nil && o.Returned != nil {
		topic, err := devices.ExpandTopic(out.Topic, t.d.event.Captures)
		if err != nil {
			return nil, &functions.Failure{Code: functions.CodeResult, Message: "output topic: " + err.Error()}
		}
		p := devices.Publication{Topic: topic, Payload: payloadOf(o.Returned), QoS: 1, Retain: out.Retain}
		if out.QoS != nil {
			p.QoS = *out.QoS
		}
		pubs = append(pubs, p)
	}
	f.meter(len(pubs))
	return pubs, nil
}

// meter pauses the function if n more publishes are too many.
func (f *function) meter(n int) {
	if n == 0 {
		return
	}
	f.mu.Lock()
	r := f.rate
	f.mu.Unlock()
	if !r.AllowN(time.Now(), n) {
		f.pause(fmt.Sprintf("published more than %v messages a second (delivery.publishRate)", r.Limit()))
	}
}

// publish hands pubs to the bus: the delivery is done when the broker has them.
// If the lane has older publishes that wait, these queue behind them: in the
// outbox, or, in a shared lane, in memory.
func (f *function) publish(t *attempt, o functions.Outcome, pubs []devices.Publication) {
	d := t.d
	f.mu.Lock()
	step := t.done(pubs, nil)
	switch {
	case len(pubs) == 0:
	case len(d.lane.out) > 0:
		f.mu.Unlock()
		f.commit(t, o, pubs)
		return
	case d.lane.stale > 0:
		f.afterStaleLocked(t, o, pubs)
		f.mu.Unlock()
		return
	}
	d.stage = handing
	d.out = nil // of an attempt before
	for _, p := range pubs {
		og := f.outgoing(d, p)
		if d.lane.shared {
			og.state = queued
		}
		d.out = append(d.out, og)
	}
	out, line := d.out, d.lane.bus(f.a).Line()
	f.step(step, &d.event)
	f.workedLocked(t)
	f.mu.Unlock()
	t.answer(o, step.Published)
	if d.lane.shared {
		f.drain(d.lane)
	} else {
		f.send(line, out)
	}
	var room [4]*receipt
	f.mu.Lock()
	l := d.lane
	if d.stage == handing { // still: nobody has left it to another node
		d.stage = publishing
	}
	settled := f.confirmedLocked(l, room[:0])
	if d.stage == publishing && d.waitsFor(lost) {
		f.toOutboxLocked(l, d)
	}
	f.readyLocked(l, time.Now())
	f.mu.Unlock()
	settle(settled)
}

// confirmedLocked finishes the deliveries at the head of l whose publishes are
// all confirmed, and appends their receipts to settled. One behind another that
// is not confirmed, or whose row is not gone, waits for it: were it acknowledged
// first, a crash would bring back the earlier one alone, to be published after it.
func (f *function) confirmedLocked(l *lane, settled []*receipt) []*receipt {
	for len(l.list) > 0 {
		d := l.list[0]
		behind := len(d.out) > 0 && (len(l.out) > 0 || l.stale > 0)
		if d.stage != publishing || behind || !d.confirmed() {
			break
		}
		f.latency.add(time.Since(d.heard))
		before := f.owed.before(l.laneID, d.message)
		f.doneLocked(d)
		if d.stored() {
			c := &store.Change{}
			d.remove(c)
			f.forgetLocked(l, c)
		}
		settled = append(settled, before.holdBack(f.finishLocked(d, edge.StepDone)))
	}
	return settled
}

// forgetLocked takes rows of l away that are over, and notes what is owed, as with
// all that is stored. Nobody waits for that, but the next publish of the lane.
func (f *function) forgetLocked(l *lane, c *store.Change) {
	l.stale++
	c.Lazy = true
	c.Done = f.owedLocked(l)
	f.a.Store.Commit(c, func(err error) {
		if err != nil {
			return // the store is closed
		}
		f.mu.Lock()
		l.stale--
		settled := f.confirmedLocked(l, nil)
		f.dropLaneLocked(l)
		f.mu.Unlock()
		settle(settled)
		f.pump()
	})
}

// afterStaleLocked publishes once what is over of the lane is gone from the store:
// otherwise a crash would bring it back, and it would be published again after
// this.
func (f *function) afterStaleLocked(t *attempt, o functions.Outcome, pubs []devices.Publication) {
	t.d.stage = committing
	f.a.Store.Commit(&store.Change{}, func(err error) {
		if err != nil {
			t.answer(functions.Outcome{Err: errClosing}, nil)
			return
		}
		f.publish(t, o, pubs)
		f.pump()
	})
}

// commit stores all effects of the attempt in one transaction with the fact
// that it is done; then the publishes go out.
func (f *function) commit(t *attempt, o functions.Outcome, pubs []devices.Publication) {
	d := t.d
	f.mu.Lock()
	f.hastenLocked(d)
	d.stage = committing
	d.out = nil // of an attempt before
	c := &store.Change{State: t.stateChange(o.Effects.State), Done: f.owedLocked(d.lane)}
	d.remove(c)
	set := f.a.timers.effects(c, d, f.name, o.Effects.Timers)
	if d.identity != (store.Identity{}) || d.key != "" {
		c.Done = append(c.Done, store.Done{Function: f.name, Identity: d.identity, Key: d.key, Until: f.keyUntil(d)})
	}
	for _, p := range pubs {
		og := f.outgoing(d, p)
		og.row, og.d = true, nil
		d.out = append(d.out, og)
		c.Outbox = append(c.Outbox, og.Outgoing)
	}
	f.mu.Unlock()
	step := t.done(pubs, o.Effects.State)
	f.a.Store.Commit(c, func(err error) {
		switch {
		case errors.Is(err, store.ErrConflict):
			f.again(t)
		case errors.Is(err, store.ErrClosed): // nothing was stored: the broker, or the inbox, still has the event
			t.answer(functions.Outcome{Err: errClosing}, nil)
			return
		case err != nil:
			f.failed(t, &functions.Failure{Code: functions.CodeState, Message: "keep state: " + err.Error()}, false)
		default:
			f.a.timers.apply(set)
			f.committed(t, step)
			t.answer(o, step.Published)
		}
		f.pump()
	})
}

// hastenLocked ends those before d in its lane that only wait for their publishes
// to be confirmed: their commit goes before that of d. Otherwise a crash would run
// them again after it.
func (f *function) hastenLocked(d *delivery) {
	var last *delivery
	for _, before := range d.lane.list {
		if before == d {
			break
		}
		last = before
	}
	if last != nil {
		f.toOutboxLocked(d.lane, last)
	}
}

// committed finishes a delivery whose effects are stored, and sends its publishes.
func (f *function) committed(t *attempt, step edge.Step) {
	d := t.d
	f.mu.Lock()
	f.step(step, &d.event)
	f.workedLocked(t)
	f.latency.add(time.Since(d.heard))
	f.seen.done(d)
	l := d.lane
	for _, og := range d.out {
		og.state = queued
	}
	f.queueLocked(l, d.out)
	r := f.finishLocked(d, edge.StepDone)
	f.mu.Unlock()
	r.settle()
	f.drain(l)
	f.mu.Lock()
	f.readyLocked(l, time.Now())
	f.mu.Unlock()
}

// again runs a delivery anew because state that it had read was changed
// meanwhile. That is nobody's failure and uses up no attempt; but after many
// in a row it waits a little, so that two cannot keep each other from ending.
func (f *function) again(t *attempt) {
	d := t.d
	f.mu.Lock()
	defer f.mu.Unlock()
	d.stage, d.out = waiting, nil
	d.redo++
	if d.redo > 10 {
		d.due = time.Now().Add(time.Duration(d.redo) * time.Millisecond)
	}
	f.readyLocked(d.lane, time.Now())
}

// permit returns why one of pubs may not be sent, or nil. What counts is the
// revision that ran, not the one that may have come since.
func (t *attempt) permit(pubs []devices.Publication) *functions.Failure {
	for _, pub := range pubs {
		if err := devices.CheckTopic(pub.Topic); err != nil {
			return &functions.Failure{Code: functions.CodeResult, Message: fmt.Sprintf("publish to %q: %v", pub.Topic, err)}
		}
		if !t.w.plan.mayPublish(pub.Topic, t.d.event.Captures) {
			return &functions.Failure{
				Code:    functions.CodeRefused,
				Message: fmt.Sprintf("publish to %q: not in permissions.publish", pub.Topic),
			}
		}
	}
	return nil
}

// payloadOf returns what a JSON value looks like on the wire: a string is sent
// without its quotes, anything else as JSON.
func payloadOf(value []byte) []byte {
	if s, ok := unquote(value); ok {
		return []byte(s)
	}
	return value
}

// unquote returns the text of a JSON string.
func unquote(value []byte) (string, bool) {
	if len(value) == 0 || value[0] != '"' {
		return "", false
	}
	var s string
	err := json.Unmarshal(value, &s)
	return s, err == nil
}
