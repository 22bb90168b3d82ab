package store

import (
	"container/list"
	"sync"
)

const (
	cacheBytes    = 4 << 20 // of keys and values and what it takes to keep them
	cacheOverhead = 200     // bytes an entry takes besides
)

// A cache holds state entries that were read or written last, missing keys
// included, as they are committed. It may be used from several goroutines.
type cache struct {
	mu      sync.Mutex
	entries map[entryKey]*list.Element // of *cached
	recent  *list.List                 // the entry used last is in front
	bytes   int
	commits int64 // counts what commit was called for
}

type cached struct {
	key entryKey
	entry
}

func (c *cached) bytes() int {
	return len(c.key.function) + len(c.key.key) + len(c.value) + cacheOverhead
}

func newCache() *cache {
	return &cache{entries: map[entryKey]*list.Element{}, recent: list.New()}
}

// get returns the entry of k if it is known. If not, whoever reads it from the
// file hands seen on to fill.
func (c *cache) get(k entryKey) (e entry, seen int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[k]; ok {
		c.recent.MoveToFront(el)
		return el.Value.(*cached).entry, c.commits, true
	}
	return entry{}, c.commits, false
}

// fill takes an entry that was read from the file after get had not found it.
// It is not kept if there was a commit in between: it may be out of date.
func (c *cache) fill(k entryKey, e entry, seen int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.commits == seen {
		c.putLocked(k, e)
	}
}

// commit takes what was just committed.
func (c *cache) commit(entries map[entryKey]entry) {
	if len(entries) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.commits++
	for k, e := range entries {
		c.putLocked(k, e)
	}
}

func (c *cache) putLocked(k entryKey, e entry) {
	if el, ok := c.entries[k]; ok {
		c.dropLocked(el)
	}
	kept := &cached{k, e}
	c.entries[k] = c.recent.PushFront(kept)
	c.bytes += kept.bytes()
	for c.bytes > cacheBytes {
		c.dropLocked(c.recent.Back())
	}
}

func (c *cache) dropLocked(el *list.Element) {
	dropped := c.recent.Remove(el).(*cached)
	delete(c.entries, dropped.key)
	c.bytes -= dropped.bytes()
}
