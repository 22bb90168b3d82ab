package runner

import (
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

const (
	// tick is how often a busy runner looks at its handlers. An event that came
	// behind a slow handler waits two ticks at most for another seat.
	tick = 5 * time.Millisecond
	// quiet is how long the watch goes on after the last handler has ended, so
	// that a steady trickle of events does not wake it each time.
	quiet = 100 * time.Millisecond
	// unused is how long after that memory goes back to the system.
	unused = 2 * time.Second
)

// A watch looks after what the seats run. One goroutine with a coarse clock is
// cheaper than a timer per invocation, which would wake a thread each time.
type watch struct {
	seats  []*seat
	asleep atomic.Bool
	rouse  chan struct{}
}

func newWatch() *watch { return &watch{rouse: make(chan struct{}, 1)} }

// wake makes sure that the watch looks on.
func (w *watch) wake() {
	if w.asleep.Load() && w.asleep.CompareAndSwap(true, false) {
		w.rouse <- struct{}{} // cap 1, and only who cleared asleep sends
	}
}

// run looks after the seats until stop is closed.
func (w *watch) run(stop <-chan struct{}) {
	clock := time.NewTicker(tick)
	defer clock.Stop()
	var before, busy time.Time
	for {
		select {
		case now := <-clock.C:
			if w.check(now, before) {
				busy = now
			}
			before = now
			if now.Sub(busy) < quiet {
				continue
			}
		case <-stop:
			return
		}
		clock.Stop()
		if !w.sleep(stop) {
			return
		}
		busy = time.Now()
		before = time.Time{}
		clock.Reset(tick)
	}
}

// sleep waits until there is something to watch; it returns false if stop was
// closed.
func (w *watch) sleep(stop <-chan struct{}) bool {
	w.asleep.Store(true)
	if w.check(time.Time{}, time.Time{}) && w.asleep.CompareAndSwap(true, false) {
		return true // it began before asleep was set
	}
	idle := time.NewTimer(unused)
	defer idle.Stop()
	for {
		select {
		case <-w.rouse:
			return true
		case <-stop:
			return false
		case <-idle.C:
			debug.FreeOSMemory() // a function that sleeps keeps nothing for the next event but its code
		}
	}
}

// check looks at every seat, and reports whether one is busy.
func (w *watch) check(now, before time.Time) (busy bool) {
	for _, s := range w.seats {
		busy = s.check(now, before) || busy
	}
	return busy
}

func (w *watch) interruptAll(f *functions.Failure) {
	for _, s := range w.seats {
		s.interrupt(f)
	}
}
