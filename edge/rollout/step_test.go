package rollout

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

const (
	v1 functions.Revision = "old"
	v2 functions.Revision = "new"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// A fleet is some nodes amid a rollout, and what time it is. Its nodes do as they are
// told with [fleet.follow], and otherwise what a test says.
type fleet struct {
	t     *testing.T
	r     edge.Rollout
	nodes []Seen
	now   time.Time
}

func begin(t *testing.T, stages string, names ...string) *fleet {
	t.Helper()
	parsed, err := Stages(stages)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Begin(edge.RolloutAsk{Stages: parsed}, "night-light", v1, v2, "ada", noon)
	if err != nil {
		t.Fatal(err)
	}
	r.ID = 7
	f := &fleet{t: t, r: r, now: noon}
	for _, name := range names {
		f.nodes = append(f.nodes, Seen{ID: "id-" + name, Name: name, Online: true,
			Report: &edge.FunctionReport{Revision: v1, Phase: edge.Asleep, Runs: 1000, Failed: 1, P95: 0.1}})
	}
	return f
}

func (f *fleet) step() *fleet {
	f.r, _ = Step(f.r, f.nodes, f.now)
	return f
}

func (f *fleet) after(d time.Duration) *fleet {
	f.now = f.now.Add(d)
	return f.step()
}

// follow has every node that is there run what it is told.
func (f *fleet) follow() *fleet {
	revision := Revisions(f.r)
	for i, n := range f.nodes {
		if want := revision(n.ID); n.Online && !n.runs(want) {
			f.nodes[i].Report = &edge.FunctionReport{Revision: want, Phase: edge.Asleep}
		}
	}
	return f.step()
}

// run has each of those that run the new revision run it that often.
func (f *fleet) run(runs, failed int64) *fleet {
	for i, n := range f.nodes {
		if n.runs(v2) {
			report := *n.Report
			report.Runs, report.Failed, report.P95 = report.Runs+runs, report.Failed+failed, 0.1
			f.nodes[i].Report = &report
		}
	}
	return f.step()
}

// first returns the node that the rollout reached first.
func (f *fleet) first() *Seen { return f.at(0) }

func (f *fleet) at(i int) *Seen {
	f.t.Helper()
	if len(f.r.Nodes) <= i {
		f.t.Fatalf("the rollout has reached %d nodes, want more than %d", len(f.r.Nodes), i)
	}
	return f.node(f.r.Nodes[i])
}

func (f *fleet) node(id string) *Seen {
	return &f.nodes[slices.IndexFunc(f.nodes, func(n Seen) bool { return n.ID == id })]
}

// is checks where the rollout is, and that Why says all of the words.
func (f *fleet) is(state edge.RolloutState, stage, nodes int, words ...string) *fleet {
	f.t.Helper()
	if f.r.State != state || f.r.Stage != stage || len(f.r.Nodes) != nodes {
		f.t.Fatalf("%s in stage %d with %d nodes (%s), want %s in stage %d with %d", f.r.State, f.r.Stage, len(f.r.Nodes), f.r.Why, state, stage, nodes)
	}
	for _, w := range words {
		if !strings.Contains(f.r.Why, w) {
			f.t.Errorf("why: %q, want %q in it", f.r.Why, w)
		}
	}
	if len(words) == 0 && f.r.Why != "" {
		f.t.Errorf("why: %q, want nothing", f.r.Why)
	}
	return f
}

func TestAGoodRevisionReachesEverybodyStageByStage(t *testing.T) {
	f := begin(t, "1,50%", "attic", "hall", "shed", "yard")
	f.step().is(edge.Rolling, 0, 1, "waits for 1 of 1 node to run it: "+f.first().Name)
	f.follow().is(edge.Rolling, 0, 1, "0 of 10 runs on 1 node so far")
	f.run(4, 0).is(edge.Rolling, 0, 1, "4 of 10 runs")
	f.run(6, 0).is(edge.Rolling, 0, 1, "bakes until 2026-11-26T12:05:00Z")
	f.after(5*time.Minute).is(edge.Rolling, 1, 2, "waits for 1 of 2 nodes")
	f.follow().is(edge.Rolling, 1, 2, "0 of 10 runs")
	f.run(10, 0).is(edge.Rolling, 1, 2, "bakes until 2026-11-26T12:10:00Z")
	f.after(5*time.Minute).is(edge.Rolling, 2, 4, "waits for 2 of 4 nodes")
	f.follow().run(5, 0).after(5*time.Minute).is(edge.Completed, 2, 4)
	if !f.r.Ended.Equal(f.now) {
		t.Errorf("ended %v, want %v", f.r.Ended, f.now)
	}
	if got := Revisions(f.r)("a node that comes later"); got != v2 {
		t.Errorf("a node that comes later runs %q, want %q", got, v2)
	}
}

func TestAHomeOfOneNodePassesOnce(t *testing.T) {
	f := begin(t, "10%", "home")
	f.step().follow().run(10, 0).is(edge.Rolling, 0, 1, "bakes")
	f.after(5*time.Minute).is(edge.Completed, 1, 1)
}

func TestAFunctionThatRunsTwiceADayPausesAndSaysSo(t *testing.T) {
	f := begin(t, "10%", "home")
	f.step().follow().run(1, 0)
	f.after(29*time.Minute).is(edge.Rolling, 0, 1, "1 of 10 runs")
	f.after(time.Minute).is(edge.Halted, 0, 1, "paused after 30m0s", "1 of 10 runs on 1 node", "resume", "promote")
	f.run(100, 0).after(time.Hour).is(edge.Halted, 0, 1, "1 of 10 runs") // only an operator lets it go on
}

func TestNothingPassesUnseen(t *testing.T) {
	t.Run("without nodes", func(t *testing.T) {
		f := begin(t, "1")
		f.step().is(edge.Rolling, 0, 0, "there is no node for it")
		f.after(30*time.Minute).is(edge.Halted, 0, 0, "there is no node for it")
	})
	t.Run("without a node that can be reached", func(t *testing.T) {
		f := begin(t, "1", "attic", "hall")
		f.nodes[0].Online, f.nodes[1].Online = false, false
		f.step().is(edge.Rolling, 0, 1, "none of the 1 node that it added can be reached")
		f.after(30*time.Minute).is(edge.Halted, 0, 1, "none of the 1 node")
	})
	t.Run("by what earlier stages have seen", func(t *testing.T) {
		f := begin(t, "1", "attic", "hall")
		f.step().follow().run(1000, 0).after(5*time.Minute).is(edge.Rolling, 1, 2, "waits for")
		report := &edge.FunctionReport{Revision: v2, Phase: edge.Asleep, Runs: 9}
		f.at(1).Report = report
		f.after(6*time.Minute).is(edge.Rolling, 1, 2, "9 of 10 runs on 1 node")
		f.run(1, 0).is(edge.Completed, 1, 2)
	})
	t.Run("because the stage's nodes were seen by now and are away", func(t *testing.T) {
		f := begin(t, "1", "attic", "hall")
		f.step().follow().run(10, 0)
		f.first().Online = false
		f.after(10*time.Minute).is(edge.Rolling, 0, 1, "can be reached")
	})
}

func TestNodesThatAreAwayDoNotBlock(t *testing.T) {
	f := begin(t, "2", "attic", "hall", "shed", "yard")
	f.step().follow()
	f.first().Online = false
	f.run(10, 0).after(5*time.Minute).is(edge.Rolling, 1, 4, "waits for 2 of 4 nodes")
	f.at(2).Online = false
	f.follow().run(10, 0).after(5*time.Minute).is(edge.Completed, 1, 4)
	if got := Revisions(f.r)(f.at(2).ID); got != v2 {
		t.Errorf("the one that is away gets %q when it comes, want %q", got, v2)
	}
}

func TestNodesThatCanBeReachedComeFirst(t *testing.T) {
	f := begin(t, "1", "attic", "hall", "shed", "yard")
	f.step()
	next := f.first().Name
	f = begin(t, "1", "attic", "hall", "shed", "yard")
	f.node("id-" + next).Online = false
	if f.step(); f.first().Name == next {
		t.Errorf("%s is away and comes first", next)
	}
	held := f.first().Name
	f = begin(t, "1", "attic", "hall", "shed", "yard")
	f.node("id-" + next).Online = false
	f.node("id-" + held).Refusal = &edge.Refusal{Reason: edge.RefusedHeld}
	if f.step(); f.first().Name == next || f.first().Name == held {
		t.Errorf("%s lets nothing in and comes first", f.first().Name)
	}
}

func TestWhoComesFirstDependsOnTheRollout(t *testing.T) {
	first := map[string]bool{}
	for id := range int64(50) {
		f := begin(t, "1", "attic", "hall", "shed", "yard")
		f.r.ID = id
		f.step()
		first[f.first().Name] = true
	}
	if len(first) != 4 {
		t.Errorf("of 4 nodes %d come first in one of 50 rollouts", len(first))
	}
}

func TestANodeThatItsOwnerHoldsDoesNotBlock(t *testing.T) {
	f := begin(t, "1", "attic", "hall", "shed")
	f.step().follow().run(10, 0).after(5 * time.Minute)
	f.at(1).Refusal = &edge.Refusal{Reason: edge.RefusedHeld, Why: "until 22:00"}
	f.at(2).Report = &edge.FunctionReport{Revision: v2, Phase: edge.Running, Runs: 10}
	f.after(5*time.Minute).is(edge.Completed, 1, 3)
}

func TestACordonedNodeGetsNothingNewAndKeepsWhatItHas(t *testing.T) {
	f := begin(t, "50%", "attic", "hall", "shed")
	f.nodes[0].Cordoned = true
	f.step().is(edge.Rolling, 0, 1, "waits") // half of two
	f.first().Cordoned = true
	f.follow().is(edge.Rolling, 0, 1, "0 of 10")
	f.run(10, 0).after(5*time.Minute).is(edge.Rolling, 1, 2, "waits")
	f.follow().run(10, 0).after(5*time.Minute).is(edge.Completed, 1, 2)
}

func TestNewNodesFillTheStageAndOthersKeepWhatTheyHave(t *testing.T) {
	f := begin(t, "2", "attic", "hall", "shed")
	f.step()
	kept, gone := f.r.Nodes[1], f.r.Nodes[0]
	f.nodes = slices.DeleteFunc(f.nodes, func(n Seen) bool { return n.ID == gone })
	f.step().is(edge.Rolling, 0, 2, "waits")
	if slices.Contains(f.r.Nodes, gone) || f.r.Nodes[0] != kept {
		t.Errorf("nodes %v, want %s first and not %s", f.r.Nodes, kept, gone)
	}
	had := slices.Clone(f.r.Nodes)
	for _, name := range []string{"barn", "cave", "door", "gate"} {
		f.nodes = append(f.nodes, Seen{ID: "id-" + name, Name: name, Online: true})
		f.step()
	}
	if !slices.Equal(f.r.Nodes, had) {
		t.Errorf("nodes %v once others have come, want %v", f.r.Nodes, had)
	}
}

func TestAStageWaitsForTheNodesThatAreThere(t *testing.T) {
	for _, c := range []struct {
		name string
		node Seen
		want string
	}{
		{"not yet taken", Seen{Report: &edge.FunctionReport{Revision: v1}}, "to run it: "},
		{"nothing told", Seen{}, "to run it: "},
		{"refused", Seen{Refusal: &edge.Refusal{Reason: edge.RefusedUnsigned, Why: "no signature"}}, "(no signature)"},
		{"starting", Seen{Report: &edge.FunctionReport{Revision: v2, Phase: edge.Starting, Reason: "wants the secret token"}}, "(starting: wants the secret token)"},
		{"disabled", Seen{Report: &edge.FunctionReport{Revision: v2, Phase: edge.Disabled}}, "(disabled)"},
		{"paused", Seen{Report: &edge.FunctionReport{Revision: v2, Phase: edge.Paused, Reason: "publishes too much"}}, "(paused: publishes too much)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := begin(t, "2", "attic", "hall", "shed")
			f.step().follow().run(10, 0)
			n := f.first()
			c.node.ID, c.node.Name, c.node.Online = n.ID, n.Name, true
			*n = c.node
			f.after(5*time.Minute).is(edge.Rolling, 0, 2, "waits for 1 of 2 nodes", n.Name, c.want)
			f.after(25*time.Minute).is(edge.Halted, 0, 2, n.Name, c.want)
		})
	}
}

