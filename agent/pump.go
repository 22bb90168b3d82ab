package agent

import (
	"errors"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// readyLocked puts l into the ready queue if its next delivery could run now.
func (f *function) readyLocked(l *lane, now time.Time) {
	if l.queued || l.shared && !f.a.leads.Load() {
		return
	}
	d := l.next()
	if d == nil {
		return
	}
	if d.due.After(now) {
		f.armLocked(d.due)
		return
	}
	l.queued = true
	f.ready = append(f.ready, l)
}

// pump starts attempts until nothing is ready or the runner is full. It must
// not be called with mu held.
func (f *function) pump() {
	for {
		f.mu.Lock()
		t, expired := f.nextLocked()
		for _, moved := range f.awaited {
			select {
			case moved <- struct{}{}:
			default: // it has been told already
			}
		}
		f.mu.Unlock()
		expired.settle()
		switch {
		case t != nil:
			t.launch()
		case expired == nil:
			return
		}
	}
}

// nextLocked picks the delivery to run now, marks it running and returns its
// attempt, or nil; or else the receipt of one that has become too old to run. It
// wakes a sleeping function that something is ready for, and one that lacks
// something, to see whether it is there now.
func (f *function) nextLocked() (*attempt, *receipt) {
	if !f.mayRunLocked() {
		return nil, nil
	}
	if f.worker == nil {
		if len(f.ready) > 0 || (f.manifest().Spec.Scaling.Min > 0 || f.lacking != "") && f.plan.home != elsewhere {
			f.wakeLocked()
		}
		return nil, nil
	}
	limit := f.manifest().Spec.Resources.Concurrency
	if f.suspects > 0 {
		limit = 1
	}
	for f.worker.running < limit {
		l := f.popReadyLocked()
		if l == nil {
			return nil, nil
		}
		d := l.next()
		if d == nil {
			f.dropLaneLocked(l) // what waited was withdrawn
			continue
		}
		if why := f.expired(&d.event, time.Now()); why != "" {
			if r := f.expireLocked(d, why); r != nil {
				return nil, r
			}
			continue
		}
		d.stage = running
		f.running++
		f.worker.running++
		if d.timer != nil {
			f.a.timers.forget(*d.timer) // its run begins: nothing takes it back any more
		}
		return &attempt{f: f, d: d, w: f.worker, id: f.a.newID()}, nil
	}
	return nil, nil
}

// expireLocked ends a delivery that has become too old to run.
func (f *function) expireLocked(d *delivery, why string) *receipt {
	if d.stored() {
		c := &store.Change{Lazy: true}
		d.remove(c)
		f.a.Store.Commit(c, nil)
	}
	f.step(edge.Step{What: edge.StepExpired, Why: why, Attempt: d.attempt}, &d.event)
	l := d.lane
	r := f.finishLocked(d, edge.StepExpired)
	f.readyLocked(l, time.Now())
	return r
}

// popReadyLocked takes the first lane that may run: while there are suspects,
// the first whose next delivery is one.
func (f *function) popReadyLocked() *lane {
	for i, l := range f.ready {
		if d := l.next(); f.suspects > 0 && (d == nil || !d.suspect) {
			continue
		}
		l.queued = false
		if i == 0 {
			f.ready[0] = nil
			f.ready = f.ready[1:]
		} else {
			f.ready = append(f.ready[:i:i], f.ready[i+1:]...)
		}
		return l
	}
	return nil
}

// launch gives the attempt to its runner, after reading its event back from
// the inbox if it is only there.
func (t *attempt) launch() {
	if !t.d.unloaded { // guarded by being running: nobody else touches it then
		t.invoke()
		return
	}
	t.f.a.work.Go(func() {
		ev, err := t.f.a.Store.Event(t.d.seq)
		switch {
		case errors.Is(err, store.ErrNotFound):
			t.fail(functions.CodePayload, "the event is no longer in the inbox")
			return
		case err != nil:
			t.fail(functions.CodeStart, "read event from inbox: "+err.Error())
			return
		}
		t.f.mu.Lock()
		t.d.event, t.d.unloaded = ev, false
		t.f.weighLocked(t.d, 1)
		why := t.f.expired(&ev, time.Now()) // of a recovered one that was not known before
		t.f.mu.Unlock()
		if why != "" {
			t.expire(why)
			return
		}
		t.invoke()
	})
}

// expire ends the attempt before it has begun.
func (t *attempt) expire(why string) {
	t.f.mu.Lock()
	t.leaveLocked()
	r := t.f.expireLocked(t.d, why)
	t.f.mu.Unlock()
	r.settle()
	t.f.pump()
}

// invoke gives the attempt to its runner, if that has not ended meanwhile: then
// it is no fault of the attempt.
func (t *attempt) invoke() {
	select {
	case <-t.w.instance.Ended():
		t.fail(functions.CodeClosed, "the runner had ended")
	default:
		t.w.instance.Invoke(t.invocation(), t)
	}
}

func (t *attempt) fail(code functions.Code, message string) {
	t.Done(functions.Outcome{Err: &functions.Failure{Code: code, Message: message}})
}
