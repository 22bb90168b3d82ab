package agent

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sedge-iot/sedge/devices"
)

// loops remember what the node's functions published into the node's own
// subscriptions, for an MQTT 3.1.1 message has no room to say how many
// functions it has come through.
type loops struct {
	count atomic.Int64 // of entries; with none there is nothing to look up

	mu      sync.Mutex
	entries map[uint64]hop // by digest of topic and payload; guarded by mu
	swept   time.Time
}

type hop struct {
	n    int
	last time.Time
}

const (
	maxHops    = 16
	loopWindow = 10 * time.Second
	maxEntries = 10_000
)

// remember notes that a message which has come through n functions was published.
func (l *loops) remember(digest uint64, n int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.entries == nil {
		l.entries = map[uint64]hop{}
	}
	if now.Sub(l.swept) > loopWindow || len(l.entries) >= maxEntries {
		l.swept = now
		for d, h := range l.entries {
			if now.Sub(h.last) > loopWindow || len(l.entries) >= maxEntries {
				delete(l.entries, d)
			}
		}
	}
	if h, ok := l.entries[digest]; ok && now.Sub(h.last) <= loopWindow {
		n = max(n, h.n)
	}
	l.entries[digest] = hop{n, now}
	l.count.Store(int64(len(l.entries)))
}

// hops returns through how many functions a message has come.
func (l *loops) hops(digest uint64, now time.Time) int {
	if l.count.Load() == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if h, ok := l.entries[digest]; ok && now.Sub(h.last) <= loopWindow {
		return h.n
	}
	return 0
}

// remember notes a publish that has come through so many functions, if this node
// will hear it.
func (f *function) remember(p devices.Publication, hops int) {
	heard := false
	for _, e := range f.a.ears() {
		e.routes.Load().trie.Match(p.Topic, func(route, []devices.Capture) { heard = true })
	}
	if heard {
		f.a.loops.remember(digest(p.Topic, p.Payload), hops, time.Now())
	}
}

func loopMessage(topic string) string {
	return fmt.Sprintf("the message on %s has come through %d functions within %v: a loop", topic, maxHops, loopWindow)
}
