package ledgertest

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

var rollouts = map[string]func(*testing.T, Place){
	"A rollout begins with its deploy, or not at all":    testBegin,
	"A rollout that is over leaves the new revision":     testComplete,
	"A rollout that goes back takes its revision along":  testGoBack,
	"A rollout of a new function that goes back ends it": testGoBackToNothing,
	"A function has one rollout at a time":               testOneRollout,
	"Each step of a rollout is made once":                testStepRace,
	"What a rollout goes back to is kept":                testBeforeIsKept,
	"Rollouts are listed, newest first":                  testListRollouts,
}

// roll deploys with a rollout of two stages.
func roll(t *testing.T, l *ledger.Ledger, name, revision string) edge.Rollout {
	t.Helper()
	in := asAda
	in.Rollout = &edge.Rollout{Stages: []edge.Stage{{Count: 1}, {Percent: 100}}, Gate: edge.Gate{MinRuns: 3, Bake: time.Minute}}
	r, err := l.Deploy(function(name, revision), in)
	if err != nil || r.Rollout == nil {
		t.Fatalf("deploy with a rollout: %+v, %v", r, err)
	}
	return *r.Rollout
}

// steer sets the state of a rollout.
func steer(t *testing.T, l *ledger.Ledger, id int64, state edge.RolloutState) edge.Rollout {
	t.Helper()
	r, at, err := l.Steer(id, ada, func(r edge.Rollout) (edge.Rollout, bool) {
		r.State = state
		return r, true
	})
	if err != nil {
		t.Fatal(err)
	}
	if now := position(t, l); at != now {
		t.Errorf("Steer leads to %v, and the ledger is at %v", at, now)
	}
	return r
}

func current(t *testing.T, l *ledger.Ledger, name string) functions.Revision {
	t.Helper()
	d, err := l.Function(t.Context(), name)
	if errors.Is(err, ledger.ErrNotFound) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return d.Function.Revision
}

func testBegin(t *testing.T, place Place) {
	l := place.open(t)
	deploy(t, l, "f", "a1")
	before := position(t, l)
	in := asAda
	in.Rollout, in.DryRun = &edge.Rollout{}, true
	if r, err := l.Deploy(function("f", "a2"), in); err != nil || r.Rollout == nil {
		t.Errorf("trying a rollout: %+v, %v", r, err)
	}
	in.DryRun = false
	if r, err := l.Deploy(function("f", "a1"), in); err != nil || r.Rollout != nil || r.Changed {
		t.Errorf("a rollout of what is current: %+v, %v, want none", r, err)
	}
	if list, err := l.Rollouts(t.Context(), ledger.RolloutQuery{}); err != nil || len(list) != 0 || position(t, l) != before {
		t.Fatalf("there are rollouts: %+v, %v", list, err)
	}
	got := roll(t, l, "f", "a2")
	if got.ID != before.Revision+1 || got.Function != "f" || got.From != "a1" || got.To != "a2" || got.By != "ada" ||
		got.State != edge.Rolling || len(got.Stages) != 2 || got.Gate.MinRuns != 3 || got.Begun.IsZero() {
		t.Errorf("the rollout is %+v", got)
	}
	kept, err := l.Rollout(t.Context(), got.ID)
	if err != nil || !kept.Begun.Equal(got.Begun) || kept.ID != got.ID || !reflect.DeepEqual(kept.Stages, got.Stages) {
		t.Errorf("it is kept as %+v, %v", kept, err)
	}
	if at := position(t, l).Revision; at != before.Revision+1 {
		t.Errorf("deploy and rollout lead to %d, want %d", at, before.Revision+1)
	}
}

func testComplete(t *testing.T, place Place) {
	l := place.open(t)
	deploy(t, l, "f", "a1")
	id := roll(t, l, "f", "a2").ID
	at := position(t, l)
	r, stepped, err := l.Steer(id, ada, func(r edge.Rollout) (edge.Rollout, bool) {
		r.Nodes, r.From, r.ID = []string{"n1"}, "zz", 99 // the last two stay as they are
		return r, true
	})
	if err != nil || stepped.Revision != at.Revision+1 || r.ID != id || r.From != "a1" || len(r.Nodes) != 1 {
		t.Errorf("a step: %+v at %v, %v", r, stepped, err)
	}
	if _, same, err := l.Steer(id, ada, func(r edge.Rollout) (edge.Rollout, bool) { return r, false }); err != nil || same != stepped {
		t.Errorf("no step leads to %v, %v, want %v", same, err, stepped)
	}
	steer(t, l, id, edge.Halted)
	if now := position(t, l); now != stepped {
		t.Errorf("a pause moves nothing, yet it leads from %v to %v", stepped, now)
	}
	if r := steer(t, l, id, edge.Completed); r.Ended.IsZero() || position(t, l).Revision != stepped.Revision+1 {
		t.Errorf("at its end: %+v at %v", r, position(t, l))
	}
	if got := current(t, l, "f"); got != "a2" {
		t.Errorf("current is %q, want a2", got)
	}
	_, _, err = l.Steer(id, ada, func(r edge.Rollout) (edge.Rollout, bool) { return r, true })
	if !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("a step after the end: %v, want %v", err, ledger.ErrConflict)
	}
	if _, _, err := l.Steer(12345, ada, nil); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("a step of none: %v, want %v", err, ledger.ErrNotFound)
	}
}

