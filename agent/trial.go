package agent

import (
	"fmt"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// When a revision has shown that it works, and when that it does not: an attempt that
// succeeds now and then is what tells a broken function from a broken device.
const (
	trialSuccesses = 3                // in a row, and it is good
	trialTime      = 10 * time.Minute // for which it has run, with a success at least, and it is good
	trialFailures  = 5                // in a row, and one that is not yet good is given up
)

// maxWhy is the most that is kept of why a revision was given up, bytes.
const maxWhy = 500

// A trial is how the revision in force has done since it came into force or the agent
// started. It is about real events: runs by hand are no part of it.
type trial struct {
	since   time.Time
	runs    int64 // attempts that ended
	failed  int64 // of them
	took    histogram
	err     string // of the last that failed
	row     int    // attempts in a row that ended as the last one: above 0 well, below 0 badly
	proving bool   // it is being marked good
	leaving bool   // it is being given up: nothing runs
}

func (t *trial) add(took time.Duration, well bool) {
	t.runs++
	t.took.add(took)
	switch {
	case well:
		t.row = max(t.row, 0) + 1
	default:
		t.failed++
		t.row = min(t.row, 0) - 1
	}
}

func shorten(text string) string {
	if len(text) > maxWhy {
		return strings.ToValidUTF8(text[:maxWhy], "") + "…"
	}
	return text
}

// onTrialLocked reports whether the attempt says something about the revision in force.
func (t *attempt) onTrialLocked() bool {
	return t.w.function.Revision == t.f.def.Function.Revision && t.d.event.Source != devices.Invoke
}

// workedLocked counts an attempt that succeeded.
func (f *function) workedLocked(t *attempt) {
	if !t.onTrialLocked() {
		return
	}
	f.trial.add(t.took, true)
	if f.trial.runs-f.trial.failed == 1 {
		f.armLocked(f.trial.since.Add(trialTime))
	}
	f.proveLocked(time.Now())
}

// proveLocked marks the revision in force good if it has shown that it works.
func (f *function) proveLocked(now time.Time) {
	tr := &f.trial
	works := tr.row >= trialSuccesses || tr.runs > tr.failed && now.Sub(tr.since) >= trialTime
	if !works || tr.proving || tr.leaving || f.closed || f.removed.Load() || f.def.Good == f.def.Function.Revision {
		return
	}
	tr.proving = true
	revision := f.def.Function.Revision
	f.a.work.Go(func() { f.markGood(revision) })
}

// markGood notes that a revision is good, if it is in force still.
func (f *function) markGood(revision functions.Revision) {
	f.a.changing.Lock()
	defer f.a.changing.Unlock()
	if f.removed.Load() || f.definition().Function.Revision != revision {
		return
	}
	err := f.a.Store.MarkGood(f.name, revision)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trial.proving = false
	if err == nil {
		f.def.Good = revision
	} // else the disk fails, which is said elsewhere: the next success tries again
}

// brokeLocked counts an attempt that failed by the function's own fault, and reports
// whether the revision is given up for that, or is about to be: then the delivery is to
// run on the one before.
func (f *function) brokeLocked(t *attempt, fail *functions.Failure) bool {
	if !t.onTrialLocked() {
		return false
	}
	f.trial.add(t.took, false)
	f.trial.err = shorten(fail.Message)
	weight := 0
	if fail.Code == functions.CodeLoad { // no attempt can end otherwise
		weight = trialFailures
	}
	return f.condemnLocked(fail.Message, max(weight, -f.trial.row))
}

// condemnLocked gives the revision in force up for the last good one, if it has failed so
// many times in a row that it should be, is not good itself, and there is one. It
// reports whether that is under way.
func (f *function) condemnLocked(why string, failures int) bool {
	d := &f.def
	if f.trial.leaving {
		return true
	}
	if failures < trialFailures || f.trial.proving || d.Good == "" || d.Good == d.Function.Revision || f.closing || f.removed.Load() {
		return false
	}
	f.trial.leaving = true
	bad := d.Function.Revision
	if failures > 1 {
		why = fmt.Sprintf("%d attempts in a row failed, the last one: %s", failures, why)
	}
	why = shorten(why)
	f.a.work.Go(func() { f.fallBack(bad, why) })
	return true
}

// fallBack puts the last good revision back in force, in one transaction. What waits
// runs on it, as if it had never run. If that cannot be, the revision that fails goes on.
func (f *function) fallBack(bad functions.Revision, why string) {
	f.a.changing.Lock()
	defer f.a.changing.Unlock()
	d := f.definition()
	if f.removed.Load() || d.Function.Revision != bad {
		return // another has come into force meanwhile
	}
	good, p, err := f.lastGood(d)
	if err == nil {
		err = f.a.Store.FallBack(f.name, bad, why)
	}
	if err != nil {
		f.a.Logger.Error("function fails, and its last good revision cannot be put back", "fn", f.name, "revision", bad.Short(), "err", err)
		f.mu.Lock()
		f.trial.leaving, f.trial.row = false, 0
		f.mu.Unlock()
		f.pump()
		return
	}
	f.a.Logger.Error("function fails: its last good revision is back in force", "fn", f.name, "revision", bad.Short(), "good", d.Good.Short(), "why", why)
	d.Definition.Function, d.Bad, d.Why = good, bad, why
	f.set(d, p)
	f.a.reroute()
	f.forgive()
	f.put(d, nil, nil)
}

// lastGood returns the last good revision, ready to come into force.
func (f *function) lastGood(d store.Function) (functions.Function, *plan, error) {
	good, err := f.a.Store.Revision(f.name, d.Good)
	if err != nil {
		return good, nil, err
	}
	p, fault := f.a.compile(good)
	if fault != nil {
		return good, nil, fault
	}
	return good, p, nil
}

// forgive has what waits run at once, with all its attempts: those that it has used up
// were the fault of a revision that is no more in force.
func (f *function) forgive() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lanes {
		for _, d := range l.list {
			if d.stage == waiting {
				d.attempt, d.due = 0, time.Time{}
			}
		}
	}
}