func TestWhatIsBadTakesEverybodyBack(t *testing.T) {
	for _, c := range []struct {
		name string
		node Seen
		want []string
	}{
		{"a node gave it up",
			Seen{Report: &edge.FunctionReport{Revision: v1, Bad: v2, Error: "TypeError: x"}}, []string{"gave it up", "TypeError: x"}},
		{"a node cannot run it",
			Seen{Unfit: &edge.Unfit{Revision: v2, Error: &edge.Error{Message: "no python here"}}}, []string{"cannot run it: no python here"}},
		{"a node cannot start it",
			Seen{Report: &edge.FunctionReport{Revision: v2, Phase: edge.Failing, Reason: "no memory"}}, []string{"cannot start it: no memory"}},
		{"all runs fail",
			Seen{Report: &edge.FunctionReport{Revision: v2, Runs: 3, Failed: 3, Error: "no lamp"}}, []string{"3 of 3 runs failed on 1 node (100 %; 1 % may)", "3 of 3: no lamp"}},
		{"many runs fail",
			Seen{Report: &edge.FunctionReport{Revision: v2, Runs: 100, Failed: 5}}, []string{"5 of 100 runs failed on 1 node (5 %; 1 % may)"}},
	} {
		for _, state := range []edge.RolloutState{edge.Rolling, edge.Halted} {
			t.Run(c.name+", "+string(state), func(t *testing.T) {
				f := begin(t, "1", "attic", "hall", "shed")
				f.step().follow().run(0, 0)
				if state == edge.Halted {
					f.r, _ = Pause(f.r, "ada")
				}
				n := f.first()
				c.node.ID, c.node.Name, c.node.Online = n.ID, n.Name, true
				*n = c.node
				f.step().is(edge.RolledBack, 0, 1, append(c.want, n.Name)...)
				if got := Revisions(f.r)(n.ID); got != v1 {
					t.Errorf("the node runs %q then, want %q", got, v1)
				}
			})
		}
	}
}

