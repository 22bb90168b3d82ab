package agent

import (
	"fmt"
	"strconv"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A ruling is what becomes of a message at a function.
type ruling struct {
	event devices.Event // with the captures of the trigger that decided
	lane  string        // to run in
	key   string        // dedupe key, or ""

	what    edge.StepKind      // why it does not run, or ""
	why     string             // in words
	failure *functions.Failure // it can never run, or nil
	arm     *store.Timer       // it runs later, or nil
	disarm  *store.TimerKey    // what was to run later does not, or nil
}

// decideLocked asks the triggers whose filters matched, in their order: the
// first that lets the message through decides, or else the last that did not.
func (f *function) decideLocked(h *hearing, hits []hit) ruling {
	if v, bad := f.unfit(h, hits[0].captures); bad {
		return v
	}
	var v ruling
	for _, hit := range hits {
		v = f.askLocked(h, hit)
		if v.what == "" || v.failure != nil || v.arm != nil {
			break
		}
	}
	if v.what == "" && v.failure == nil {
		f.placeLocked(h, &v)
	}
	return v
}

// unfit refuses a message that no function can take.
func (f *function) unfit(h *hearing, captures []devices.Capture) (v ruling, bad bool) {
	v.event = h.event(captures)
	switch {
	case h.Truncated > 0:
		v.failure = &functions.Failure{
			Code:    functions.CodeTooLarge,
			Message: fmt.Sprintf("the packet has %d bytes, topic included; this node takes no more than its packet cap", h.Truncated),
		}
	case len(h.Topic) > devices.MaxTopic:
		v.failure = &functions.Failure{Code: functions.CodeTooLarge, Message: fmt.Sprintf("the topic has %d bytes, more than %d", len(h.Topic), devices.MaxTopic)}
	case h.hops >= maxHops:
		v.failure = &functions.Failure{Code: functions.CodeLoop, Message: loopMessage(h.Topic)}
	default:
		return v, false
	}
	return v, true
}

// askLocked asks one trigger.
func (f *function) askLocked(h *hearing, hit hit) ruling {
	v := ruling{event: h.event(hit.captures)}
	t := &f.plan.triggers[hit.trigger]
	v.event.QoS = min(v.event.QoS, t.qos)
	scope := functions.Scope{Event: &v.event}
	if t.gate.NeedsPayload() {
		payload, err := h.parse()
		if err != nil {
			v.failure = &functions.Failure{Code: functions.CodePayload, Message: err.Error()}
			return v
		}
		scope.Payload = payload
	}
	device := v.event.Device()
	if h.Retained && t.ignoreRetained {
		t.gate.Seed(device, scope)
		v.what, v.why = edge.StepFiltered, "retained: what the broker had kept (retained: run would run it)"
		return v
	}
	f.followLocked(&v, t, hit.trigger, device, t.gate.Step(device, h.now, scope))
	return v
}

// followLocked turns a gate's verdict into a ruling.
func (f *function) followLocked(v *ruling, t *trigger, index int, device string, g functions.Verdict) {
	key := store.TimerKey{Function: f.name, Kind: t.delays, Key: strconv.Itoa(index) + ":" + device}
	switch g.Decision {
	case functions.Pass:
	case functions.Arm:
		lane, err := f.lane(&v.event, nil)
		if err != nil {
			v.what, v.why = edge.StepFiltered, "order: "+err.Error()
			return
		}
		timer := f.a.timers.timer(key, lane, time.Until(g.Due), v.event)
		v.arm, v.what = &timer, edge.StepHeld
		v.why = "runs if it stays so until " + g.Due.Format(time.TimeOnly)
		if t.delays == store.TimerDebounce {
			v.what, v.why = edge.StepDebounced, "runs if it is quiet until "+g.Due.Format(time.TimeOnly)
		}
	case functions.Disarm:
		v.disarm = &key
		fallthrough
	default:
		v.what, v.why = edge.StepFiltered, t.reason(g.Reason)
		if g.Err != nil {
			v.why += ": " + g.Err.Error()
		}
	}
}

// placeLocked finds the lane of an event that is to run, and refuses one that
// is too old or was had before.
func (f *function) placeLocked(h *hearing, v *ruling) {
	scope := functions.Scope{Event: &v.event}
	if f.plan.needsPayload {
		payload, err := h.parse()
		if err != nil {
			v.failure = &functions.Failure{Code: functions.CodePayload, Message: err.Error()}
			return
		}
		scope.Payload = payload
	}
	if why := f.expiredLocked(&v.event, h.now); why != "" {
		v.what, v.why = edge.StepExpired, why
		return
	}
	var err error
	if v.lane, err = f.lane(&v.event, scope.Payload); err != nil {
		v.what, v.why = edge.StepFiltered, "order: "+err.Error()
		return
	}
	if f.plan.dedupe == nil {
		return
	}
	key, err := f.plan.dedupe.Key(scope)
	if err != nil {
		v.what, v.why = edge.StepFiltered, "dedupe: "+err.Error()
		return
	}
	window := time.Duration(f.manifest().Spec.Delivery.Dedupe.Window)
	if f.seen.key(key, h.now, h.now.Add(window)) {
		v.what, v.why = edge.StepDuplicate, "dedupe key "+strconv.Quote(key)
		return
	}
	v.key = key
}

// lane returns the order key of an event. The payload is only needed if the
// manifest's order is an expression.
func (f *function) lane(ev *devices.Event, payload any) (string, error) {
	switch {
	case f.plan.order != nil:
		return f.plan.order.Key(functions.Scope{Event: ev, Payload: payload})
	case f.plan.orderBy == "topic":
		return ev.Topic, nil
	case f.plan.orderBy == "none":
		return f.loner(), nil
	}
	return ev.Device(), nil
}

// loner returns a lane that nothing else runs in.
func (f *function) loner() string { return "!" + f.a.newID() }

// expiredLocked says why an event is too old to run, or "". How long a message
// waited at the broker nobody knows: it counts as too old.
func (f *function) expiredLocked(ev *devices.Event, now time.Time) string {
	most := time.Duration(f.manifest().Spec.Delivery.MaxAge)
	switch {
	case most == 0:
		return ""
	case ev.Queued:
		return "waited at the broker while this node was away (delivery.maxAge)"
	case now.Sub(ev.Time) > most:
		return "older than delivery.maxAge, " + most.String()
	}
	return ""
}
