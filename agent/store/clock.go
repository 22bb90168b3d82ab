package store

import (
	"encoding/json"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Clock is what a machine shows of the time. Its functions may be called from
// several goroutines.
type Clock struct {
	Boot  string               // names the machine's present boot
	Since func() time.Duration // since that boot, sleep included: no one sets it
	Wall  func() time.Time     // may be set by anyone at any time
}

// MachineClock returns the clock of this machine.
func MachineClock() Clock { return Clock{Boot: bootID(), Since: boottime, Wall: time.Now} }

// bootID names the machine's current boot, or returns "" where it has no name:
// every start counts as a boot, then.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

func boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Duration(time.Now().UnixNano())
	}
	return time.Duration(ts.Nano())
}

// WasSet reports whether a wall clock that shows t can have been set: a board
// without a clock of its own begins in the past.
func WasSet(t time.Time) bool { return t.Year() >= 2026 }

// What expires in a store does so by the store's own time. It began as the wall
// clock's when the store was made, goes on at the pace of a second a second, and
// is never set: whoever sets the wall clock ends nothing and prolongs nothing.
// Over a restart it is carried by a mark.
type ownTime struct {
	Clock
	base   time.Time // our time at opened
	opened time.Time // with its monotonic reading
}

func newOwnTime(c Clock, m *mark) ownTime {
	return ownTime{Clock: c, base: begin(m, c.Boot, c.Since(), c.Wall()), opened: time.Now()}
}

// now returns what the store's time is.
func (o ownTime) now() time.Time { return o.base.Add(time.Since(o.opened)) }

// A mark is what the clocks showed at one moment: row clock of table meta, as
// JSON.
type mark struct {
	Boot  string        `json:"boot"`
	Since time.Duration `json:"since"` // nanoseconds, as the times below
	Ours  int64         `json:"ours"`
	Wall  int64         `json:"wall"`
}

// mark returns the mark of this moment, at which our time is ours.
func (o ownTime) mark(ours time.Time) (string, error) {
	text, err := json.Marshal(mark{o.Boot, o.Since(), ours.UnixNano(), o.Wall().UnixNano()})
	return string(text), err
}

// begin returns the store's time as the store is opened, given the last mark, or
// nil, and what the clocks show now. Where they leave a doubt, less time has
// passed: then something lives longer, and nothing ends too soon.
func begin(m *mark, boot string, since time.Duration, wall time.Time) time.Time {
	if m == nil {
		return wall.Round(0)
	}
	ours, then := time.Unix(0, m.Ours), time.Unix(0, m.Wall)
	switch {
	case m.Boot != "" && m.Boot == boot:
		return ours.Add(max(0, since-m.Since))
	case WasSet(then) && WasSet(wall):
		return ours.Add(max(0, wall.Sub(then)))
	}
	return ours
}