func TestWhatIsBadOnANewNodeIsNotLostAmongTheOthers(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	f.step().follow().run(100_000, 0).after(5 * time.Minute)
	n := f.at(1)
	n.Report = &edge.FunctionReport{Revision: v2, Runs: 4, Failed: 4}
	f.step().is(edge.RolledBack, 1, 2, "4 of 4 runs failed on 1 node", n.Name)
}

func TestWhatTurnsBadLaterOnAnEarlierNodeTakesEverybodyBack(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	f.step().follow().run(100, 0).after(5 * time.Minute)
	n := f.first()
	n.Report = &edge.FunctionReport{Revision: v2, Phase: edge.Running, Runs: 140, Failed: 40}
	f.step().is(edge.RolledBack, 1, 2, "40 of 140 runs failed on 2 nodes", n.Name+": 40 of 140")
}

func TestAFewFailuresMayBeChance(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	f.step().follow().run(10, 2)
	f.after(5*time.Minute).is(edge.Rolling, 0, 1, "2 of 10 runs failed", "1 % may")
	f.run(190, 0).is(edge.Rolling, 1, 2, "waits") // 1 %
	f = begin(t, "1", "attic", "hall")
	f.step().follow().run(500, 9) // more than 5, less than chance can explain
	f.after(30*time.Minute).is(edge.Halted, 0, 1, "9 of 500 runs failed on 1 node (1.8 %; 1 % may)")
}

