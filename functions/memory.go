package functions

import (
	"container/list"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// What one gate remembers at most.
const (
	maxKeys        = 1000
	maxPrevious    = 16 << 10 // bytes of one previous payload; a longer one is not remembered
	maxAllPrevious = 1 << 20  // bytes of all previous payloads of one gate
)

// A past is what a gate remembers of one key. It is stored as JSON.
type past struct {
	Key      string     `json:"key"`
	Previous any        `json:"previous,omitempty"` // payload, as ParsePayload returned it
	Changed  *digest128 `json:"changed,omitempty"`  // of the last value of changed
	Passed   time.Time  `json:"passed,omitzero"`    // when throttle last let an event through
	Held     bool       `json:"held,omitempty"`     // hold was armed, and when has not been false since

	size int // bytes that Previous weighed as text
}

// A digest128 stands for a value that is only compared.
type digest128 [16]byte

// MarshalText writes the digest in hexadecimal digits.
func (d digest128) MarshalText() ([]byte, error) {
	return hex.AppendEncode(nil, d[:]), nil
}

// UnmarshalText reads what MarshalText wrote.
func (d *digest128) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(d)) {
		return fmt.Errorf("%.40q is no digest", text)
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// A memory holds the pasts of the keys last heard of.
type memory struct {
	payloads bool                     // previous payloads are kept
	index    map[string]*list.Element // by key
	order    *list.List               // of *past, the key last heard of in front
	size     int                      // of all previous payloads
	dirty    bool                     // something is to be stored since the last snapshot
}

func newMemory(payloads bool) memory {
	return memory{payloads: payloads, index: map[string]*list.Element{}, order: list.New()}
}

// past returns what is remembered of key, a new past if that is nothing.
func (m *memory) past(key string) *past {
	if e, ok := m.index[key]; ok {
		m.order.MoveToFront(e)
		return pastOf(e)
	}
	p := &past{Key: key}
	m.index[key] = m.order.PushFront(p)
	if m.order.Len() > maxKeys {
		oldest := pastOf(m.order.Back())
		m.size -= oldest.size
		delete(m.index, oldest.Key)
		m.order.Remove(m.order.Back())
	}
	return p
}

func pastOf(e *list.Element) *past {
	p, _ := e.Value.(*past)
	return p
}

// keep makes the payload of s the previous one of p.
func (m *memory) keep(p *past, s Scope) {
	if !m.payloads || s.Event == nil {
		return
	}
	previous, size := s.Payload, len(s.Event.Payload)
	if size > maxPrevious {
		previous, size = nil, 0
	}
	m.dirty = true
	m.size += size - p.size
	p.Previous, p.size = previous, size
	for e := m.order.Back(); e != nil && m.size > maxAllPrevious; e = e.Prev() {
		oldest := pastOf(e)
		m.size -= oldest.size
		oldest.Previous, oldest.size = nil, 0
	}
}

func (m *memory) snapshot() []byte {
	if !m.dirty {
		return nil
	}
	pasts := make([]*past, 0, m.order.Len())
	for e := m.order.Front(); e != nil; e = e.Next() {
		pasts = append(pasts, pastOf(e))
	}
	text, err := json.Marshal(pasts)
	if err != nil { // a time beyond the year 9999: nothing of this is worth a crash
		return nil
	}
	m.dirty = false
	return text
}

func (m *memory) restore(text []byte) error {
	*m = newMemory(m.payloads)
	var pasts []past
	if err := json.Unmarshal(text, &pasts); err != nil {
		return err
	}
	for i := min(len(pasts), maxKeys) - 1; i >= 0; i-- { // the key last heard of comes last
		p := m.past(pasts[i].Key)
		m.size -= p.size
		*p = pasts[i]
		if !m.payloads {
			p.Previous = nil
		}
		if text, err := json.Marshal(p.Previous); err == nil && p.Previous != nil {
			p.size = len(text)
		}
		m.size += p.size
	}
	m.dirty = false
	return nil
}
