package agent

import (
	"fmt"
	"slices"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// recover takes over what the store holds of an earlier run.
func (a *Agent) recover() error {
	defs, err := a.Store.Functions()
	if err != nil {
		return err
	}
	r, err := a.Store.Recover()
	if err != nil {
		return err
	}
	a.seq.Store(max(r.NextSeq, r.NextSent))
	if a.synced, err = a.Store.Synced(); err != nil {
		return err
	}
	for _, d := range defs {
		p, err := newPlan(d.Function, a.Node)
		if err != nil {
			a.Logger.Error("stored function does not compile; deploy it again", "fn", d.Function.Name(), "err", err)
			continue
		}
		f := a.newFunction(d.Function.Name())
		f.set(d, p)
		f.restoreGates()
		a.functions[f.name] = f
	}
	a.recoverInbox(r.Inbox)
	a.recoverOutbox(r.Outbox)
	for _, d := range r.Done {
		if f := a.functions[d.Function]; f != nil {
			f.seen.addKey(d.Key, d.Until)
		}
	}
	for _, t := range r.Timers {
		if f := a.functions[t.Function]; f != nil {
			a.timers.add(t)
			f.armed(t.TimerKey)
		}
	}
	a.reroute()
	return nil
}

// recoverInbox lines the stored deliveries up again, in order.
func (a *Agent) recoverInbox(rows []store.Delivery) {
	now := time.Now()
	for _, row := range rows {
		f := a.functions[row.Function]
		if f == nil {
			continue // its definition could not be read; the rows wait for it to be deployed again
		}
		d := &delivery{
			seq: row.Seq, event: row.Event, unloaded: true, size: row.Size, heard: now,
			identity: row.Identity, key: row.Key, row: true, attempt: row.Attempt, due: row.Due,
		}
		if most := now.Add(time.Duration(f.manifest().Spec.Delivery.Retry.Max)); d.due.After(most) {
			d.due = most // the clock was set back
		}
		l := f.laneLocked(laneID{key: row.Lane})
		d.lane = l
		l.list = append(l.list, d)
		l.rows++
		f.pending++
		f.inbox.add(d)
		f.counts.Recovered++
		if row.Key != "" {
			f.seen.addKey(row.Key, now.Add(time.Hour))
		}
	}
}

// recoverOutbox takes over publishes that were not confirmed. Those of a function
// that is no more are sent all the same: its handler had succeeded.
func (a *Agent) recoverOutbox(rows []store.Outgoing) {
	for _, row := range rows {
		f := a.functions[row.Function]
		if f == nil {
			f = a.newFunction(row.Function)
			f.removed.Store(true)
			f.plan = &plan{}
			a.functions[row.Function] = f
		}
		l := f.laneLocked(laneID{key: row.Lane})
		f.queueLocked(l, []*outgoing{{f: f, lane: l, Outgoing: row, state: lost, row: true}})
		f.lost = true
	}
}

// claim returns the function of that name, made if need be.
func (a *Agent) claim(name string) *function {
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.functions[name]
	if f == nil {
		f = a.newFunction(name)
		f.removed.Store(true) // until it is set
		f.plan = &plan{}
		a.functions[name] = f
	}
	return f
}

// unclaim forgets a function that came to nothing.
func (a *Agent) unclaim(f *function) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.removed.Load() && len(f.lanes) == 0 {
		delete(a.functions, f.name)
		f.closed = true
		f.alarm.Stop()
	}
}

// put lets a definition that was set take effect: w, if not nil, takes over; if
// lack is not nil, what waits goes on waiting until that is there.
func (f *function) put(d store.Function, w *worker, lack *functions.LackError) {
	f.mu.Lock()
	var old *worker
	switch {
	case w != nil && !f.closing:
		old = f.adoptLocked(w)
	case w != nil:
		old = w
	case f.worker != nil && (f.worker.function.Revision != d.Function.Revision || !d.Enabled):
		old = retireLocked(f.worker)
		f.worker = nil
	}
	if lack != nil {
		f.lackLocked(lack)
	}
	now := time.Now()
	for _, l := range f.lanes {
		f.readyLocked(l, now)
	}
	f.armLocked(now)
	f.mu.Unlock()
	f.close(old)
	f.pump()
}

const deletedWhy = "the function was deleted"

// discardWaiting ends all that waits for the function.
func (f *function) discardWaiting() int {
	f.mu.Lock()
	var receipts []*receipt
	c := &store.Change{Lazy: true}
	n := 0
	for _, l := range f.lanes {
		for _, d := range slices.Clone(l.list) {
			if d.stage != waiting {
				continue
			}
			n++
			d.remove(c)
			f.step(edge.Step{What: edge.StepDiscarded, Why: deletedWhy}, &d.event)
			if d.answer != nil {
				d.answer(answer{failure: &functions.Failure{Code: functions.CodeClosed, Message: deletedWhy}})
			}
			receipts = append(receipts, f.finishLocked(d, edge.StepDiscarded))
		}
	}
	f.mu.Unlock()
	f.a.Store.Commit(c, nil)
	for _, r := range receipts {
		r.settle()
	}
	return n
}

// withdraw ends a delivery whose run has not begun.
func (f *function) withdraw(d *delivery, why string) {
	f.mu.Lock()
	if d.stage != waiting || d.lane == nil {
		f.mu.Unlock()
		return
	}
	c := &store.Change{}
	d.timer = nil // who withdraws it has seen to that
	d.remove(c)
	f.step(edge.Step{What: edge.StepFiltered, Why: why}, &d.event)
	l := d.lane
	r := f.finishLocked(d, edge.StepFiltered)
	f.readyLocked(l, time.Now())
	f.mu.Unlock()
	if len(c.Drop) > 0 {
		f.a.Store.Commit(c, nil)
	}
	r.settle()
	f.pump()
}

func notFound(name string) *edge.Error {
	return &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("there is no function %s on this node", name), Hint: "see what there is: sedge list"}
}

// Current returns the revision of a function that is in force, if there is one.
func (a *Agent) Current(name string) (functions.Revision, bool) {
	f := a.function(name)
	if f == nil {
		return "", false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.def.Function.Revision, true
}