func TestAFunctionThatFailedBeforeMayGoOnFailingAsOften(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	for i := range f.nodes {
		f.nodes[i].Report.Failed = 200 // of 1000
	}
	f.step().follow().run(100, 20)
	f.after(5*time.Minute).is(edge.Rolling, 1, 2, "waits")
	f.follow().run(100, 45).is(edge.RolledBack, 1, 2, "(45 %; 20 % did before)")
}

func TestOneThatMostlyFailsNeverPasses(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	for i := range f.nodes {
		f.nodes[i].Report.Failed = 1000
	}
	f.step().follow().run(100, 100)
	f.after(30*time.Minute).is(edge.Halted, 0, 1, "100 of 100 runs failed")
}

func TestAHomeOfOneNodeIsComparedWithItselfBefore(t *testing.T) {
	f := begin(t, "all", "home")
	f.nodes[0].Report.Failed = 200
	f.step().follow().run(100, 20)
	f.after(5*time.Minute).is(edge.Completed, 0, 1)
}

func TestAFewRunsOfBeforeExcuseNothing(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	for i := range f.nodes {
		f.nodes[i].Report.Runs, f.nodes[i].Report.Failed = 9, 4
	}
	f.step().follow().run(10, 4).is(edge.RolledBack, 0, 1, "1 % may")
}

func TestAStageOfNodesThatLetNothingInWaits(t *testing.T) {
	f := begin(t, "2", "attic", "hall", "shed")
	for i := range f.nodes {
		f.nodes[i].Refusal = &edge.Refusal{Reason: edge.RefusedHeld}
	}
	f.step().is(edge.Rolling, 0, 2, "none of the 2 nodes that it added can be reached")
	f.first().Refusal = nil
	f.follow().step().is(edge.Rolling, 0, 2, "0 of 10 runs")
}

func TestAStageBakesLongerThanPatienceLasts(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	f.r.Gate.Patience = time.Minute
	f.step().follow().run(10, 0)
	f.after(2*time.Minute).is(edge.Rolling, 0, 1, "bakes")
	f.after(3*time.Minute).is(edge.Rolling, 1, 2, "waits")
}
