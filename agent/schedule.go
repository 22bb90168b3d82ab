package agent

import (
	"time"

	"github.com/sedge-iot/sedge/devices"
)

// scheduleLocked returns an event for each schedule of the function whose time has
// come, and arms the alarm for the next. A time that passed while the node was
// off is not made up for; when the clock jumps forward, one run stands for all
// that were skipped.
func (f *function) scheduleLocked(now time.Time) []devices.Event {
	var due []devices.Event
	wall := now.Round(0) // schedules go by the wall clock
	for i := range f.plan.triggers {
		t := &f.plan.triggers[i]
		if t.schedule == nil {
			continue
		}
		switch {
		case t.next.IsZero():
			t.next = t.schedule.NextAfter(wall)
		case !t.next.After(wall):
			due = append(due, devices.Event{ID: f.a.newID(), Source: devices.Schedule, Time: wall})
			t.next = t.schedule.NextAfter(wall)
		case t.next.Sub(wall) > 0 && t.schedule.NextAfter(wall).Before(t.next):
			t.next = t.schedule.NextAfter(wall) // the clock was set back
		}
		if !t.next.IsZero() {
			// Not later than in a minute, for the clock may be set meanwhile.
			f.armLocked(now.Add(min(t.next.Sub(wall), time.Minute)))
		}
	}
	return due
}
