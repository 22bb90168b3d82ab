package runner

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"
)

// errMalformed is returned for a body that is not what its kind demands.
var errMalformed = errors.New("malformed body")

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendBytes(b, p []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}

// appendOptional is appendBytes for bytes that may be nil.
func appendOptional(b, p []byte) []byte {
	if p == nil {
		return append(b, 0)
	}
	return appendBytes(append(b, 1), p)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendDuration(b []byte, d time.Duration) []byte { return binary.AppendVarint(b, int64(d)) }

func appendFloat(b []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
}

// appendMap writes a map in the order of its keys.
func appendMap(b []byte, m map[string]string) []byte {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = binary.AppendUvarint(b, uint64(len(keys)))
	for _, k := range keys {
		b = appendString(appendString(b, k), m[k])
	}
	return b
}

// A body takes a frame's body apart. The first fault makes all that follows
// empty; err tells of it at the end.
type body struct {
	b   []byte
	bad bool
}

// err returns an error if the body was malformed or is longer than it should be.
func (c *body) err() error {
	if c.bad || len(c.b) > 0 {
		return errMalformed
	}
	return nil
}

func (c *body) fail() {
	c.bad, c.b = true, nil
}

func (c *body) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 || v > limit {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *body) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *body) duration() time.Duration { return time.Duration(c.varint()) }

func (c *body) byte() byte {
	if len(c.b) == 0 {
		c.fail()
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *body) bool() bool {
	v := c.byte()
	if v > 1 {
		c.fail()
	}
	return v == 1
}

func (c *body) float() float64 {
	if len(c.b) < 8 {
		c.fail()
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(c.b))
	c.b = c.b[8:]
	return v
}

// view returns bytes that belong to the frame.
func (c *body) view(limit int) []byte {
	n := int(c.uvarint(uint64(limit)))
	if n > len(c.b) {
		c.fail()
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

func (c *body) string(limit int) string { return string(c.view(limit)) }

// bytes returns a copy, never nil.
func (c *body) bytes(limit int) []byte {
	v := c.view(limit)
	return append(make([]byte, 0, len(v)), v...)
}

func (c *body) optional(limit int) []byte {
	if !c.bool() {
		return nil
	}
	return c.bytes(limit)
}

func (c *body) stringMap() map[string]string {
	n := c.uvarint(uint64(len(c.b)))
	if n == 0 || c.bad {
		return nil
	}
	m := map[string]string{}
	for range n {
		k := c.string(MaxFrame)
		m[k] = c.string(MaxFrame)
		if c.bad {
			return nil
		}
	}
	return m
}
