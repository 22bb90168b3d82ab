package agent

import (
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// readyLocked puts l into the ready queue if its next delivery could run now.
func (f *function) readyLocked(l *lane, now time.Time) {
	if l.queued {
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
		t := f.nextLocked()
		f.mu.Unlock()
		if t == nil {
			return
		}
		t.launch()
	}
}

// nextLocked picks the delivery to run now, marks it running and returns its
// attempt, or nil. It wakes a sleeping function that something is ready for.
func (f *function) nextLocked() *attempt {
	if len(f.ready) == 0 || !f.mayRunLocked() {
		return nil
	}
	if f.worker == nil {
		f.wakeLocked()
		return nil
	}
	limit := f.manifest().Spec.Resources.Concurrency
	if f.suspects > 0 {
		limit = 1
	}
	for f.worker.running < limit {
		l := f.popReadyLocked()
		if l == nil {
			return nil
		}
		d := l.next()
		if d == nil || d.stage != waiting {
			continue
		}
		d.stage = running
		f.running++
		f.worker.running++
		return &attempt{f: f, d: d, w: f.worker, id: f.a.newID()}
	}
	return nil
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
		t.w.instance.Invoke(t.invocation(), t)
		return
	}
	t.f.a.work.Go(func() {
		ev, err := t.f.a.Store.Event(t.d.seq)
		if err != nil {
			t.Done(functions.Outcome{Err: &functions.Failure{Code: functions.CodeStart, Message: "read event from inbox: " + err.Error()}})
			return
		}
		t.f.mu.Lock()
		t.d.event, t.d.unloaded = ev, false
		t.f.memory += t.d.size + perEvent
		t.f.mu.Unlock()
		t.w.instance.Invoke(t.invocation(), t)
	})
}
