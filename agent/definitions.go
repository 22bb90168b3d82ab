package agent

import (
	"context"
	"errors"
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

// Put makes d the definition of its function, new or changed. A revision that
// does not load is refused, and what was there before stays; the error is an
// *edge.Error then. What waits for the function runs on the new definition.
func (a *Agent) Put(ctx context.Context, d edge.Definition) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	if err := functions.Validate(d.Function.Manifest); err != nil {
		return invalid(d.Function.Name(), err)
	}
	p, err := newPlan(d.Function, a.Node)
	if err != nil {
		return invalid(d.Function.Name(), err)
	}
	if p.home == shared && a.cluster == nil {
		return noCluster(d.Function.Name())
	}
	f := a.claim(d.Function.Name())
	w, err := a.tryOut(ctx, f, d, p)
	lack, lacks := errors.AsType[*functions.LackError](err)
	if err != nil && !lacks {
		a.unclaim(f)
		return err
	}
	if err := a.Store.PutFunction(d, edge.Position{}); err != nil { // no position: definitions come from no hub yet
		a.unclaim(f)
		f.close(w)
		return fmt.Errorf("store function %s: %w", f.name, err)
	}
	f.set(d, p)
	a.reroute()
	f.put(d, w, lack)
	return nil
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

// tryOut starts a worker of d's revision, unless it is the current one already
// or is not to run. A revision that cannot be loaded is refused; if a runner
// just cannot be had now, that is for later. What the revision lacks is returned
// as a *functions.LackError: no reason to refuse it, for that may come after it.
func (a *Agent) tryOut(ctx context.Context, f *function, d edge.Definition, p *plan) (*worker, error) {
	f.mu.Lock()
	same := !f.removed.Load() && f.def.Function.Revision == d.Function.Revision && f.failing == ""
	f.mu.Unlock()
	if same || !d.Enabled || p.home == elsewhere {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	w, err := f.start(ctx, d.Function, p)
	_, lacks := errors.AsType[*functions.LackError](err)
	switch {
	case lacks:
		return nil, err
	case errors.Is(err, functions.ErrUnfit):
		return nil, &edge.Error{
			Code: edge.Invalid, Message: fmt.Sprintf("%s does not load: %v", f.name, err),
			Hint: "mend it and deploy again; what ran before still runs",
		}
	case err != nil:
		a.Logger.Warn("function could not be started yet", "fn", f.name, "err", err)
		return nil, nil
	}
	return w, nil
}

func invalid(name string, err error) *edge.Error {
	return &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("%s: %v", name, err)}
}

// put lets a definition that was set take effect: w, if not nil, takes over; if
// lack is not nil, what waits goes on waiting until that is there.
func (f *function) put(d edge.Definition, w *worker, lack *functions.LackError) {
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

// Remove deletes a function and says how many deliveries that waited for it
// were discarded. Attempts under way end. With purge its state and dead letters
// go too. A missing function is an *edge.Error.
func (a *Agent) Remove(ctx context.Context, name string, purge bool) (discarded int, err error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	f := a.function(name)
	if f == nil {
		return 0, notFound(name)
	}
	f.removed.Store(true)
	a.reroute()
	if _, err := a.Store.DeleteFunction(name, purge, edge.Position{}); err != nil {
		f.removed.Store(false)
		a.reroute()
		return 0, fmt.Errorf("delete function %s: %w", name, err)
	}
	a.timers.cancel(a.timers.of(name))
	discarded = f.discardWaiting()
	f.mu.Lock()
	old := retireLocked(f.worker)
	f.worker = nil
	f.mu.Unlock()
	f.close(old)
	a.unclaim(f)
	return discarded, nil
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
