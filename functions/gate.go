package functions

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"
)

// A Decision is what a [Gate] says about one event.
type Decision uint8

// The decisions.
const (
	Pass   Decision = iota // run the function now
	Drop                   // do nothing
	Arm                    // run on this event when Verdict.Due comes, in place of what was armed under this key before
	Disarm                 // drop the event, and what was armed under this key if it has not run
)

// A Verdict is a decision with what belongs to it.
type Verdict struct {
	Decision Decision
	Due      time.Time // of Arm
	Reason   string    // of Drop and Disarm: the condition that was not met: when, changed, throttle or hold
	Err      error     // or nil; the condition could not be evaluated, which counts as not met
}

// A Gate holds back the events of one MQTT trigger that do not meet its
// conditions: when, changed, throttle, then debounce or hold. It remembers what
// those need to know of the past, apart for each key (the device), in bounded
// memory: the keys longest silent are forgotten first, and start as if new.
//
// A Gate is pure: the time is handed in, and to keep what is armed is its
// caller's part. It serves one goroutine at a time.
type Gate struct {
	trigger MQTTTrigger
	when    *Condition  // or nil
	changed *Expression // or nil
	memory  memory
}

// NewGate compiles the conditions of a trigger that has been validated.
func NewGate(t MQTTTrigger) (*Gate, error) {
	g := &Gate{trigger: t}
	captures := capturesOf(t.Topic)
	var err error
	if t.When != "" {
		if g.when, err = CompileCondition(t.When, captures); err != nil {
			return nil, fmt.Errorf("compile when: %w", err)
		}
	}
	if t.Changed != "" {
		if g.changed, err = CompileExpression(t.Changed, captures); err != nil {
			return nil, fmt.Errorf("compile changed: %w", err)
		}
	}
	g.memory = newMemory(g.uses("previous"))
	return g, nil
}

// NeedsPayload reports whether Step looks at the payload, so that a caller can
// spare itself [ParsePayload].
func (g *Gate) NeedsPayload() bool { return g.uses("payload") || g.uses("previous") }

func (g *Gate) uses(name string) bool {
	return g.when != nil && g.when.Uses(name) || g.changed != nil && g.changed.Uses(name)
}

// remembers reports whether the gate has a past at all.
func (g *Gate) remembers() bool {
	return g.memory.payloads || g.changed != nil || g.trigger.Throttle > 0 || g.trigger.Hold > 0
}

// Step decides about one event, in the order in which events come. It sets
// s.Previous itself.
func (g *Gate) Step(key string, now time.Time, s Scope) Verdict {
	if !g.remembers() {
		return g.decide(&past{}, now, s)
	}
	p := g.memory.past(key)
	s.Previous = p.Previous
	v := g.decide(p, now, s)
	g.memory.keep(p, s)
	return v
}

// Seed lets the gate see an event that does not count, such as a retained
// message: the value for changed and the previous payload are learnt from it.
func (g *Gate) Seed(key string, s Scope) {
	if g.changed == nil && !g.memory.payloads {
		return
	}
	p := g.memory.past(key)
	s.Previous = p.Previous
	_, _ = g.differs(p, s) // a value that cannot be had teaches nothing
	g.memory.keep(p, s)
}

// Armed tells the gate after a restart that what it armed under key is still
// to come. Only hold needs to know.
func (g *Gate) Armed(key string) {
	if g.trigger.Hold > 0 {
		g.memory.past(key).Held = true
	}
}

// Snapshot returns what the gate remembers, as JSON to [Gate.Restore], or nil
// if that has not changed since the last time.
func (g *Gate) Snapshot() []byte { return g.memory.snapshot() }

// Restore lets the gate remember what Snapshot returned, perhaps of a gate
// with other conditions. It is called before the first Step; after an error the
// gate remembers nothing.
func (g *Gate) Restore(snapshot []byte) error {
	if err := g.memory.restore(snapshot); err != nil {
		return fmt.Errorf("restore gate: %w", err)
	}
	return nil
}

func (g *Gate) decide(p *past, now time.Time, s Scope) Verdict {
	holds, err := true, error(nil)
	if g.when != nil {
		holds, err = g.when.Eval(s)
	}
	differs, changedErr := g.differs(p, s)
	switch {
	case !holds && p.Held:
		p.Held, g.memory.dirty = false, true
		return Verdict{Decision: Disarm, Reason: "when", Err: err}
	case !holds:
		return Verdict{Decision: Drop, Reason: "when", Err: err}
	case !differs:
		return Verdict{Decision: Drop, Reason: "changed", Err: changedErr}
	case g.throttled(p, now):
		return Verdict{Decision: Drop, Reason: "throttle"}
	}
	return g.delay(p, now)
}

// delay is the last condition: debounce or hold.
func (g *Gate) delay(p *past, now time.Time) Verdict {
	switch {
	case g.trigger.Debounce > 0:
		return Verdict{Decision: Arm, Due: now.Add(time.Duration(g.trigger.Debounce))}
	case g.trigger.Hold > 0 && p.Held: // armed, or has run and saw no false since
		return Verdict{Decision: Drop, Reason: "hold"}
	case g.trigger.Hold > 0:
		p.Held, g.memory.dirty = true, true
		return Verdict{Decision: Arm, Due: now.Add(time.Duration(g.trigger.Hold))}
	}
	return Verdict{Decision: Pass}
}

// throttled reports whether a run was let through less than throttle ago, and
// else notes this one. A clock that was set back throttles nothing.
func (g *Gate) throttled(p *past, now time.Time) bool {
	if g.trigger.Throttle == 0 {
		return false
	}
	if ago := now.Sub(p.Passed); ago >= 0 && ago < time.Duration(g.trigger.Throttle) {
		return true
	}
	p.Passed, g.memory.dirty = now, true
	return false
}

// differs reports whether the value of changed is another than before, and
// remembers it. A value that is nil is none: many devices send only part of
// what they know.
func (g *Gate) differs(p *past, s Scope) (bool, error) {
	if g.changed == nil {
		return true, nil
	}
	value, err := g.changed.Eval(s)
	if err != nil || value == nil {
		return false, err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return false, fmt.Errorf("%s: %w", brief(g.changed.source), err)
	}
	full := sha256.Sum256(text)
	sum := digest128(full[:len(digest128{})])
	if p.Changed != nil && *p.Changed == sum {
		return false, nil
	}
	p.Changed, g.memory.dirty = &sum, true
	return true, nil
}
