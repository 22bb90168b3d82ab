package runner

import (
	"encoding/binary"
	"encoding/json"
	"math"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

func appendOutcome(b []byte, o *functions.Outcome) []byte {
	b = appendDuration(b, o.Took)
	b = appendFailure(b, o.Err)
	if o.Err != nil {
		return b // its effects are void
	}
	b = appendOptional(b, o.Returned)
	b = binary.AppendUvarint(b, uint64(len(o.Effects.Publish)))
	for _, p := range o.Effects.Publish {
		b = appendPublication(b, p)
	}
	b = binary.AppendUvarint(b, uint64(len(o.Effects.State)))
	for _, s := range o.Effects.State {
		b = appendStateWrite(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(o.Effects.Timers)))
	for _, t := range o.Effects.Timers {
		b = appendTimerWrite(b, t)
	}
	return b
}

// decodeOutcome reads an outcome that a runner sent, and refuses one that no
// honest runner sends.
func decodeOutcome(c body) (o functions.Outcome, err error) {
	o.Took = max(c.duration(), 0)
	if o.Err = c.failure(); o.Err != nil || c.bad {
		if !c.bad && !mayClaim(o.Err.Code) {
			c.fail()
		}
		return o, c.err()
	}
	if weight := len(c.b); weight > functions.MaxResult+overhead {
		c.fail()
		return o, c.err()
	}
	o.Returned = c.json(functions.MaxResult)
	o.Effects.Publish = list(&c, (*body).publication)
	o.Effects.State = list(&c, (*body).stateWrite)
	o.Effects.Timers = list(&c, (*body).timerWrite)
	return o, c.err()
}

// overhead is how much longer than what it weighs an outcome may be on the wire.
const overhead = 3 * MaxEffects * 16

// mayClaim reports whether a runner may say that an attempt failed in this way;
// the others are for the agent to find.
func mayClaim(c functions.Code) bool {
	switch c {
	case functions.CodeThrown, functions.CodeTimeout, functions.CodeResult, functions.CodePayload, functions.CodeRefused, functions.CodeLoad:
		return true
	}
	return false
}

func list[T any](c *body, item func(*body) T) []T {
	n := c.uvarint(MaxEffects)
	var items []T
	for range n {
		items = append(items, item(c))
		if c.bad {
			return nil
		}
	}
	return items
}

// json is optional for bytes that must be JSON.
func (c *body) json(limit int) []byte {
	v := c.optional(limit)
	if v != nil && !json.Valid(v) {
		c.fail()
	}
	return v
}

func appendStateWrite(b []byte, s functions.StateWrite) []byte {
	b = appendString(append(b, byte(s.Op)), s.Key)
	switch s.Op {
	case functions.StateSet:
		b = appendDuration(appendOptional(b, s.Value), s.TTL)
	case functions.StateIncr:
		b = appendDuration(appendFloat(b, s.By), s.TTL)
	}
	return b
}

func (c *body) stateWrite() functions.StateWrite {
	s := functions.StateWrite{Op: functions.StateOp(c.byte()), Key: c.string(functions.MaxStateKey)}
	switch s.Op {
	case functions.StateSet:
		s.Value, s.TTL = c.json(functions.MaxStateValue), c.duration()
	case functions.StateIncr:
		s.By, s.TTL = c.float(), c.duration()
	case functions.StateDelete:
	default:
		c.fail()
	}
	if s.Key == "" || s.TTL < 0 || s.Op == functions.StateSet && s.Value == nil || math.IsNaN(s.By) || math.IsInf(s.By, 0) {
		c.fail()
	}
	return s
}

// maxTimerKey limits the key of a timer, bytes.
const maxTimerKey = functions.MaxStateKey

func appendTimerWrite(b []byte, t functions.TimerWrite) []byte {
	b = appendBool(appendString(b, t.Key), t.Cancel)
	return appendOptional(appendDuration(b, t.After), t.Payload)
}

func (c *body) timerWrite() functions.TimerWrite {
	t := functions.TimerWrite{Key: c.string(maxTimerKey), Cancel: c.bool(), After: c.duration(), Payload: c.json(functions.MaxResult)}
	if t.Key == "" || t.After < 0 {
		c.fail()
	}
	return t
}

// Weigh returns what o weighs against [functions.MaxResult], bytes.
func Weigh(o *functions.Outcome) int {
	n := len(o.Returned)
	for _, p := range o.Effects.Publish {
		n += WeighPublication(p)
	}
	for _, s := range o.Effects.State {
		n += len(s.Key) + len(s.Value)
	}
	for _, t := range o.Effects.Timers {
		n += len(t.Key) + len(t.Payload)
	}
	return n
}

// WeighPublication returns what p weighs, bytes.
func WeighPublication(p devices.Publication) int { return len(p.Topic) + len(p.Payload) }
