package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// A worker is a started revision of a function. Its fields are guarded by the
// function's mu, but for the first three, which do not change.
type worker struct {
	function functions.Function
	plan     *plan
	instance functions.Instance
	running  int       // attempts under way
	crowd    int       // how many were when the runner ended, or 0
	last     time.Time // when an attempt ended last, or the start
	retiring bool      // takes no more attempts; closed when the last has ended
	over     bool      // its runner has ended
}

// wakeLocked starts a worker of the current revision, if none is being started.
func (f *function) wakeLocked() {
	now := time.Now()
	if f.starting != nil || f.closing {
		return
	}
	if now.Before(f.startAt) {
		f.armLocked(f.startAt)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	f.starting = cancel
	fn, p := f.def.Function, f.plan
	f.a.work.Go(func() {
		defer cancel()
		w, err := f.a.start(ctx, fn, p)
		f.started(fn.Revision, w, err)
		f.pump()
	})
}

// start readies fn in the sandbox that its manifest asks for.
func (a *Agent) start(ctx context.Context, fn functions.Function, p *plan) (*worker, error) {
	sandbox := a.sandbox(fn)
	if sandbox == nil {
		return nil, fmt.Errorf("this node has no sandbox %q: %w", fn.Manifest.Spec.Placement.Sandbox, functions.ErrUnfit)
	}
	inst, err := sandbox.Start(ctx, fn)
	if err != nil {
		return nil, err
	}
	return &worker{function: fn, plan: p, instance: inst, last: time.Now()}, nil
}

// startTimeout is how long a start may take.
const startTimeout = 30 * time.Second

// sandbox returns the sandbox for fn, or nil. Where there is but one kind, "auto" is
// the process sandbox.
func (a *Agent) sandbox(fn functions.Function) functions.Sandbox {
	name := fn.Manifest.Spec.Placement.Sandbox
	if s := a.Sandboxes[name]; s != nil || name != "" && name != functions.SandboxAuto {
		return s
	}
	return a.Sandboxes[functions.SandboxProcess]
}

// started takes the outcome of a start of a revision.
func (f *function) started(revision functions.Revision, w *worker, err error) {
	var idle *worker
	f.mu.Lock()
	f.starting = nil
	current := f.def.Function.Revision == revision && !f.closing && !f.removed.Load()
	switch {
	case err == nil && !current:
		idle = w
	case err == nil:
		idle = f.adoptLocked(w)
	case current:
		f.notStartedLocked(err)
	}
	f.mu.Unlock()
	f.close(idle)
}

// notStartedLocked sees to it that the start is tried again.
func (f *function) notStartedLocked(err error) {
	if lack, ok := errors.AsType[*functions.LackError](err); ok {
		f.lackLocked(lack)
		return
	}
	f.failures++
	f.failing, f.lacking = err.Error(), ""
	f.startAt = time.Now().Add(min(time.Second<<min(f.failures-1, 6), time.Minute))
	f.armLocked(f.startAt)
	f.a.Logger.Warn("function could not be started", "fn", f.name, "tries", f.failures, "err", err)
	f.makeRoomLocked()
	switch {
	case !errors.Is(err, functions.ErrUnfit):
	case f.condemnLocked(err.Error(), trialFailures):
	default:
		f.giveUpWaitingLocked(err)
	}
}

// lackTime is after how long it is looked whether what a function lacks is there.
const lackTime = 2 * time.Second

// lackLocked notes what the function lacks to be started, and says so once. Its
// events wait, and none uses up an attempt: it is no fault of theirs.
func (f *function) lackLocked(lack *functions.LackError) {
	if f.lacking != lack.What {
		f.a.Logger.Warn("function waits to be started", "fn", f.name, "for", lack.What)
	}
	f.failing, f.lacking = "", lack.What
	f.startAt = time.Now().Add(lackTime)
	f.armLocked(f.startAt)
}

// adoptLocked makes w the worker that takes attempts. It returns the one before
// if that has nothing under way; else it ends when it has.
func (f *function) adoptLocked(w *worker) (old *worker) {
	old, f.worker = f.worker, w
	f.workers[w] = struct{}{}
	f.failing, f.lacking, f.startAt = "", "", time.Time{}
	f.colds++
	f.armLocked(w.last.Add(f.idleTime()))
	f.a.work.Go(func() { f.watch(w) })
	return retireLocked(old)
}

// retireLocked lets w end: it returns w if it can be closed at once.
func retireLocked(w *worker) *worker {
	if w == nil {
		return nil
	}
	w.retiring = true
	if w.running > 0 {
		return nil
	}
	return w
}

// watch waits for w's runner to end.
func (f *function) watch(w *worker) {
	<-w.instance.Ended()
	f.mu.Lock()
	f.overLocked(w)
	f.mu.Unlock()
	w.instance.Close()
	f.mu.Lock()
	delete(f.workers, w)
	f.mu.Unlock()
	f.pump()
}

// overLocked notes that w's runner has ended. One that ended by itself is
// replaced when something waits; if runners keep ending with no attempt that
// succeeds, the next is given more and more time.
func (f *function) overLocked(w *worker) {
	if w.over {
		return
	}
	w.over = true
	if f.worker != w {
		return
	}
	f.worker = nil
	f.failures++
	n := min(f.failures, 100)
	f.startAt = time.Now().Add(min(time.Duration(n*n)*10*time.Millisecond, time.Minute))
}

// close ends the runner of w, which may be nil, in a goroutine that the agent
// waits for.
func (f *function) close(w *worker) {
	if w == nil {
		return
	}
	f.a.work.Go(func() {
		if err := w.instance.Close(); err != nil {
			f.a.Logger.Debug("runner ended badly", "fn", f.name, "err", err)
		}
	})
}

// giveUpWaitingLocked makes dead letters of all that waits: no retry can help.
func (f *function) giveUpWaitingLocked(err error) {
	fail := &functions.Failure{Code: functions.CodeLoad, Message: err.Error()}
	for _, l := range f.lanes {
		for _, d := range l.list {
			if d.stage == waiting {
				f.endWaitingLocked(d, fail)
			}
		}
	}
}

// endWaitingLocked ends a delivery that no runner can take.
func (f *function) endWaitingLocked(d *delivery, fail *functions.Failure) {
	if d.answer != nil {
		t := &attempt{f: f, d: d, id: f.a.newID()}
		d.stage = committing
		f.a.work.Go(func() { f.refuse(t, fail) })
		return
	}
	f.buryLocked(d, fail)
}

// idleTime returns after how long without work a worker goes.
func (f *function) idleTime() time.Duration {
	return time.Duration(f.manifest().Spec.Scaling.Idle)
}

// idleLocked retires the worker if it has been idle for long enough, and
// returns it to be closed.
func (f *function) idleLocked(now time.Time) *worker {
	w := f.worker
	if w == nil || w.running > 0 || len(f.ready) > 0 || f.manifest().Spec.Scaling.Min > 0 {
		return nil
	}
	if at := w.last.Add(f.idleTime()); now.Before(at) {
		f.armLocked(at)
		return nil
	}
	f.worker = nil
	return retireLocked(w)
}

// pause keeps the function from running until an operator enables or deploys it.
func (f *function) pause(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pausedBy == "" {
		f.pausedBy = why
		f.a.Logger.Error("function paused", "fn", f.name, "why", why)
	}
}

// begin starts what a function needs from the first moment on.
func (f *function) begin() {
	f.mu.Lock()
	now := time.Now()
	for _, l := range f.lanes {
		f.readyLocked(l, now)
	}
	f.armLocked(now)
	f.mu.Unlock()
	f.pump()
}
