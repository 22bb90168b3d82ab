package agent

import (
	"fmt"
	"slices"
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
	runs  bool
	lane  string // to run in
	key   string // dedupe key, or ""

	failure *functions.Failure // it can never run, or nil
	what    edge.StepKind      // why it does not run, otherwise
	why     string             // in words
	same    *delivery          // a duplicate's first, while that is under way; or nil

	arms    []store.Timer    // it runs later
	disarms []store.TimerKey // what was to run later does not
}

// decideLocked asks the triggers whose filters matched, in their order: the
// first that lets the message through decides, or else one that it can never get
// through, or else the last. Whatever one decides, the others see the message
// too, and their hold and debounce begin or end with it.
func (f *function) decideLocked(h *hearing, hits []hit) ruling {
	if v, bad := f.unfit(h, hits); bad {
		return v
	}
	var v ruling
	for i, hit := range hits {
		next := f.askLocked(h, hit)
		arms, disarms := append(v.arms, next.arms...), append(v.disarms, next.disarms...)
		if i == 0 || !v.runs && (next.runs || v.failure == nil) {
			v = next
		}
		v.arms, v.disarms = arms, disarms
	}
	if v.runs {
		f.placeLocked(h, &v)
	}
	return v
}

// unfit refuses a message that no function can take.
func (f *function) unfit(h *hearing, hits []hit) (v ruling, bad bool) {
	ignored := func(hit hit) bool { return f.plan.triggers[hit.trigger].ignoreRetained }
	if h.Retained && !slices.ContainsFunc(hits, func(hit hit) bool { return !ignored(hit) }) {
		return v, false
	}
	v.event = h.event(hits[0].captures)
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
	device := v.event.Device()
	scope, fail := h.scope(&v.event, t.gate.NeedsPayload())
	switch {
	case h.Retained && t.ignoreRetained:
		if fail == nil && h.Truncated == 0 {
			t.gate.Seed(device, scope)
		}
		v.what, v.why = edge.StepFiltered, "retained: what the broker had kept (retained: run would run it)"
	case fail != nil:
		v.failure = fail
	default:
		f.obeyLocked(h, &v, t, hit.trigger, t.gate.Step(device, h.now, scope))
	}
	return v
}

// obeyLocked turns a gate's verdict into a ruling.
func (f *function) obeyLocked(h *hearing, v *ruling, t *trigger, index int, g functions.Verdict) {
	key := store.TimerKey{Function: f.name, Kind: t.delays, Key: strconv.Itoa(index) + ":" + v.event.Device()}
	switch g.Decision {
	case functions.Pass:
		v.runs = true
		return
	case functions.Arm:
		f.armTrigger(h, v, t, key, g.Due)
		return
	case functions.Disarm:
		v.disarms = append(v.disarms, key)
	}
	v.what, v.why = edge.StepFiltered, t.reason(g.Reason)
	if g.Err != nil {
		v.why += ": " + g.Err.Error()
	}
}

// armTrigger lets a message run later, when it has been quiet for long enough, or
// when it has been so for long enough.
func (f *function) armTrigger(h *hearing, v *ruling, t *trigger, key store.TimerKey, due time.Time) {
	if f.laneOf(h, v); v.failure != nil || v.what != "" {
		return
	}
	v.what, v.why = edge.StepHeld, "runs if it stays so until "+due.Format(time.TimeOnly)
	if t.delays == store.TimerDebounce {
		if why := f.expired(&v.event, h.now); why != "" {
			v.what, v.why = edge.StepExpired, why
			return
		}
		v.what, v.why = edge.StepDebounced, "runs if it is quiet until "+due.Format(time.TimeOnly)
	}
	v.arms = append(v.arms, f.a.timers.timer(key, v.lane, due.Sub(h.now), v.event))
}

// placeLocked finds the lane of an event that is to run, and refuses one that
// is too old or was had before.
func (f *function) placeLocked(h *hearing, v *ruling) {
	if why := f.expired(&v.event, h.now); why != "" {
		v.runs, v.what, v.why = false, edge.StepExpired, why
		return
	}
	if f.laneOf(h, v); v.failure == nil && v.what == "" && f.plan.dedupe != nil {
		f.dedupeLocked(h, v)
	}
	v.runs = v.failure == nil && v.what == ""
}

// laneOf finds the lane of an event, or why there is none.
func (f *function) laneOf(h *hearing, v *ruling) {
	scope, fail := h.scope(&v.event, f.plan.needsPayload)
	if fail != nil {
		v.failure = fail
		return
	}
	var err error
	if v.lane, err = f.lane(&v.event, scope.Payload); err != nil {
		v.what, v.why = edge.StepFiltered, "order: "+err.Error()
	}
}

// dedupeLocked refuses an event whose key was had before within the window.
func (f *function) dedupeLocked(h *hearing, v *ruling) {
	scope, _ := h.scope(&v.event, f.plan.needsPayload) // laneOf has seen that it can be had
	key, err := f.plan.dedupe.Key(scope)
	if err != nil {
		v.what, v.why = edge.StepFiltered, "dedupe: "+err.Error()
		return
	}
	window := time.Duration(f.manifest().Spec.Delivery.Dedupe.Window)
	first, had := f.seen.key(key, h.now, h.now.Add(window))
	if !had {
		v.key = key
		return
	}
	v.what, v.why = edge.StepDuplicate, "dedupe key "+strconv.Quote(key)
	if first != nil && first.receipt != nil {
		v.same = first
	}
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

// expired says why an event is too old to run, or "". How long a message waited
// at the broker nobody knows: it counts as too old. mu must be held.
func (f *function) expired(ev *devices.Event, now time.Time) string {
	most := time.Duration(f.manifest().Spec.Delivery.MaxAge)
	switch {
	case most == 0:
		return ""
	case ev.Queued:
		return "waited at the broker while this node was away (delivery.maxAge)"
	case now.Sub(ev.Time) > most && store.WasSet(ev.Time):
		return "older than delivery.maxAge, " + most.String()
	}
	return ""
}
