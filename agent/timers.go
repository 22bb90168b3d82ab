package agent

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// timers keep what comes later: sedge.after, a trigger's hold and debounce.
//
// Within one boot they count on a clock that no one sets and that goes on while
// the machine sleeps. After a reboot that clock is another: then a timer is due
// when its wall time has come, if the wall clock can be trusted, or else when
// what remained of it has passed once more.
type timers struct {
	a     *Agent
	boot  string               // the boot that we are in
	since func() time.Duration // CLOCK_BOOTTIME
	wall  func() time.Time     // may be set by anyone at any time
	born  time.Duration        // since, when we started
	wake  chan struct{}        // holds a token when the first timer has changed

	mu    sync.Mutex
	all   map[store.TimerKey]*timer // guarded by mu; until their run begins
	queue timerQueue                // those that are not yet due; guarded by mu
}

// A timer waits in the queue, and then, as a delivery, in its lane.
type timer struct {
	store.Timer
	due      time.Duration // on our clock
	moved    bool          // since it was stored
	index    int           // in the queue, or -1
	delivery *delivery     // once it is due
}

func newTimers(a *Agent) *timers {
	c := a.Store.Clock()
	boot := c.Boot
	if boot == "" {
		boot = newBoot() // every start counts as a boot, then
	}
	return &timers{
		a: a, boot: boot, since: c.Since, wall: c.Wall, born: c.Since(),
		wake: make(chan struct{}, 1), all: map[store.TimerKey]*timer{},
	}
}

// run makes deliveries of timers as they fall due, until ctx is done.
func (ts *timers) run(ctx context.Context) error {
	for {
		due, wait := ts.take()
		for _, t := range due {
			ts.fire(t)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ts.wake:
		case <-time.After(wait):
		}
	}
}

// patience is the longest that run sleeps: after it the clocks are looked at
// anew, for the wall clock may have been set.
const patience = time.Minute

// take removes the due timers from the queue, and says how long to wait for the next.
func (ts *timers) take() (due []*timer, wait time.Duration) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.reckonLocked()
	now := ts.since()
	for len(ts.queue) > 0 {
		if left := ts.queue[0].due - now; left > 0 {
			return due, min(left, patience)
		}
		due = append(due, heap.Pop(&ts.queue).(*timer))
	}
	return due, patience
}

// reckonLocked looks anew when timers of an earlier boot are due, for the wall clock
// may have been set.
func (ts *timers) reckonLocked() {
	changed := false
	for _, t := range ts.queue {
		if t.Boot == ts.boot {
			continue
		}
		t.due = ts.dueOnOurClock(t.Timer)
		changed = true
	}
	if changed {
		heap.Init(&ts.queue)
	}
}

// fire lines the timer's event up as a delivery of its function.
func (ts *timers) fire(t *timer) {
	f := ts.a.function(t.Function)
	if f == nil {
		return // removed meanwhile: its timers are being cancelled
	}
	d := &delivery{
		seq: ts.a.seq.Add(1), event: t.Event, size: len(t.Event.Topic) + len(t.Event.Payload), heard: time.Now(),
		timer: &store.TimerEnd{TimerKey: t.TimerKey, Event: t.Event.ID},
	}
	if ts.lineUp(f, t, d) {
		f.pump()
	}
}

// lineUp admits d, unless its timer was cancelled or replaced in this moment.
func (ts *timers) lineUp(f *function, t *timer, d *delivery) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	ts.mu.Lock()
	current := ts.all[t.TimerKey] == t
	if current {
		t.delivery = d
	}
	ts.mu.Unlock()
	if current {
		f.counts.Taken++
		f.admitLocked(d, laneID{key: t.Lane}, d.heard)
	}
	return current
}

// A timerChange is what a commit of timers means for those in memory.
type timerChange struct {
	set    []store.Timer
	cancel []store.TimerKey
}

// effects adds to c what a handler did to its timers, the last word for each
// key, and returns what to apply when c is committed. d is the delivery that
// the handler ran for.
func (ts *timers) effects(c *store.Change, d *delivery, function string, writes []functions.TimerWrite) timerChange {
	var tc timerChange
	last := map[string]int{}
	for i, w := range writes {
		last[w.Key] = i
	}
	for i, w := range writes {
		if last[w.Key] != i {
			continue
		}
		key := store.TimerKey{Function: function, Kind: store.TimerAfter, Key: w.Key}
		if w.Cancel {
			tc.cancel = append(tc.cancel, key)
			c.Cancel = append(c.Cancel, store.TimerEnd{TimerKey: key})
			continue
		}
		t := ts.timer(key, d.lane.key, w.After, devices.Event{
			ID: ts.a.newID(), Source: devices.Timer, Topic: d.event.Topic, Payload: w.Payload,
			Captures: d.event.Captures, Hops: d.event.Hops,
		})
		tc.set = append(tc.set, t)
	}
	c.Timers = append(c.Timers, tc.set...)
	return tc
}

