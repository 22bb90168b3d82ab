package store

import (
	"slices"
	"time"
)

// Bounds of one transaction: what is gathered beyond goes into the next.
const (
	maxBatch      = 1000
	maxBatchBytes = 1 << 20
)

// lazyWait is how long a lazy change waits for company.
const lazyWait = time.Second

// A task is one entry of the queue: a change, or a write that somebody waits for.
type task struct {
	change *Change
	write  func(*batch) error // instead of change; it fails with the disk, a change waits for it
	done   func(error)        // or nil
	err    error              // what done will be told
}

func (t *task) lazy() bool { return t.change != nil && t.change.Lazy }

func (t *task) impatient() bool { return t.write != nil }

// bytes estimates what the task writes.
func (t *task) bytes() (n int) {
	c := t.change
	if c == nil {
		return 0
	}
	if c.State != nil {
		for _, w := range c.State.Writes {
			n += len(w.Key) + len(w.Value)
		}
	}
	for _, d := range c.Store {
		n += len(d.Event.Topic) + len(d.Event.Payload)
	}
	for _, d := range c.Dead {
		n += len(d.Event.Topic) + len(d.Event.Payload)
	}
	for _, o := range c.Outbox {
		n += len(o.Publication.Topic) + len(o.Publication.Payload)
	}
	for _, t := range c.Timers {
		n += len(t.Event.Topic) + len(t.Event.Payload)
	}
	return n
}

// A queue holds what waits to be committed, in order.
type queue struct {
	tasks  []*task
	urgent int       // how many of tasks are not lazy
	since  time.Time // when the first of tasks came
}

func (q *queue) put(t *task, now time.Time) {
	if len(q.tasks) == 0 {
		q.since = now
	}
	if !t.lazy() {
		q.urgent++
	}
	q.tasks = append(q.tasks, t)
}

// remove takes out the tasks that are of a kind, none of them lazy.
func (q *queue) remove(kind func(*task) bool) {
	before := len(q.tasks)
	q.tasks = slices.DeleteFunc(q.tasks, kind)
	q.urgent -= before - len(q.tasks)
}

// take removes the next batch. If only lazy changes wait and none has waited
// long enough, it removes nothing and tells how long to wait; nothing and no
// wait mean that the queue is empty.
func (q *queue) take(now time.Time, hurry bool) (batch []*task, wait time.Duration) {
	if len(q.tasks) == 0 {
		return nil, 0
	}
	if wait := lazyWait - now.Sub(q.since); q.urgent == 0 && wait > 0 && !hurry {
		return nil, wait
	}
	n, bytes := 0, 0
	for n < min(len(q.tasks), maxBatch) && (n == 0 || bytes < maxBatchBytes) {
		if !q.tasks[n].lazy() {
			q.urgent--
		}
		bytes += q.tasks[n].bytes()
		n++
	}
	batch = q.tasks[:n:n]
	q.tasks = q.tasks[n:]
	return batch, 0
}
