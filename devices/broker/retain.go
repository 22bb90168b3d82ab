package broker

import (
	"iter"
	"sync"
	"time"
)

// retained are the last messages of the topics that ask for it.
type retained struct {
	most, mostBytes int

	mu    sync.RWMutex
	last  map[string]*message // guarded by mu; by topic
	bytes int                 // guarded by mu
}

// setLocked keeps m as the last message of its topic, or none if m is empty. It
// reports whether that changed anything: past its limits no topic is added.
func (t *retained) setLocked(m *message) bool {
	old := t.last[m.topic]
	left := t.bytes
	if old != nil {
		left -= weight(old)
	}
	if len(m.payload) == 0 {
		delete(t.last, m.topic)
		t.bytes = left
		return old != nil
	}
	if old == nil && len(t.last) >= t.most || left+weight(m) > t.mostBytes {
		return false
	}
	t.last[m.topic] = m
	t.bytes = left + weight(m)
	return true
}

func weight(m *message) int { return len(m.topic) + len(m.payload) + len(m.properties) }

// allLocked yields the messages that filter means and that are not too old.
func (t *retained) allLocked(filter string) iter.Seq[*message] {
	return func(yield func(*message) bool) {
		now := time.Now().Unix()
		for topic, m := range t.last {
			if matches(filter, topic) && (m.expires == 0 || m.expires > now) && !yield(m) {
				return
			}
		}
	}
}

// get returns the last message of topic, or nil.
func (t *retained) get(topic string) *message {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.last[topic]
}

func (t *retained) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.last)
}
