package agent

import (
	"time"

	"github.com/sedge-iot/sedge/devices"
)

// scheduleLocked lines up an event for each schedule of the function whose time
// has come, and arms the alarm for the next. A time that passed while the node
// was off, or the function disabled, is not made up for. One run stands for all
// times that were skipped because the clock jumped forward, or that came while an
// earlier one still waited. Schedules go by what the wall clock shows. A node that
// another one stands in for lines up none.
func (f *function) scheduleLocked(now, wall time.Time) {
	if f.closing || f.removed.Load() {
		return
	}
	wall = wall.Round(0)
	for i := range f.plan.triggers {
		t := &f.plan.triggers[i]
		if t.schedule == nil {
			continue
		}
		switch {
		case t.next.IsZero():
			t.next = t.schedule.NextAfter(wall)
		case !t.next.After(wall):
			f.fireLocked(t, now)
			t.next = t.schedule.NextAfter(wall)
		case t.schedule.NextAfter(wall).Before(t.next):
			t.next = t.schedule.NextAfter(wall) // the clock was set back
		}
		if !t.next.IsZero() {
			// Not later than in a minute, for the clock may be set meanwhile.
			f.armLocked(now.Add(min(t.next.Sub(wall), time.Minute)))
		}
	}
}

// fireLocked lines up an event of the schedule t.
func (f *function) fireLocked(t *trigger, now time.Time) {
	if !f.def.Enabled || f.pausedBy != "" || f.standbyLocked() != "" || t.last != nil && t.last.stage == waiting {
		return
	}
	t.last = &delivery{
		seq: f.a.seq.Add(1), heard: now,
		event: devices.Event{ID: f.a.newID(), Source: devices.Schedule, Time: now},
	}
	f.counts.Taken++
	f.admitLocked(t.last, laneID{"schedule", f.plan.home == shared}, now)
}
