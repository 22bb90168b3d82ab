package ledgertest

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

var plans = map[string]func(*testing.T, Place){
	"A plan has what nodes run and what they ran before":  testPlan,
	"A plan has the nodes that have changed since":        testPlanNodes,
	"A selector stays until another is given":             testSelector,
	"A signature belongs to a revision":                   testSignature,
	"What was purged is remembered for those away":        testPurged,
	"Whether what was taken away was meant is known":      testConfirmed,
	"An epoch that was given up is remembered":            testEpochs,
	"What was taken away too long ago is not vouched for": testForgotten,
}

func plan(t *testing.T, l *ledger.Ledger, since int64) ledger.Plan {
	t.Helper()
	p, err := l.Plan(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func testPlan(t *testing.T, place Place) {
	l := place.open(t)
	deploy(t, l, "b", "b1")
	deploy(t, l, "a", "a1")
	id := roll(t, l, "a", "a2").ID
	p := plan(t, l, 0)
	if p.At != position(t, l) || len(p.Functions) != 2 {
		t.Fatalf("the plan is %+v", p)
	}
	a, b := p.Functions[0], p.Functions[1]
	if a.Rollout == nil || a.Rollout.ID != id {
		t.Fatalf("a is %+v, want it under way", a)
	}
	a.Rollout = nil
	if want := (ledger.Placed{
		Ref:    edge.Ref{Name: "a", Revision: "a2", Enabled: true},
		Before: edge.Ref{Name: "a", Revision: "a1", Enabled: true},
	}); a != want {
		t.Errorf("a is %+v\nwant %+v", a, want)
	}
	if want := (ledger.Placed{Ref: edge.Ref{Name: "b", Revision: "b1", Enabled: true}}); b != want {
		t.Errorf("b is %+v\nwant %+v", b, want)
	}
}

func testPlanNodes(t *testing.T, place Place) {
	l := place.open(t)
	list := join(t, l, "hall", "attic", "shed")
	at := position(t, l).Revision
	if _, err := l.Cordon(list[1].ID, true, ada); err != nil {
		t.Fatal(err)
	}
	p := proof("shed", "")
	p.Counter = 9
	if _, err := l.Dialled(p, "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	if got := plan(t, l, 0).Nodes; len(got) != 3 {
		t.Errorf("there are %d nodes, want 3", len(got))
	}
	if got := plan(t, l, at).Nodes; len(got) != 1 || got[0].Name != "attic" || !got[0].Cordoned {
		t.Errorf("since %d these have changed: %+v, want attic", at, got)
	}
}

func testSelector(t *testing.T, place Place) {
	l := place.open(t)
	home, all := "site=home", ""
	for i, step := range []struct {
		revision string
		selector *string
		want     string
		changed  bool
	}{
		{"a1", nil, "", true}, {"a1", &home, home, true}, {"a1", &home, home, false},
		{"a2", nil, home, true}, {"a2", &all, "", true},
	} {
		before := position(t, l).Revision
		r, err := l.Deploy(function("f", step.revision), ledger.Intent{Selector: step.selector})
		if err != nil || r.Changed != step.changed || (r.At.Revision > before) != step.changed {
			t.Errorf("step %d: %+v, %v, from %d", i, r, err, before)
		}
		d, err := l.Function(t.Context(), "f")
		if got := plan(t, l, 0).Functions[0].Selector; got != step.want || d.Selector != step.want || err != nil {
			t.Errorf("step %d: the selector is %q and %q, %v, want %q", i, got, d.Selector, err, step.want)
		}
	}
}

func testSignature(t *testing.T, place Place) {
	l := place.open(t)
	for i, step := range []struct {
		revision, signature, want string
		changed                   bool
	}{
		{"a1", "", "", true}, {"a1", "s1", "s1", true}, {"a1", "", "s1", false}, {"a2", "s2", "s2", true}, {"a1", "", "s1", true},
	} {
		r, err := l.Deploy(function("f", step.revision), ledger.Intent{Signature: step.signature})
		if got := plan(t, l, 0).Functions[0].Signature; err != nil || r.Changed != step.changed || got != step.want || r.Signature != got {
			t.Errorf("step %d: %+v, %v, signed %q, want %q", i, r, err, got, step.want)
		}
	}
	if _, err := l.Rollback("f", "a2", asAda); err != nil {
		t.Fatal(err)
	}
	if got := plan(t, l, 0).Functions[0].Signature; got != "s2" {
		t.Errorf("back at a2 it is signed %q, want s2", got)
	}
}

func testPurged(t *testing.T, place Place) {
	l := place.open(t)
	for _, name := range []string{"a", "b", "c"} {
		deploy(t, l, name, "r1")
	}
	purge := asAda
	purge.Purge = true
	var at []int64
	for name, in := range map[string]ledger.Intent{"a": asAda, "b": purge} {
		r, err := l.Delete(name, in)
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, r.At.Revision)
	}
	r, err := l.Delete("c", purge)
	if err != nil {
		t.Fatal(err)
	}
	removals := plan(t, l, 0).Removals
	if got, want := removals.Purged(at[1]), []edge.Removal{{Name: "c", Purge: true}}; !reflect.DeepEqual(got, want) {
		t.Errorf("purged since %d: %v, want %v", at[1], got, want)
	}
	if got := removals.Purged(0); len(got) != 2 {
		t.Errorf("purged ever: %v, want b and c", got)
	}
	if got := removals.Purged(r.At.Revision); len(got) != 0 {
		t.Errorf("purged since the last: %v, want none", got)
	}
}

func testConfirmed(t *testing.T, place Place) {
	l := place.open(t)
	hall := join(t, l, "hall")[0]
	confirmed, home := asAda, "site=home"
	confirmed.Confirmed, confirmed.Selector = true, &home
	moved := function("f", "a2")
	moved.Manifest.Spec.Placement.Nodes = map[string]string{"site": "home"}
	at := func() int64 { return position(t, l).Revision }
	steps := []struct {
		name  string
		does  func() error
		hall  bool // what hall lost by it was meant
		other bool
	}{
		{"deploy", func() error { return second(l.Deploy(function("f", "a1"), asAda)) }, true, true},
		{"placement", func() error { return second(l.Deploy(moved, asAda)) }, false, false},
		{"the same, confirmed", func() error { return second(l.Deploy(function("f", "a1"), confirmed)) }, true, true},
		{"labels", func() error { return second(l.SetLabels(hall.ID, map[string]string{"a": "b"}, false, ada)) }, false, true},
		{"labels, confirmed", func() error { return second(l.SetLabels(hall.ID, nil, true, ada)) }, true, true},
		{"delete, confirmed", func() error { return second(l.Delete("f", confirmed)) }, true, true},
		{"deploy again", func() error { return second(l.Deploy(function("f", "a1"), asAda)) }, true, true},
		{"delete", func() error { return second(l.Delete("f", asAda)) }, false, false},
	}
	for _, step := range steps {
		before := at()
		if err := step.does(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		removals := plan(t, l, 0).Removals
		if got := removals.Confirmed(hall.ID, before); got != step.hall {
			t.Errorf("%s: what hall lost was meant: %v, want %v", step.name, got, step.hall)
		}
		if got := removals.Confirmed("another", before); got != step.other {
			t.Errorf("%s: what another lost was meant: %v, want %v", step.name, got, step.other)
		}
	}
	if plan(t, l, 0).Removals.Confirmed("another", 0) {
		t.Error("one removal that was not confirmed is forgotten")
	}
}

func testEpochs(t *testing.T, place Place) {
	l := place.open(t)
	deploy(t, l, "f", "a1")
	first := position(t, l)
	second, err := l.AcceptEpoch(ada)
	if err != nil || second.Epoch == first.Epoch || second.Epoch == "" || second.Revision <= first.Revision {
		t.Errorf("AcceptEpoch = %v, %v, after %v", second, err, first)
	}
	third, err := l.AcceptEpoch(ada, "elsewhere", first.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := plan(t, place.open(t), 0)
	slices.Sort(p.GivenUp[:2])
	newest := slices.Sorted(slices.Values([]string{second.Epoch, "elsewhere"}))
	if want := append(newest, first.Epoch); p.At != third || !reflect.DeepEqual(p.GivenUp, want) {
		t.Errorf("at %v these are given up: %v; want %v at %v", p.At, p.GivenUp, want, third)
	}
	if got := p.Functions[0].Revision; got != functions.Revision("a1") {
		t.Errorf("f is at %q, want a1", got)
	}
}

func testForgotten(t *testing.T, place Place) {
	l := place.open(t)
	hall := join(t, l, "hall")[0]
	first := position(t, l).Revision
	for i := range 1005 {
		if _, err := l.SetLabels(hall.ID, map[string]string{"i": fmt.Sprint(i)}, true, ada); err != nil {
			t.Fatal(err)
		}
	}
	removals := plan(t, l, 0).Removals
	if len(removals.List) != 1000 || removals.Since != first+5 {
		t.Errorf("%d are known since %d, want 1,000 since %d", len(removals.List), removals.Since, first+5)
	}
	if removals.Confirmed(hall.ID, first+4) || !removals.Confirmed(hall.ID, first+5) {
		t.Error("only what came after that can be vouched for")
	}
}
