package agent

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// A diary notes when its handler ran.
type diary struct {
	mu    sync.Mutex
	times []time.Time
}

func (d *diary) handle(inv functions.Invocation, _ functions.Run) functions.Outcome {
	d.mu.Lock()
	defer d.mu.Unlock()
	if inv.Event.Source == devices.Schedule {
		d.times = append(d.times, time.Now().UTC())
	}
	return functions.Outcome{}
}

func (d *diary) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.times)
}

func TestSchedulesRunOnTime(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		var cron, every diary
		n.deploy("cron", "triggers: [{schedule: {cron: \"30 22 * * *\", timezone: UTC}}]", cron.handle)
		n.deploy("every", "triggers: [{schedule: {every: 20s}}]", every.handle)
		pass(72*time.Hour + time.Second)
		if got := cron.count(); got != 3 {
			t.Errorf("cron ran %d times in three days: %v", got, cron.times)
		}
		for _, at := range cron.times {
			if at.Hour() != 22 || at.Minute() != 30 {
				t.Errorf("ran at %v, want 22:30", at)
			}
		}
		if got, want := every.count(), 3*24*60*3; got != want {
			t.Errorf("every ran %d times, want %d", got, want)
		}
	})
}

func TestAScheduleThatCannotRunPilesNothingUp(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		var d diary
		release := make(chan struct{})
		n.deploy("every", "triggers: [{schedule: {every: 1s}}]\nresources: {timeout: 10m}", func(inv functions.Invocation, r functions.Run) functions.Outcome {
			<-release
			return d.handle(inv, r)
		})
		pass(time.Minute)
		if c := n.status("every").Counts; c.Pending > 2 {
			t.Errorf("%d pending, want what runs and one that stands for the rest", c.Pending)
		}
		close(release)
		pass(time.Second)
		def := n.function("every").def
		def.Enabled = false
		if err := n.Put(t.Context(), def.Definition); err != nil {
			t.Fatal(err)
		}
		before := n.status("every").Counts
		pass(time.Hour)
		if c := n.status("every").Counts; c != before {
			t.Errorf("counts %+v after an hour disabled, %+v before", c, before)
		}
		def.Enabled = true
		if err := n.Put(t.Context(), def.Definition); err != nil {
			t.Fatal(err)
		}
		ran := d.count()
		pass(10 * time.Second)
		if got := d.count() - ran; got < 9 || got > 11 {
			t.Errorf("ran %d times in the ten seconds after, want 10: what was missed is not made up for", got)
		}
	})
}

func TestTheScheduleOfADeletedFunctionIsOver(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		var d diary
		n.deploy("every", "triggers: [{schedule: {every: 1s}}]", d.handle)
		f := n.function("every")
		if _, err := n.Remove(t.Context(), "every", false); err != nil {
			t.Fatal(err)
		}
		ran := d.count()
		pass(time.Minute)
		f.mu.Lock()
		defer f.mu.Unlock()
		if d.count() != ran || f.pending > 0 {
			t.Errorf("%d runs and %d pending after it was deleted", d.count()-ran, f.pending)
		}
	})
}

func TestAScheduleFollowsAClockThatIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.deploy("cron", "triggers: [{schedule: {cron: \"0 * * * *\", timezone: UTC}}]", (&diary{}).handle)
		f := n.function("cron")
		at := func(hour, minute int) time.Time { return time.Date(2031, 5, 1, hour, minute, 0, 0, time.UTC) }
		fired := func(now time.Time) bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			before := f.counts.Taken
			f.scheduleLocked(now, now)
			return f.counts.Taken > before
		}
		tests := []struct {
			now  time.Time
			want bool
			why  string
		}{
			{at(10, 30), true, "the clock jumped over many hours: one run stands for all"},
			{at(10, 31), false, "nothing is due"},
			{at(11, 0), true, "on time"},
			{at(8, 30), false, "set back: nothing is due"},
			{at(8, 59), false, "still not"},
			{at(9, 0), true, "the clock shows the next hour"},
		}
		for _, tt := range tests {
			synctest.Wait()
			if got := fired(tt.now); got != tt.want {
				t.Errorf("at %v fired %v: %s", tt.now, got, tt.why)
			}
			f.pump()
			synctest.Wait()
		}
		n.stop()
	})
}
