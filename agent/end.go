package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// How long the end of the agent may take: for attempts to finish, and in all.
const (
	finishTime = 5 * time.Second
	endTime    = 9 * time.Second
)

// errClosing is the answer to those who wait when the agent ends.
var errClosing = &functions.Failure{Code: functions.CodeClosed, Message: "the node is shutting down"}

// finish lets the attempts under way end, stores what still waits, and closes
// the runners.
func (a *Agent) finish() {
	patience, stop := context.WithTimeout(context.Background(), finishTime)
	defer stop()
	last, stopLast := context.WithTimeout(context.Background(), endTime)
	defer stopLast()
	var wg sync.WaitGroup
	for _, f := range a.all() {
		wg.Go(func() { f.end(patience, last) })
	}
	wg.Wait()
	a.timers.save()
	a.saveGates()
}

// end brings the function to an end: nothing starts any more; what runs may
// finish until patience is done, and is interrupted then; what waits is stored.
func (f *function) end(patience, last context.Context) {
	f.mu.Lock()
	f.closing = true
	if f.starting != nil {
		f.starting()
	}
	f.mu.Unlock()
	f.await(patience, func() bool {
		f.refuseWaitingLocked()
		return !f.busyLocked()
	})
	f.mu.Lock()
	f.closed = true
	f.alarm.Stop()
	f.worker = nil
	for w := range f.workers {
		f.close(w)
	}
	f.mu.Unlock()
	f.await(last, func() bool {
		f.storeRestLocked()
		return !f.busyLocked()
	})
	f.mu.Lock()
	f.rememberKeysLocked()
	f.mu.Unlock()
}

// await returns when ok, which is called with mu held, says so, or ctx is done.
func (f *function) await(ctx context.Context, ok func() bool) {
	moved := make(chan struct{}, 1)
	f.mu.Lock()
	f.awaited = append(f.awaited, moved)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.awaited = slices.DeleteFunc(f.awaited, func(c chan struct{}) bool { return c == moved })
		f.mu.Unlock()
	}()
	for {
		f.mu.Lock()
		done := ok()
		f.mu.Unlock()
		if done {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

// busyLocked reports whether something of the function is under way.
func (f *function) busyLocked() bool {
	if f.running > 0 {
		return true
	}
	for _, l := range f.lanes {
		for _, d := range l.list {
			if d.stage != waiting {
				return true
			}
		}
	}
	return false
}

// storeRestLocked stores all that is in the lanes and can be stored now. Of what
// somebody waits for, who is turned away, nothing is.
func (f *function) storeRestLocked() {
	f.refuseWaitingLocked()
	for _, l := range f.lanes {
		if n := len(l.list); n > l.rows && !l.shared && !l.committing() && l.list[0].answer == nil {
			f.storeLocked(l, l.list[n-1], "the agent ended")
		}
	}
}

// refuseWaitingLocked answers those who wait for a run that will not begin.
func (f *function) refuseWaitingLocked() {
	for _, l := range f.lanes {
		for _, d := range l.list {
			if d.stage == waiting && d.answer != nil {
				f.endWaitingLocked(d, errClosing)
			}
		}
	}
}
