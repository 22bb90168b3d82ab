package agent

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// sets is a handler that does writes on a message, and publishes what timers bring.
func sets(writes ...functions.TimerWrite) handler {
	return func(inv functions.Invocation, r functions.Run) functions.Outcome {
		if inv.Event.Source == devices.Timer {
			return publishes(inv, r)
		}
		return functions.Outcome{Effects: functions.Effects{Timers: writes}}
	}
}

func TestATimerIsTakenBackByAnotherRun(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("lamp", onIn, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			w := functions.TimerWrite{Key: "off", After: time.Minute, Payload: []byte("off")}
			if string(inv.Event.Payload) == "cancel" {
				w = functions.TimerWrite{Key: "off", Cancel: true}
			}
			return sets(w)(inv, r)
		})
		n.bus.say("in/a", "set")
		pass(30 * time.Second)
		n.bus.say("in/b", "cancel")
		pass(time.Hour)
		n.want()
		if r, err := n.Store.Recover(); err != nil || len(r.Timers) > 0 {
			t.Errorf("timers left: %v, %v", r.Timers, err)
		}
	})
}

func TestCancellingWinsUntilTheTimersRunBegins(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		n.deploy("lamp", onIn+"resources: {timeout: 10m}", func(inv functions.Invocation, r functions.Run) functions.Outcome {
			switch string(inv.Event.Payload) {
			case "busy":
				<-release
				return functions.Outcome{}
			case "cancel":
				return sets(functions.TimerWrite{Key: "off", Cancel: true})(inv, r)
			}
			return sets(functions.TimerWrite{Key: "off", After: time.Minute, Payload: []byte("off")})(inv, r)
		})
		n.bus.say("in/a", "set")
		synctest.Wait()
		n.bus.say("in/a", "busy")
		n.bus.say("in/a", "waits")
		pass(2 * time.Minute) // the timer is due, and waits in its lane behind busy
		n.bus.say("in/b", "cancel")
		pass(time.Second)
		n.function("lamp").mu.Lock()
		pending := n.function("lamp").pending
		n.function("lamp").mu.Unlock()
		if pending != 2 {
			t.Errorf("%d pending, want 2: what is busy and what waits, not the timer", pending)
		}
		close(release)
		pass(time.Second)
		n.want()
	})
}

func TestATimerSetAgainInItsOwnRunGoesOnAndLeavesNothingBehind(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		var runs atomic.Int32
		n.deploy("clock", onIn, func(functions.Invocation, functions.Run) functions.Outcome {
			var o functions.Outcome
			if k := runs.Add(1); k <= 100 {
				o.Effects.Timers = []functions.TimerWrite{
					{Key: "tick", After: time.Minute},
					{Key: fmt.Sprint("once ", k), After: time.Second},
				}
			}
			return o
		})
		n.bus.say("in/a", "begin")
		pass(300 * time.Minute)
		if got := runs.Load(); got < 101 {
			t.Errorf("%d runs, want the timer to go on", got)
		}
		n.timers.mu.Lock()
		defer n.timers.mu.Unlock()
		if len(n.timers.all) > 0 || len(n.timers.queue) > 0 {
			t.Errorf("%d timers are remembered, %d queued; want none", len(n.timers.all), len(n.timers.queue))
		}
	})
}

func TestTimersOfADeletedFunctionDoNotCome(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("lamp", onIn, sets(functions.TimerWrite{Key: "off", After: time.Minute}))
		n.bus.say("in/a", "1")
		pass(time.Second)
		if _, err := n.Remove(t.Context(), "lamp", false); err != nil {
			t.Fatal(err)
		}
		n.deploy("lamp", onIn, publishes)
		pass(time.Hour)
		n.want()
		if r, err := n.Store.Recover(); err != nil || len(r.Timers) > 0 {
			t.Errorf("timers left: %v, %v", r.Timers, err)
		}
	})
}

func TestATimerIsDueByTheClockThatCanBeTrusted(t *testing.T) {
	day := func(year int) time.Time { return time.Date(year, 6, 1, 12, 0, 0, 0, time.UTC) }
	const left = 10 * time.Minute
	tests := []struct {
		name     string
		sameBoot bool
		set, now time.Time     // what the wall clock showed
		passed   time.Duration // on the clock of this boot, since the boot
		want     time.Duration // on that clock
	}{
		{"same boot: nobody sets this clock", true, day(2030), day(1970), time.Hour, time.Hour + left},
		{"another boot: the wall clock holds", false, day(2030), day(2030).Add(4 * time.Minute), time.Minute, 7 * time.Minute},
		{"another boot, long after: at once", false, day(2030), day(2031), time.Minute, time.Minute - 365*24*time.Hour + left},
		{"after 2038", false, day(2037), day(2037).Add(9 * time.Minute), 0, time.Minute},
		{"the clock has fallen back: what remained", false, day(2030), day(1970), 0, left},
		{"it was never set when the timer was: what remained", false, day(1970), day(2030), 0, left},
		{"it jumped ahead and back: not later than what remained", false, day(2050), day(2030), 0, left},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ts := &timers{boot: "this", since: func() time.Duration { return tt.passed }, wall: func() time.Time { return tt.now }}
			st := store.Timer{Boot: "that", Due: tt.set.Add(left), Left: left, BootDue: tt.want}
			if tt.sameBoot {
				st.Boot = "this"
			}
			if got := ts.dueOnOurClock(st); got != tt.want {
				t.Errorf("due at %v, want %v", got, tt.want)
			}
		})
	}
}

func TestATimerComesOnTimeOnceTheClockIsSetAfterAReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		setClock(n, 2030)
		n.deploy("lamp", onIn, sets(functions.TimerWrite{Key: "off", After: time.Hour, Payload: []byte("off")}))
		n.bus.say("in/a", "1")
		pass(30 * time.Minute)
		n = n.restart()
		setClock(n, 1970) // a board without a clock of its own
		n.timers.mu.Lock()
		n.timers.boot = "another"
		n.timers.mu.Unlock()
		n.timers.nudge()
		pass(20 * time.Minute)
		n.want()
		setClock(n, 2030) // the time is known now
		pass(9 * time.Minute)
		n.want()
		pass(2 * time.Minute)
		n.want("out/a=off")
		n.stop()
	})
}

// setClock sets the wall clock by which timers go to that year, with the time
// that has passed in the bubble since.
func setClock(n *node, year int) {
	n.timers.mu.Lock()
	defer n.timers.mu.Unlock()
	n.timers.wall = func() time.Time {
		return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Since(bubbleBegan))
	}
}
