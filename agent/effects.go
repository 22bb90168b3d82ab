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
	for _, p := range pubs {
		f.remember(p, t.d.event.Hops)
	}
	if len(o.Effects.State) == 0 && len(o.Effects.Timers) == 0 {
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
	if fail := f.permit(pubs, t.d.event); fail != nil {
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
	if len(pubs) > 0 && !f.rate.AllowN(time.Now(), len(pubs)) {
		f.pause(fmt.Sprintf("published more than %v messages a second (delivery.publishRate)", f.rate.Limit()))
	}
	return pubs, nil
}

// publish hands pubs to the bus: the delivery is done when the broker has them.
// If the lane has older publishes in the outbox, these queue behind them.
func (f *function) publish(t *attempt, o functions.Outcome, pubs []devices.Publication) {
	d := t.d
	f.mu.Lock()
	step := t.done(pubs, nil)
	if len(pubs) > 0 && len(d.lane.out) > 0 {
		f.mu.Unlock()
		f.commit(t, o, pubs)
		return
	}
	d.stage = handing
	for _, p := range pubs {
		d.out = append(d.out, f.outgoing(d, p))
	}
	out := d.out
	f.step(step, &d.event)
	f.mu.Unlock()
	t.answer(o, step.Published)
	for _, og := range out {
		f.a.Bus.Publish(og.Publication, og.settled)
	}
	f.mu.Lock()
	d.stage = publishing
	r := f.confirmedLocked(d)
	if d.stage == publishing && f.anyLostLocked(d) {
		f.toOutboxLocked(d.lane, d)
	}
	f.readyLocked(d.lane, time.Now())
	f.mu.Unlock()
	r.settle()
}

// confirmedLocked finishes d if all of its publishes are confirmed, and returns
// its receipt.
func (f *function) confirmedLocked(d *delivery) *receipt {
	for _, og := range d.out {
		if og.state != confirmed {
			return nil
		}
	}
	if d.stored() {
		// Its row goes before the next of its lane may be stored; nobody waits.
		c := &store.Change{Lazy: true}
		d.remove(c)
		f.a.Store.Commit(c, nil)
	}
	f.latency.add(time.Since(d.heard))
	f.seen.done(d)
	return f.finishLocked(d, edge.StepDone)
}

func (f *function) anyLostLocked(d *delivery) bool {
	for _, og := range d.out {
		if og.state == lost {
			return true
		}
	}
	return false
}

// commit stores all effects of the attempt in one transaction with the fact
// that it is done; then the publishes go out.
func (f *function) commit(t *attempt, o functions.Outcome, pubs []devices.Publication) {
	d := t.d
	f.mu.Lock()
	d.stage = committing
	c := &store.Change{State: t.stateChange(o.Effects.State)}
	d.remove(c)
	set := f.a.timers.effects(c, d, f.name, o.Effects.Timers)
	if d.identity != (store.Identity{}) || d.key != "" {
		c.Done = append(c.Done, store.Done{Function: f.name, Identity: d.identity, Key: d.key, Until: f.keyUntil(d)})
	}
	for _, p := range pubs {
		og := f.outgoing(d, p)
		og.row = true
		d.out = append(d.out, og)
		c.Outbox = append(c.Outbox, og.Outgoing)
	}
	f.mu.Unlock()
	step := t.done(pubs, o.Effects.State)
	f.a.Store.Commit(c, func(err error) {
		switch {
		case errors.Is(err, store.ErrConflict):
			f.again(t)
		case errors.Is(err, store.ErrClosed):
			return // nothing was stored: the broker, or the inbox, still has the event
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

// committed finishes a delivery whose effects are stored, and sends its publishes.
func (f *function) committed(t *attempt, step edge.Step) {
	d := t.d
	f.mu.Lock()
	f.step(step, &d.event)
	f.latency.add(time.Since(d.heard))
	f.seen.done(d)
	l := d.lane
	l.out = append(l.out, d.out...)
	r := f.finishLocked(d, edge.StepDone)
	send := f.sendableLocked(l, d.out)
	f.mu.Unlock()
	r.settle()
	for _, og := range send {
		f.a.Bus.Publish(og.Publication, og.settled)
	}
	f.mu.Lock()
	f.readyLocked(l, time.Now())
	f.dropLaneLocked(l)
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

// permit returns why one of pubs may not be sent, or nil.
func (f *function) permit(pubs []devices.Publication, ev devices.Event) *functions.Failure {
	if len(pubs) == 0 {
		return nil
	}
	f.mu.Lock()
	p := f.plan
	f.mu.Unlock()
	for _, pub := range pubs {
		if err := devices.CheckTopic(pub.Topic); err != nil {
			return &functions.Failure{Code: functions.CodeResult, Message: fmt.Sprintf("publish to %q: %v", pub.Topic, err)}
		}
		if !p.mayPublish(pub.Topic, ev.Captures) {
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