func testGoBack(t *testing.T, place Place) {
	for _, state := range []edge.RolloutState{edge.RolledBack, edge.Aborted} {
		t.Run(string(state), func(t *testing.T) {
			l := place.open(t)
			defer l.Close()
			name := "f-" + string(state[:4])
			deploy(t, l, name, "a1")
			id := roll(t, l, name, "a2").ID
			before := position(t, l)
			steer(t, l, id, state)
			if got := current(t, l, name); got != "a1" || position(t, l).Revision != before.Revision+1 {
				t.Errorf("current is %q at %v, want a1 after %v", got, position(t, l), before)
			}
			history, err := l.History(t.Context(), name)
			if err != nil || history[0].Action != "rollback" || history[0].Revision != "a1" || history[0].Number != before.Revision+1 {
				t.Errorf("history begins with %+v, %v", history[0], err)
			}
			deploy(t, l, name, "a3")
		})
	}
}

func testGoBackToNothing(t *testing.T, place Place) {
	l := place.open(t)
	id := roll(t, l, "f", "a1").ID
	before := position(t, l)
	steer(t, l, id, edge.RolledBack)
	if got := current(t, l, "f"); got != "" {
		t.Errorf("current is %q, want none", got)
	}
	plan, err := l.Plan(t.Context(), 0)
	if err != nil || !plan.Removals.Confirmed("n", before.Revision) || len(plan.Removals.List) != 1 {
		t.Errorf("removals are %+v, %v, want one that is confirmed", plan.Removals, err)
	}
}

func testOneRollout(t *testing.T, place Place) {
	l := place.open(t)
	deploy(t, l, "f", "a1")
	id := roll(t, l, "f", "a2").ID
	selector := "site=home"
	for name, err := range map[string]error{
		"deploy":   second(l.Deploy(function("f", "a3"), asAda)),
		"rollback": second(l.Rollback("f", "", asAda)),
		"selector": second(l.Deploy(function("f", "a2"), ledger.Intent{Selector: &selector})),
	} {
		if !errors.Is(err, ledger.ErrConflict) {
			t.Errorf("%s meanwhile: %v, want %v", name, err, ledger.ErrConflict)
		}
	}
	for name, err := range map[string]error{
		"the same again": second(l.Deploy(function("f", "a2"), asAda)),
		"disable":        second(l.SetEnabled("f", false, asAda)),
		"delete":         second(l.Delete("f", asAda)),
	} {
		if err != nil {
			t.Errorf("%s meanwhile: %v", name, err)
		}
	}
	if r, err := l.Rollout(t.Context(), id); err != nil || r.State != edge.Aborted || r.Ended.IsZero() {
		t.Errorf("the rollout of what was deleted is %+v, %v, want it %s", r, err, edge.Aborted)
	}
}

func second[T any](_ T, err error) error { return err }

func testStepRace(t *testing.T, place Place) {
	l := place.open(t)
	deploy(t, l, "f", "a1")
	id := roll(t, l, "f", "a2").ID
	together(20, func(int) {
		_, _, err := l.Steer(id, ada, func(r edge.Rollout) (edge.Rollout, bool) {
			r.Stage++
			return r, true
		})
		if err != nil {
			t.Error(err)
		}
	})
	if r, err := l.Rollout(t.Context(), id); err != nil || r.Stage != 20 {
		t.Errorf("after 20 steps the rollout is in stage %d, %v", r.Stage, err)
	}
}

func testBeforeIsKept(t *testing.T, place Place) {
	l := place.open(t)
	deploy(t, l, "f", "a1")
	id := roll(t, l, "f", "a2").ID
	for i := range 210 { // so many that history has forgotten a1
		if _, err := l.SetEnabled("f", i%2 == 1, asAda); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Revision(t.Context(), "f", "a1"); err != nil {
		t.Errorf("what nodes still run: %v", err)
	}
	steer(t, l, id, edge.Aborted)
	if got := current(t, l, "f"); got != "a1" {
		t.Errorf("current is %q, want a1", got)
	}
}

func testListRollouts(t *testing.T, place Place) {
	l := place.open(t)
	first := roll(t, l, "f", "a1")
	steer(t, l, first.ID, edge.Completed)
	second := roll(t, l, "f", "a2")
	third := roll(t, l, "g", "b1")
	for _, tt := range []struct {
		q    ledger.RolloutQuery
		want []int64
	}{
		{ledger.RolloutQuery{}, []int64{third.ID, second.ID, first.ID}},
		{ledger.RolloutQuery{Function: "f"}, []int64{second.ID, first.ID}},
		{ledger.RolloutQuery{Before: third.ID, Limit: 1}, []int64{second.ID}},
	} {
		list, err := l.Rollouts(t.Context(), tt.q)
		var got []int64
		for _, r := range list {
			got = append(got, r.ID)
		}
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("Rollouts(%+v) = %v, %v, want %v", tt.q, got, err, tt.want)
		}
	}
}
