package agent

import (
	"slices"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// armLocked makes tick run at t, if it would not sooner.
func (f *function) armLocked(t time.Time) {
	if f.closed || !f.alarmAt.IsZero() && !t.Before(f.alarmAt) {
		return
	}
	f.alarmAt = t
	f.alarm.Reset(time.Until(t))
}

// tick does what time brings: it stores what has waited too long, readies what
// is to be retried, repeats lost publishes and lets an idle runner go. It arms
// itself again while there is something to come.
func (f *function) tick() {
	now := time.Now()
	f.mu.Lock()
	f.alarmAt = time.Time{}
	pressed := f.a.own.load.pressing(f.a.Unacked)
	for _, l := range f.lanes {
		f.sweepLocked(l, now, pressed)
		f.readyLocked(l, now)
	}
	again := f.repeatLocked(now)
	idle := f.idleLocked(now)
	f.proveLocked(now)
	f.scheduleLocked(now, f.a.Store.Clock().Wall())
	if f.pending > 0 && f.restlessLocked() {
		f.armLocked(now.Add(f.a.Hold))
	}
	f.mu.Unlock()
	for _, l := range again {
		f.drain(l)
	}
	f.close(idle)
	f.pump()
}

// restlessLocked reports whether some delivery may still have to be stored:
// as long as there is, tick comes back.
func (f *function) restlessLocked() bool {
	for _, l := range f.lanes {
		if len(l.list) > l.rows && !l.shared {
			return true
		}
	}
	return false
}

// sweepLocked stores what has waited longer than the hold time: a delivery that
// waits for its lane or a runner, publishes that wait to be confirmed, and, when
// many messages are unacknowledged or others wait for its own to be, also what is
// running.
func (f *function) sweepLocked(l *lane, now time.Time, pressed bool) {
	if len(l.list) == l.rows || l.shared {
		return
	}
	var last *delivery
	for _, d := range l.list {
		overdue := now.Sub(d.heard) >= f.a.Hold
		switch {
		case !overdue || d.row || d.answer != nil:
		case d.receipt == nil && d.stage == waiting && d.attempt == 0: // at QoS 0 the first attempt runs from memory; a timer has a row of its own
		case d.stage == waiting, d.stage == publishing, d.stage == running && (pressed || d.message.awaited()):
			last = d
		}
	}
	if last != nil {
		f.storeLocked(l, last, "waited longer than the hold time")
	}
}

// storeLocked stores the lane's deliveries up to and including last, in one
// transaction: nothing may be safe while something earlier in its lane is not,
// or a crash would turn them round. Of one that is publishing, what is not yet
// confirmed goes to the outbox, and it is done.
//
// While one of them is being committed nothing can be stored; tick tries again. Of
// a shared lane nothing ever is.
func (f *function) storeLocked(l *lane, last *delivery, why string) {
	if l.shared {
		return
	}
	if l.committing() {
		f.armLocked(time.Now().Add(f.a.Hold / 2))
		return
	}
	c := &store.Change{}
	var stored, ended []*delivery
	for _, d := range l.list {
		switch {
		case d.stage == publishing:
			f.outboxLocked(c, d)
			ended = append(ended, d)
		case !d.row, d == last && !d.unloaded: // last again: its attempts and due time have changed
			f.rowLocked(c, d, why)
			stored = append(stored, d)
		}
		if d == last {
			break
		}
	}
	c.Done = f.owedLocked(l)
	f.a.Store.Commit(c, func(err error) {
		if f.complain(err); err == nil {
			f.stored(stored, ended)
		}
	})
	f.quotaLocked()
}

// rowLocked adds d's row to c.
func (f *function) rowLocked(c *store.Change, d *delivery, why string) {
	if !d.row {
		if d.timer != nil { // its delivery can still be taken back, but its row has become this one
			c.Cancel = append(c.Cancel, *d.timer)
		}
		d.row = true
		d.lane.rows++
		f.inbox.add(d)
	}
	row := store.Delivery{
		Seq: d.seq, Function: f.name, Lane: d.lane.key, Attempt: d.attempt, Due: d.due, Reason: why,
		Identity: d.identity, Key: d.key, Event: d.event, Size: d.size,
	}
	c.Store = append(c.Store, row)
}

// stored follows a commit of storeLocked.
func (f *function) stored(rows, ended []*delivery) {
	receipts := make([]*receipt, 0, len(rows)+len(ended))
	f.mu.Lock()
	for _, d := range rows {
		receipts = append(receipts, d.takeReceipt())
		if d.stage != gone {
			f.step(edge.Step{What: edge.StepStored, Attempt: d.attempt}, &d.event)
		}
		f.unloadLocked(d)
	}
	now := time.Now()
	for _, d := range ended {
		l := d.lane
		f.latency.add(now.Sub(d.heard))
		receipts = append(receipts, f.finishLocked(d, edge.StepDone))
		receipts = f.confirmedLocked(l, receipts) // what waited behind it
		f.readyLocked(l, now)
	}
	f.mu.Unlock()
	settle(receipts)
	f.pump()
}

// unloadLocked frees the memory of an event that waits in the inbox, when much
// waits there.
func (f *function) unloadLocked(d *delivery) {
	if d.stage != waiting || d.unloaded || f.memory < maxLoaded {
		return
	}
	d.unloaded = true
	d.event = devices.Event{ID: d.event.ID, Source: d.event.Source, Topic: d.event.Topic, Time: d.event.Time}
	f.weighLocked(d, -1)
}

// maxLoaded is how much of a function's waiting events stays in memory beside
// their rows in the inbox, bytes.
const maxLoaded = 256 << 10

// A tally counts what a function has in a table of the store.
type tally struct {
	count int
	bytes int64
}

// inbox counts what a function has in the inbox.
type inbox struct {
	tally
	order []*delivery // as stored, with some that are gone
}

func (b *inbox) add(d *delivery) {
	d.counted = true
	b.count++
	b.bytes += int64(d.size)
	b.order = append(b.order, d)
}

// remove takes d out of the count. It may be called more than once.
func (b *inbox) remove(d *delivery) {
	if !d.counted {
		return
	}
	d.counted = false
	b.count--
	b.bytes -= int64(d.size)
	if len(b.order) > 2*b.count+64 {
		b.order = slices.DeleteFunc(b.order, func(d *delivery) bool { return !d.counted })
	}
}

// victim returns the delivery that has waited longest of the lanes that hold
// more than their share, when there are so many lanes; without such, of all. It
// returns nil if none waits.
func (b *inbox) victim(lanes int) (oldest *delivery) {
	for _, d := range b.order {
		if !d.counted || d.stage != waiting {
			continue
		}
		if d.lane.rows*lanes > b.count {
			return d
		}
		if oldest == nil {
			oldest = d
		}
	}
	return oldest
}

// quotaLocked makes room: past the function's quota the delivery that has
// waited longest becomes a dead letter, of a device that fills more than its
// share of the inbox. So one that floods it costs the others nothing.
func (f *function) quotaLocked() {
	q := f.manifest().Spec.Delivery.Inbox
	for f.inbox.count > q.Deliveries || f.inbox.bytes > int64(q.Bytes) {
		d := f.inbox.victim(len(f.lanes))
		if d == nil {
			return
		}
		f.buryLocked(d, &functions.Failure{Code: functions.CodeInboxFull, Message: "the function's inbox is full"})
	}
}
