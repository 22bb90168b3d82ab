package agent

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// failed decides what follows a failed attempt: another run at once, if the
// attempt was not the delivery's own failure; a retry later; or the end.
// alone says that nothing else ran on the same runner.
func (f *function) failed(t *attempt, fail *functions.Failure, alone bool) {
	d := t.d
	f.mu.Lock()
	leaves := f.atFault(t, fail, alone) && f.brokeLocked(t, fail)
	switch {
	case d.answer != nil:
		f.mu.Unlock()
		f.refuse(t, fail)
		return
	case f.removed.Load():
		f.discardLocked(d)
	case fail.Code == functions.CodeClosed:
		f.backLocked(d)
	case fail.Code == functions.CodeStart:
		d.due = time.Now().Add(time.Second)
		f.backLocked(d)
	case fail.Code.RunnerEnded() && !alone && !d.suspect:
		// Some delivery on that runner ended it. Each is run again alone to
		// find which; the innocent lose no attempt.
		d.suspect = true
		f.suspects++
		f.backLocked(d)
	case leaves: // on the revision before this one it may succeed
		f.clearLocked(d)
		f.backLocked(d)
	default:
		f.countFailureLocked(t, fail, alone)
	}
	f.mu.Unlock()
}

// atFault reports whether it is for the function's code that the attempt failed, or may be.
func (f *function) atFault(t *attempt, fail *functions.Failure, alone bool) bool {
	switch fail.Code {
	case functions.CodeClosed, functions.CodeStart, functions.CodePayload:
		return false
	}
	return !fail.Code.RunnerEnded() || alone || t.d.suspect
}

// clearLocked notes that d needs to show no more that it does not end its runner.
func (f *function) clearLocked(d *delivery) {
	if d.suspect {
		d.suspect = false
		f.suspects--
	}
}

// backLocked puts d back to wait for its next run, now.
func (f *function) backLocked(d *delivery) {
	d.stage = waiting
	f.readyLocked(d.lane, time.Now())
}

// countFailureLocked uses up an attempt of the delivery.
func (f *function) countFailureLocked(t *attempt, fail *functions.Failure, alone bool) {
	d := t.d
	d.attempt++
	f.lastErr = fail
	f.log(t.id, functions.LevelError, failureText(fail))
	retry := f.manifest().Spec.Delivery.Retry
	if fail.Permanent() || fail.Code == functions.CodeLimit && alone || d.attempt >= retry.Attempts {
		f.buryLocked(d, fail)
		return
	}
	f.clearLocked(d)
	d.stage = waiting
	wait := retryAfter(retry, d.attempt)
	d.due = time.Now().Add(wait)
	f.step(edge.Step{
		What: edge.StepFailed, Why: fail.Message + "; again in " + wait.Round(time.Millisecond).String(),
		Attempt: d.attempt, Invocation: t.id,
	}, &d.event)
	f.storeLocked(d.lane, d, fail.Message)
	f.readyLocked(d.lane, time.Now())
}

// retryAfter returns how long to wait after so many failed attempts:
// exponential back-off, spread by half either way.
func retryAfter(r functions.Retry, attempts int) time.Duration {
	b := backoff.ExponentialBackOff{
		InitialInterval: time.Duration(r.Backoff), MaxInterval: time.Duration(r.Max),
		Multiplier: 2, RandomizationFactor: 0.5,
	}
	b.Reset()
	d := time.Duration(0)
	for range min(attempts, 64) {
		d = b.NextBackOff()
	}
	return min(d, time.Duration(r.Max))
}

// buryLocked ends a delivery as a dead letter, or discards it if the function
// keeps none.
func (f *function) buryLocked(d *delivery, fail *functions.Failure) {
	c := &store.Change{}
	d.remove(c)
	what := edge.StepDiscarded
	if keep := f.manifest().Spec.Delivery.DeadLetter; keep == nil || *keep {
		what = edge.StepDead
		c.Dead = append(c.Dead, store.DeadLetter{
			Function: f.name, Revision: f.def.Function.Revision, Lane: d.lane.key, Seq: d.seq,
			Attempts: d.attempt, Time: time.Now(), Failure: *fail, Event: d.event, InInbox: d.unloaded,
		})
	}
	d.stage = committing
	f.doneLocked(d)
	c.Done = f.owedLocked(d.lane)
	f.inbox.remove(d)
	f.step(edge.Step{What: what, Why: fail.Message, Attempt: d.attempt}, &d.event)
	f.finishWithLocked(c, d, what)
}

// discardLocked ends a delivery of a function that was deleted while it ran.
func (f *function) discardLocked(d *delivery) {
	c := &store.Change{}
	d.remove(c)
	d.stage = committing
	f.step(edge.Step{What: edge.StepDiscarded, Why: deletedWhy}, &d.event)
	f.finishWithLocked(c, d, edge.StepDiscarded)
}

// finishWithLocked commits c and finishes d then, counted as what.
func (f *function) finishWithLocked(c *store.Change, d *delivery, what edge.StepKind) {
	f.a.Store.Commit(c, func(err error) {
		if errors.Is(err, store.ErrClosed) {
			return // the broker, or the inbox, still has it
		}
		f.complain(err)
		f.mu.Lock()
		if d.stage == gone { // left to another node meanwhile, which may run it again
			f.mu.Unlock()
			return
		}
		l := d.lane
		r := f.finishLocked(d, what)
		f.readyLocked(l, time.Now())
		if l.shared {
			f.makeRoomLocked()
		}
		f.mu.Unlock()
		r.settle()
		f.pump()
	})
}

// complain says what the store found wrong with a change, which is a fault of
// this program: a disk that fails is waited for.
func (f *function) complain(err error) {
	if err != nil && !errors.Is(err, store.ErrClosed) {
		f.a.Logger.Error("store refuses a change", "fn", f.name, "err", err)
	}
}

// refuse ends a delivery that somebody waits for: he gets the failure, and
// decides himself whether to try again.
func (f *function) refuse(t *attempt, fail *functions.Failure) {
	t.answer(functions.Outcome{Err: fail}, nil)
	f.mu.Lock()
	if t.d.stage == gone {
		f.mu.Unlock()
		return
	}
	f.lastErr = fail
	f.log(t.id, functions.LevelError, failureText(fail))
	f.step(edge.Step{What: edge.StepDiscarded, Why: fail.Message, Attempt: 1, Invocation: t.id}, &t.d.event)
	r := f.finishLocked(t.d, edge.StepDiscarded)
	f.mu.Unlock()
	r.settle()
}

func failureText(fail *functions.Failure) string {
	if fail.Stack != "" {
		return fail.Message + "\n" + fail.Stack
	}
	return fail.Message
}
