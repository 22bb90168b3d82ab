package rollout

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

func TestStagesAreReadAndEndWithAll(t *testing.T) {
	for text, want := range map[string][]edge.Stage{
		"10%":          {{Percent: 10}, {Percent: 100}},
		"5":            {{Count: 5}, {Percent: 100}},
		"1, 10%, 50%":  {{Count: 1}, {Percent: 10}, {Percent: 50}, {Percent: 100}},
		"10%,5,20%,6":  {{Percent: 10}, {Count: 5}, {Percent: 20}, {Count: 6}, {Percent: 100}},
		"0.5%,100%":    {{Percent: 0.5}, {Percent: 100}},
		"1,all":        {{Count: 1}, {Percent: 100}},
		"all":          {{Percent: 100}},
		"100000,99.9%": {{Count: 100000}, {Percent: 99.9}, {Percent: 100}},
	} {
		if got, err := Stages(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("Stages(%q) = %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestStagesThatDoNotRiseAreRefusedWithAHint(t *testing.T) {
	for _, text := range []string{
		"", ",", "0", "0%", "-1", "-1%", "101%", "NaN%", "+Inf%", "ten", "10 %x", "5,5", "5,4", "10%,10%", "50%,10%", "all,1", "100%,50%",
		"1,,2", "1%%", "1000001", "9999999999999999999999", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20",
	} {
		_, err := Stages(text)
		if e, ok := errors.AsType[*edge.Error](err); !ok || e.Code != edge.Invalid || e.Hint == "" {
			t.Errorf("Stages(%q): %v, want an invalid with a hint", text, err)
		}
	}
}

// FuzzStages: what is read rises to all, is printed as it is read, and never makes a
// fleet of any size smaller.
func FuzzStages(f *testing.F) {
	for _, text := range []string{"10%", "1,10%,50%", "5", "all", "1e1%,0x2p3%", "3,2%"} {
		f.Add(text, 7)
	}
	f.Fuzz(func(t *testing.T, text string, all int) {
		stages, err := Stages(text)
		if err != nil {
			return
		}
		printed := ""
		for _, s := range stages {
			printed += s.String() + ","
		}
		again, err := Stages(printed[:len(printed)-1])
		if err != nil && len(printed) <= maxText || err == nil && !slices.Equal(again, stages) {
			t.Fatalf("%q is printed as %q: %v", text, printed, err)
		}
		all = max(0, all%100_000)
		last := min(1, all)
		for i := range stages {
			n := size(stages[:i+1], all)
			if n < last || n > all {
				t.Fatalf("%q: stage %d of %d nodes has %d, after %d", text, i+1, all, n, last)
			}
			last = n
		}
		if last != all {
			t.Fatalf("%q ends with %d of %d nodes", text, last, all)
		}
	})
}

func TestAShareOfTheNodesIsRoundedUp(t *testing.T) {
	for _, c := range []struct {
		stage     edge.Stage
		all, want int
	}{
		{edge.Stage{Percent: 10}, 0, 0},
		{edge.Stage{Percent: 10}, 1, 1},
		{edge.Stage{Percent: 10}, 10, 1},
		{edge.Stage{Percent: 10}, 11, 2},
		{edge.Stage{Percent: 0.1}, 1000, 1},
		{edge.Stage{Percent: 30}, 10, 3},
		{edge.Stage{Percent: 7}, 100, 7},
		{edge.Stage{Count: 5}, 3, 3},
		{edge.Stage{Percent: 100}, 12345, 12345},
	} {
		if got := size([]edge.Stage{c.stage}, c.all); got != c.want {
			t.Errorf("%v of %d nodes = %d, want %d", c.stage, c.all, got, c.want)
		}
	}
}

func TestAGateThatLetsEverythingPassIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*edge.Gate){
		"no runs":             func(g *edge.Gate) { g.MinRuns = 0 },
		"a share above all":   func(g *edge.Gate) { g.MaxErrors = 1.1 },
		"less than none":      func(g *edge.Gate) { g.MaxErrors = -0.1 },
		"faster than before":  func(g *edge.Gate) { g.MaxP95 = 0.5 },
		"a bake of the past":  func(g *edge.Gate) { g.Bake = -1 },
		"a bake for ever":     func(g *edge.Gate) { g.Bake = 1 << 62 },
		"no patience":         func(g *edge.Gate) { g.Patience = 0 },
		"patience for ever":   func(g *edge.Gate) { g.Patience = 1 << 62 },
		"runs without an end": func(g *edge.Gate) { g.MinRuns = maxCount + 1 },
	} {
		gate := Usual()
		spoil(&gate)
		_, err := Begin(edge.RolloutAsk{Gate: &gate}, "f", v1, v2, "ada", noon)
		if e, ok := errors.AsType[*edge.Error](err); !ok || e.Code != edge.Invalid {
			t.Errorf("%s: %v, want an invalid", name, err)
		}
	}
}

func TestARolloutBeginsWithWhatIsAsked(t *testing.T) {
	r, err := Begin(edge.RolloutAsk{Selector: "site=home"}, "f", "", v2, "ada", noon)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Stages, []edge.Stage{{Percent: 100}}) || r.Gate != Usual() || r.Selector != "site=home" || r.By != "ada" || !r.Begun.Equal(noon) {
		t.Errorf("Begin = %+v", r)
	}
	stages := append(make([]edge.Stage, 0, 8), edge.Stage{Count: 1})
	if r, err = Begin(edge.RolloutAsk{Stages: stages}, "f", v1, v2, "ada", noon); err != nil || len(r.Stages) != 2 || len(stages[:2]) != 2 || stages[:2][1] != (edge.Stage{}) {
		t.Errorf("Begin = %+v, %v, and asked was %v", r, err, stages[:2])
	}
	if _, err = Begin(edge.RolloutAsk{Stages: []edge.Stage{{Count: 1, Percent: 5}}}, "f", v1, v2, "ada", noon); err == nil {
		t.Error("a stage that is a number and a share is taken")
	}
	if _, err = Begin(edge.RolloutAsk{}, "f", v2, v2, "ada", noon); err == nil {
		t.Error("a rollout from a revision to itself begins")
	}
}

