package runner

import (
	"encoding/binary"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// Limits of what a runner sends.
const (
	MaxLine    = 8 << 10  // bytes of one log line
	MaxMessage = 4 << 10  // bytes of a failure's message
	MaxStack   = 16 << 10 // bytes of a failure's stack

	MaxEffects = 10_000 // of one outcome, of each kind
)

// An opKind is what a running handler asks of its agent.
type opKind byte

const (
	opGet     opKind = 1
	opPeek    opKind = 2
	opPublish opKind = 3
)

type hello struct {
	protocol uint64
	runtimes []string
}

func (m hello) append(b []byte) []byte {
	b = binary.AppendUvarint(b, m.protocol)
	b = binary.AppendUvarint(b, uint64(len(m.runtimes)))
	for _, r := range m.runtimes {
		b = appendString(b, r)
	}
	return b
}

func (m *hello) decode(c body) error {
	m.protocol = c.uvarint(1 << 32)
	for range c.uvarint(64) {
		m.runtimes = append(m.runtimes, c.string(64))
	}
	return c.err()
}

func (m Source) append(b []byte) []byte {
	b = appendString(b, m.Runtime)
	b = appendString(b, m.Name)
	b = appendString(b, m.Code)
	b = appendDuration(b, m.Timeout)
	b = binary.AppendUvarint(b, uint64(m.Concurrency))
	b = binary.AppendVarint(b, m.Memory)
	return appendMap(appendMap(b, m.Env), m.Secrets)
}

func (m *Source) decode(c body) error {
	m.Runtime = c.string(64)
	m.Name = c.string(256)
	m.Code = c.string(MaxFrame)
	m.Timeout = c.duration()
	m.Concurrency = int(c.uvarint(1 << 16))
	m.Memory = c.varint()
	m.Env, m.Secrets = c.stringMap(), c.stringMap()
	return c.err()
}

func appendInvocation(b []byte, inv *functions.Invocation) []byte {
	e := &inv.Event
	b = appendString(b, inv.ID)
	b = binary.AppendVarint(b, int64(inv.Attempt))
	b = appendDuration(b, inv.Timeout)
	b = appendString(b, e.ID)
	b = appendString(b, string(e.Source))
	b = appendString(b, e.Topic)
	b = appendOptional(b, e.Payload)
	b = binary.AppendVarint(b, e.Time.Unix())
	b = binary.AppendUvarint(b, uint64(e.Time.Nanosecond()))
	b = binary.AppendUvarint(b, uint64(len(e.Captures)))
	for _, c := range e.Captures {
		b = appendString(appendString(b, c.Name), c.Value)
	}
	b = append(b, e.QoS)
	b = appendBool(b, e.Retained)
	b = appendBool(b, e.Queued)
	b = appendBool(b, e.Redriven)
	return binary.AppendVarint(b, int64(e.Hops))
}

func decodeInvocation(c body) (inv functions.Invocation, err error) {
	e := &inv.Event
	inv.ID = c.string(MaxFrame)
	inv.Attempt = int(c.varint())
	inv.Timeout = c.duration()
	e.ID = c.string(MaxFrame)
	e.Source = devices.Source(c.string(64))
	e.Topic = c.string(MaxFrame)
	e.Payload = c.optional(MaxFrame)
	e.Time = time.Unix(c.varint(), int64(c.uvarint(999_999_999))).UTC()
	for range c.uvarint(uint64(len(c.b))) {
		e.Captures = append(e.Captures, devices.Capture{Name: c.string(MaxFrame), Value: c.string(MaxFrame)})
		if c.bad {
			break
		}
	}
	e.QoS = c.byte()
	e.Retained, e.Queued, e.Redriven = c.bool(), c.bool(), c.bool()
	e.Hops = int(c.varint())
	return inv, c.err()
}

// An op is what a running handler asks for: get and peek name a key, publish a
// publication.
type op struct {
	kind    opKind
	key     string
	publish devices.Publication
}

func (m op) append(b []byte) []byte {
	b = append(b, byte(m.kind))
	if m.kind == opPublish {
		return appendPublication(b, m.publish)
	}
	return appendString(b, m.key)
}

func (m *op) decode(c body) error {
	switch m.kind = opKind(c.byte()); m.kind {
	case opGet, opPeek:
		m.key = c.string(functions.MaxStateKey)
	case opPublish:
		m.publish = c.publication()
	default:
		c.fail()
	}
	return c.err()
}

// An answer is what came of an op: a value, or nil, or a failure.
type answer struct {
	value   []byte
	failure *functions.Failure
}

func (m answer) append(b []byte) []byte {
	return appendFailure(appendOptional(b, m.value), m.failure)
}

func (m *answer) decode(c body) error {
	m.value = c.optional(MaxFrame)
	m.failure = c.failure()
	return c.err()
}

// A line is one line of a function's log.
type line struct {
	level functions.Level
	text  string
}

// levels are the log levels in the order of their numbers on the wire.
var levels = [...]functions.Level{functions.LevelDebug, functions.LevelInfo, functions.LevelWarn, functions.LevelError}

func (m line) append(b []byte) []byte {
	for i, l := range levels {
		if l == m.level {
			b = append(b, byte(i))
		}
	}
	return appendString(b, m.text)
}

func (m *line) decode(c body) error {
	i := c.byte()
	if int(i) >= len(levels) {
		c.fail()
		return c.err()
	}
	m.level, m.text = levels[i], c.string(MaxLine)
	return c.err()
}

func appendFailure(b []byte, f *functions.Failure) []byte {
	if f == nil {
		return append(b, 0)
	}
	b = appendString(append(b, 1), string(f.Code))
	return appendString(appendString(b, f.Message), f.Stack)
}

func (c *body) failure() *functions.Failure {
	if !c.bool() {
		return nil
	}
	return &functions.Failure{
		Code:    functions.Code(c.string(64)),
		Message: c.string(MaxMessage),
		Stack:   c.string(MaxStack),
	}
}

func appendPublication(b []byte, p devices.Publication) []byte {
	b = appendString(b, p.Topic)
	b = appendBytes(b, p.Payload)
	return appendBool(append(b, p.QoS), p.Retain)
}

func (c *body) publication() devices.Publication {
	p := devices.Publication{
		Topic:   c.string(devices.MaxTopic),
		Payload: c.bytes(functions.MaxResult),
		QoS:     c.byte(),
		Retain:  c.bool(),
	}
	if p.Topic == "" || p.QoS > 2 {
		c.fail()
	}
	return p
}
