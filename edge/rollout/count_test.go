package rollout

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

func TestCountsGoOnWhenANodeCountsAnew(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	f.step().follow().run(6, 0).is(edge.Rolling, 0, 1, "6 of 10 runs")
	f.first().Report = &edge.FunctionReport{Revision: v2, Phase: edge.Asleep, Runs: 1} // its agent has restarted
	f.step().is(edge.Rolling, 0, 1, "7 of 10 runs")
	f.first().Report = nil // it is back and has told nothing yet
	f.step()
	f.first().Report = &edge.FunctionReport{Revision: v2, Phase: edge.Asleep, Runs: 1, Failed: 1}
	f.step()
	f.first().Report = &edge.FunctionReport{Revision: v2, Phase: edge.Asleep, Runs: 2, Failed: 0}
	f.step()
	f.first().Report = &edge.FunctionReport{Revision: v2, Phase: edge.Asleep, Runs: 2, Failed: 2}
	f.step().is(edge.RolledBack, 0, 1, "3 of 9 runs failed")
}

func TestWhatAnEarlierRolloutLeftBehindIsNotHeldAgainstThisOne(t *testing.T) {
	for name, left := range map[string]Seen{
		"given up": {Report: &edge.FunctionReport{Revision: v1, Bad: v2}},
		"unfit":    {Report: &edge.FunctionReport{Revision: v1}, Unfit: &edge.Unfit{Revision: v2}},
	} {
		t.Run(name, func(t *testing.T) {
			f := begin(t, "1", "attic")
			left.ID, left.Name, left.Online = f.nodes[0].ID, "attic", true
			f.nodes[0] = left
			f.step().after(time.Minute).is(edge.Rolling, 0, 1, "waits for 1 of 1 node")
			f.nodes[0].Report, f.nodes[0].Unfit = &edge.FunctionReport{Revision: v2, Phase: edge.Asleep}, nil
			f.step().is(edge.Rolling, 0, 1, "0 of 10 runs")
			f.nodes[0] = left
			f.step().is(edge.RolledBack, 0, 1, "attic")
		})
	}
}

func TestASlowerRevisionDoesNotPass(t *testing.T) {
	slow := func(t *testing.T, p95 float64) *fleet {
		f := begin(t, "1", "attic", "hall")
		f.step().follow()
		f.first().Report = &edge.FunctionReport{Revision: v2, Phase: edge.Asleep, Runs: 20, P95: p95}
		return f.after(5 * time.Minute)
	}
	slow(t, 0.2).is(edge.Rolling, 1, 2, "waits")
	f := slow(t, 0.31).is(edge.Rolling, 0, 1, "95 % of the runs take up to 310ms, 3.1 times the 100ms of before, more than 2 times")
	f.after(25*time.Minute).is(edge.Halted, 0, 1, "310ms")

	f = slow(t, 0.31)
	f.r.Gate.MaxP95 = 0
	f.step().is(edge.Rolling, 1, 2, "waits")
	f = slow(t, math.Inf(1))
	f.is(edge.Rolling, 1, 2, "waits") // no number
}

func TestANodeIsComparedWithItselfFirst(t *testing.T) {
	f := begin(t, "1", "attic", "hall", "shed")
	f.step()
	f.first().Report = &edge.FunctionReport{Revision: v1, Runs: 1500, P95: 0.9} // a small board
	f.step().follow()
	f.first().Report = &edge.FunctionReport{Revision: v2, Phase: edge.Asleep, Runs: 20, P95: 1}
	f.after(5*time.Minute).is(edge.Rolling, 1, 3, "waits")
}

func TestAFewMillisecondsAreNotSlow(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	for i := range f.nodes {
		f.nodes[i].Report.P95 = 0.001
	}
	f.step().follow()
	f.first().Report = &edge.FunctionReport{Revision: v2, Phase: edge.Asleep, Runs: 20, P95: 0.03}
	f.after(5*time.Minute).is(edge.Rolling, 1, 2, "waits")
}

func TestAClockThatIsSetBackHoldsNothingUp(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	f.step().follow().run(10, 0)
	f.after(-48*time.Hour).is(edge.Rolling, 0, 1, "bakes")
	f.after(5*time.Minute).is(edge.Rolling, 1, 2, "waits")
}

func TestNumbersOfANodeThatLiesAreBounded(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	f.step().follow()
	for range 100 {
		for _, runs := range []int64{math.MaxInt64, math.MinInt64, 0} {
			f.first().Report = &edge.FunctionReport{Revision: v2, Phase: edge.Asleep, Runs: runs, Failed: math.MinInt64, P95: math.NaN()}
			f.step()
			if m := total(f.r.Seen[f.first().ID]); m.Runs < 0 || m.Failed != 0 || m.P95 != 0 {
				t.Fatalf("sums %+v", m)
			}
		}
	}
	if _, err := json.Marshal(f.r); err != nil {
		t.Errorf("the rollout cannot be stored: %v", err)
	}
	f.first().Report = &edge.FunctionReport{Revision: v2, Phase: edge.Failing, Reason: strings.Repeat("\x1b[31mé\n", 1000)}
	if f.step(); len(f.r.Why) > 400 || strings.ContainsAny(f.r.Why, "\x1b\n") {
		t.Errorf("why has %d bytes: %q", len(f.r.Why), f.r.Why)
	}
}

func TestCountsAloneAreNoChange(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	f.step().follow().run(10, 0)
	_, changed := Step(f.r, f.nodes, f.now)
	if changed {
		t.Error("nothing has happened, and it is a change")
	}
	f.first().Report = &edge.FunctionReport{Revision: v2, Phase: edge.Asleep, Runs: 12}
	next, changed := Step(f.r, f.nodes, f.now)
	if changed || next.Seen[f.first().ID].Now.Runs != 12 {
		t.Errorf("changed = %v by a count, %d runs seen, want 12", changed, next.Seen[f.first().ID].Now.Runs)
	}
	if _, changed = Step(next, f.nodes, f.now.Add(5*time.Minute)); !changed {
		t.Error("the next stage is no change")
	}
}

func TestAStepChangesNothingThatItIsGiven(t *testing.T) {
	f := begin(t, "1,50%", "attic", "hall", "shed", "yard")
	f.step().follow().run(10, 0)
	f.nodes = slices.DeleteFunc(f.nodes, func(n Seen) bool { return n.ID == f.r.Nodes[0] })
	before, _ := json.Marshal([]any{f.r, f.nodes})
	Step(f.r, f.nodes, f.now.Add(time.Hour))
	after, _ := json.Marshal([]any{f.r, f.nodes})
	if string(before) != string(after) {
		t.Errorf("it was %s and is %s", before, after)
	}
}

func TestANodeThatTriesAgainIsNotHeldToHaveGivenUp(t *testing.T) {
	f := begin(t, "1", "attic")
	f.step()
	f.nodes[0].Report = &edge.FunctionReport{Revision: v2, Phase: edge.Asleep, Runs: 10, Bad: v2}
	f.step().is(edge.Rolling, 0, 1, "bakes")
}

func TestARestartJustBeforeDoesNotHideWhatWasBefore(t *testing.T) {
	f := begin(t, "all", "attic")
	f.nodes[0].Report.Failed = 200 // of 1000
	f.step()
	f.nodes[0].Report = &edge.FunctionReport{Revision: v1, Runs: 1}
	f.step().follow().run(100, 20)
	f.after(5*time.Minute).is(edge.Completed, 0, 1)
}