func TestAnOperatorPausesAndResumes(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	f.step().follow().run(10, 0)
	f.r, _ = Pause(f.r, "ada")
	f.after(time.Hour).is(edge.Halted, 0, 1, "paused by ada")
	f.r, _ = Resume(f.r, "bob", f.now)
	f.is(edge.Rolling, 0, 1, "resumed by bob")
	f.step().is(edge.Rolling, 0, 1, "bakes until 2026-11-26T13:05:00Z")
	f.after(5*time.Minute).is(edge.Rolling, 1, 2, "waits")
}

func TestAPausedRolloutReachesNobodyMore(t *testing.T) {
	f := begin(t, "2", "attic")
	f.step()
	f.r, _ = Pause(f.r, "ada")
	f.nodes = append(f.nodes, Seen{ID: "id-hall", Name: "hall", Online: true})
	f.step().is(edge.Halted, 0, 1, "paused by ada")
	f.r, _ = Resume(f.r, "ada", f.now)
	f.step().is(edge.Rolling, 0, 2, "waits")
}

func TestAnOperatorPromotesAStageWithoutItsGate(t *testing.T) {
	f := begin(t, "1,2", "attic", "hall", "shed")
	f.step().follow().run(500, 9).after(30*time.Minute).is(edge.Halted, 0, 1, "9 of 500")
	f.r, _ = Promote(f.r, "ada", f.now)
	f.is(edge.Rolling, 1, 1, "ada ended stage 1 without its gate")
	f.step().is(edge.Rolling, 1, 2, "waits")
	f.at(1).Report = &edge.FunctionReport{Revision: v2, Phase: edge.Asleep, Runs: 10}
	f.after(5*time.Minute).is(edge.Rolling, 2, 3, "waits") // what is known of the first stage does not hold it up
	f.follow().run(500, 0).after(5*time.Minute).is(edge.Completed, 2, 3, "without the gate of stage 1")
	if got := Revisions(f.r)("id-attic"); got != v2 {
		t.Errorf("a node runs %q, want %q", got, v2)
	}
}

func TestTheLastStageIsPromotedToCompleted(t *testing.T) {
	f := begin(t, "all", "attic")
	f.step()
	f.r, _ = Promote(f.r, "ada", f.now)
	f.step().is(edge.Completed, 0, 1, "ada ended stage 1 without its gate")
}

func TestWhatIsBadStillTakesAPromotedRolloutBack(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	f.step().follow().run(2, 2)
	f.r, _ = Promote(f.r, "ada", f.now)
	f.step().run(1, 1).is(edge.RolledBack, 1, 2, "3 of 3 runs failed")
}

func TestAnOperatorAborts(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	f.step()
	f.r, _ = Abort(f.r, "ada", f.now)
	f.after(time.Hour).is(edge.Aborted, 0, 1, "aborted by ada")
	if got := Revisions(f.r)(f.first().ID); got != v1 {
		t.Errorf("its node runs %q, want %q", got, v1)
	}
}

func TestAnOrderThatComesTooLateIsAConflict(t *testing.T) {
	orders := map[string]func(edge.Rollout) (edge.Rollout, error){
		"pause":   func(r edge.Rollout) (edge.Rollout, error) { return Pause(r, "ada") },
		"resume":  func(r edge.Rollout) (edge.Rollout, error) { return Resume(r, "ada", noon) },
		"promote": func(r edge.Rollout) (edge.Rollout, error) { return Promote(r, "ada", noon) },
		"abort":   func(r edge.Rollout) (edge.Rollout, error) { return Abort(r, "ada", noon) },
	}
	takes := map[edge.RolloutState][]string{
		edge.Rolling: {"pause", "promote", "abort"},
		edge.Halted:  {"resume", "promote", "abort"},
	}
	for _, state := range []edge.RolloutState{edge.Rolling, edge.Halted, edge.Completed, edge.RolledBack, edge.Aborted} {
		for name, order := range orders {
			r := begin(t, "1").r
			r.State = state
			_, err := order(r)
			e, ok := errors.AsType[*edge.Error](err)
			if want := slices.Contains(takes[state], name); want != (err == nil) || !want && (!ok || e.Code != edge.Conflict) {
				t.Errorf("%s of one that is %s: %v", name, state, err)
			}
		}
	}
}

func TestANodeThatAPromotedStageLeftBehindHoldsNobodyUp(t *testing.T) {
	f := begin(t, "1", "attic", "hall")
	f.step()
	f.r, _ = Promote(f.r, "ada", f.now)
	f.step()
	f.at(1).Report = &edge.FunctionReport{Revision: v2, Phase: edge.Asleep, Runs: 10}
	f.after(5*time.Minute).is(edge.Completed, 1, 2, "without the gate of stage 1")
}