// timer returns a timer that is due after so long from now.
func (ts *timers) timer(key store.TimerKey, lane string, after time.Duration, ev devices.Event) store.Timer {
	now := ts.wall()
	if ev.Time.IsZero() {
		ev.Time = now.Add(after)
	}
	return store.Timer{
		TimerKey: key, Lane: lane, Due: now.Add(after), Boot: ts.boot, BootDue: ts.since() + after, Left: after, Event: ev,
	}
}

// apply follows the commit of tc.
func (ts *timers) apply(tc timerChange) {
	for _, key := range tc.cancel {
		ts.drop(key)
	}
	for _, t := range tc.set {
		ts.drop(t.TimerKey)
		ts.add(t)
	}
}

// add puts a stored timer into the queue.
func (ts *timers) add(st store.Timer) {
	t := &timer{Timer: st, due: ts.dueOnOurClock(st)}
	ts.mu.Lock()
	ts.all[st.TimerKey] = t
	heap.Push(&ts.queue, t)
	first := ts.queue[0] == t
	ts.mu.Unlock()
	if first {
		ts.nudge()
	}
}

func (ts *timers) nudge() {
	select {
	case ts.wake <- struct{}{}:
	default: // run has been told already
	}
}

// dueOnOurClock returns when a timer is due, by the clock of this boot.
func (ts *timers) dueOnOurClock(t store.Timer) time.Duration {
	if t.Boot == ts.boot {
		return t.BootDue
	}
	due := ts.born + t.Left
	set, now := t.Due.Add(-t.Left), ts.wall()
	if store.WasSet(set) && now.After(set) {
		// The wall clock had been set then, and has not fallen back: it holds.
		due = min(due, ts.since()+t.Due.Sub(now))
	}
	return due
}

// drop takes a timer away. If it is due already and its run has not begun, its
// delivery goes too.
func (ts *timers) drop(key store.TimerKey) {
	ts.mu.Lock()
	t := ts.all[key]
	delete(ts.all, key)
	if t != nil && t.index >= 0 {
		heap.Remove(&ts.queue, t.index)
	}
	var d *delivery
	if t != nil {
		d = t.delivery
	}
	ts.mu.Unlock()
	if d == nil {
		return
	}
	if f := ts.a.function(key.Function); f != nil {
		f.withdraw(d, "its timer was cancelled or set again")
	}
}

// forget notes that a timer's run begins, or never will.
func (ts *timers) forget(end store.TimerEnd) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.all[end.TimerKey]; t != nil && t.Event.ID == end.Event {
		delete(ts.all, end.TimerKey)
	}
}

// arm starts a trigger's hold or debounce and calls settled when it is stored.
// A debounce that is under way is only moved, in memory: it is stored once, and
// again when the agent ends.
func (ts *timers) arm(st store.Timer, settled func()) {
	ts.mu.Lock()
	if t := ts.all[st.TimerKey]; t != nil && t.index >= 0 {
		t.Timer, t.due, t.moved = st, st.BootDue, true
		heap.Fix(&ts.queue, t.index)
		ts.mu.Unlock()
		ts.nudge()
		settled()
		return
	}
	ts.mu.Unlock()
	ts.a.Store.Commit(&store.Change{Timers: []store.Timer{st}}, func(err error) {
		if err != nil {
			return
		}
		ts.apply(timerChange{set: []store.Timer{st}})
		settled()
	})
}

// disarm takes a trigger's hold back and calls settled when that is stored. What
// was armed just before may not be known yet: its commit is ahead of this one.
func (ts *timers) disarm(key store.TimerKey, settled func()) {
	ts.drop(key)
	ts.a.Store.Commit(&store.Change{Cancel: []store.TimerEnd{{TimerKey: key}}}, func(err error) {
		if err != nil {
			return
		}
		ts.drop(key)
		settled()
	})
}

// cancel forgets timers, whose rows are gone already.
func (ts *timers) cancel(keys []store.TimerKey) {
	for _, key := range keys {
		ts.drop(key)
	}
}

// save stores the timers that were moved since they were stored.
func (ts *timers) save() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	c := &store.Change{}
	for _, t := range ts.queue {
		if t.moved {
			c.Timers = append(c.Timers, t.Timer)
			t.moved = false
		}
	}
	if len(c.Timers) > 0 {
		ts.a.Store.Commit(c, nil)
	}
}

// of returns the keys of a function's timers.
func (ts *timers) of(function string) []store.TimerKey {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	var keys []store.TimerKey
	for key := range ts.all {
		if key.Function == function {
			keys = append(keys, key)
		}
	}
	return keys
}

// timerQueue is a heap by due.
type timerQueue []*timer

func (q timerQueue) Len() int           { return len(q) }
func (q timerQueue) Less(i, j int) bool { return q[i].due < q[j].due }
func (q timerQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}
func (q *timerQueue) Push(x any) {
	t := x.(*timer)
	t.index = len(*q)
	*q = append(*q, t)
}
func (q *timerQueue) Pop() any {
	old := *q
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	t.index = -1
	return t
}
