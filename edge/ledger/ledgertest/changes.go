package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

var changes = map[string]func(*testing.T, Place){
	"Each change raises the position, and what is so already does not": testEachChange,
	"The ledger is the same after reopening":                           testReopening,
	"A revision is found by number and by its beginning":               testFinding,
	"A condition that does not hold changes nothing":                   testConditions,
	"What is not there is not found":                                   testNotFound,
	"History keeps the last fifty revisions":                           testHistory,
	"A call ends with its context":                                     testContext,
}

func testEachChange(t *testing.T, place Place) {
	l := place.open(t)
	who := ledger.Intent{By: "ada"}
	steps := []struct {
		does func() (ledger.Result, error)
		want edge.Change
		at   int64
	}{
		{func() (ledger.Result, error) { return l.Deploy(function("f", "aa"), who) },
			edge.Change{Revision: "aa", Enabled: true, Created: true, Changed: true}, 1},
		{func() (ledger.Result, error) { return l.Deploy(function("f", "aa"), who) },
			edge.Change{Revision: "aa", Enabled: true}, 1},
		{func() (ledger.Result, error) { return l.SetEnabled("f", false, who) },
			edge.Change{Revision: "aa", Changed: true}, 2},
		{func() (ledger.Result, error) { return l.SetEnabled("f", false, who) },
			edge.Change{Revision: "aa"}, 2},
		{func() (ledger.Result, error) { return l.Deploy(function("f", "bb"), ledger.Intent{DryRun: true}) },
			edge.Change{Revision: "bb", Previous: "aa", Changed: true, DryRun: true}, 2},
		{func() (ledger.Result, error) {
			return l.Deploy(function("f", "bb"), ledger.Intent{By: "bob", Expect: "aa"})
		},
			edge.Change{Revision: "bb", Previous: "aa", Changed: true}, 3},
		{func() (ledger.Result, error) { return l.Rollback("f", "", who) },
			edge.Change{Revision: "aa", Previous: "bb", Changed: true}, 4},
		{func() (ledger.Result, error) { return l.SetEnabled("f", true, who) },
			edge.Change{Revision: "aa", Enabled: true, Changed: true}, 5},
		{func() (ledger.Result, error) { return l.Delete("f", who) },
			edge.Change{Previous: "aa", Changed: true}, 6},
	}
	for i, step := range steps {
		got, err := step.does()
		step.want.Function = "f"
		if err != nil || got.Change != step.want || got.At.Revision != step.at {
			t.Fatalf("step %d: %+v, %v\nwant %+v at %d", i, got, err, step.want, step.at)
		}
	}
	history, err := l.History(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, h := range history {
		got = append(got, fmt.Sprintf("%d %s %s %s %v", h.Number, h.Action, h.Revision, h.By, h.Current))
	}
	want := []string{
		"6 delete aa ada false", "5 enable aa ada false", "4 rollback aa ada false",
		"3 deploy bb bob false", "2 disable aa ada false", "1 deploy aa ada false",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("history: %q\nwant %q", got, want)
	}
}

func testReopening(t *testing.T, place Place) {
	l := place.open(t)
	deploy(t, l, "b", "b1")
	deploy(t, l, "a", "a1")
	at := deploy(t, l, "a", "a2").At
	want := []edge.Definition{{Function: function("a", "a2"), Enabled: true}, {Function: function("b", "b1"), Enabled: true}}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = place.open(t)
	got, position, err := l.Functions(t.Context())
	if err != nil || position != at || !reflect.DeepEqual(got, want) {
		t.Errorf("Functions = %+v at %v, %v\nwant %+v at %v", got, position, err, want, at)
	}
	if at.Epoch == "" {
		t.Error("the epoch is empty")
	}
}

func testFinding(t *testing.T, place Place) {
	l := place.open(t)
	deploy(t, l, "f", "abc1") // 1
	deploy(t, l, "f", "abd2") // 2
	deploy(t, l, "f", "2fff") // 3
	deploy(t, l, "g", "eeee") // 4
	for _, tt := range []struct {
		to   string
		want functions.Revision
		err  error
	}{
		{"1", "abc1", nil}, {"abc", "abc1", nil}, {"2", "abd2", nil}, {"2f", "2fff", nil},
		{"ab", "", ledger.ErrAmbiguous}, {"4", "", ledger.ErrNotFound}, {"eeee", "", ledger.ErrNotFound}, {"%", "", ledger.ErrNotFound},
	} {
		f, err := l.Revision(t.Context(), "f", tt.to)
		if f.Revision != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("Revision(%q) = %q, %v, want %q, %v", tt.to, f.Revision, err, tt.want, tt.err)
		}
	}
}

func testConditions(t *testing.T, place Place) {
	l := place.open(t)
	_, none := l.Deploy(function("f", "a1"), ledger.Intent{Expect: "zz"})
	at := deploy(t, l, "f", "a1").At
	other := ledger.Intent{Expect: "zz"}
	_, deployed := l.Deploy(function("f", "a2"), other)
	_, created := l.Deploy(function("f", "a2"), ledger.Intent{Absent: true})
	_, disabled := l.SetEnabled("f", false, other)
	_, deleted := l.Delete("f", other)
	for i, err := range []error{none, deployed, created, disabled, deleted} {
		if !errors.Is(err, ledger.ErrConflict) {
			t.Errorf("change %d: %v, want %v", i, err, ledger.ErrConflict)
		}
	}
	if got, err := l.Position(t.Context()); err != nil || got != at {
		t.Errorf("Position = %v, %v, want %v", got, err, at)
	}
}

func testNotFound(t *testing.T, place Place) {
	l := place.open(t)
	deploy(t, l, "only", "a1")
	calls := map[string]func() error{
		"function":       func() error { _, err := l.Function(t.Context(), "f"); return err },
		"history":        func() error { _, err := l.History(t.Context(), "f"); return err },
		"revision":       func() error { _, err := l.Revision(t.Context(), "f", "1"); return err },
		"rollback":       func() error { _, err := l.Rollback("f", "", ledger.Intent{}); return err },
		"no earlier one": func() error { _, err := l.Rollback("only", "", ledger.Intent{}); return err },
		"disable":        func() error { _, err := l.SetEnabled("f", false, ledger.Intent{}); return err },
		"delete":         func() error { _, err := l.Delete("f", ledger.Intent{}); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("%s: %v, want %v", name, err, ledger.ErrNotFound)
		}
	}
}

func testHistory(t *testing.T, place Place) {
	l := place.open(t)
	for i := range 60 {
		deploy(t, l, "f", fmt.Sprintf("r%02d", i))
	}
	history, err := l.History(t.Context(), "f")
	if err != nil || len(history) != 50 || history[49].Revision != "r10" {
		t.Fatalf("history has %d lines, %v; want 50, from r10", len(history), err)
	}
	if _, err := l.Revision(t.Context(), "f", "r09"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("Revision(r09) = %v, want %v", err, ledger.ErrNotFound)
	}
	for i := range 220 {
		if _, err := l.SetEnabled("f", i%2 == 1, ledger.Intent{}); err != nil {
			t.Fatal(err)
		}
	}
	if history, err := l.History(t.Context(), "f"); err != nil || len(history) != 200 {
		t.Errorf("history has %d lines, %v; want 200", len(history), err)
	}
	if d, err := l.Function(t.Context(), "f"); err != nil || d.Function.Revision != "r59" {
		t.Errorf("current is %s, %v; want r59", d.Function.Revision, err)
	}
}

func testContext(t *testing.T, place Place) {
	l := place.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := l.Functions(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Functions = %v, want %v", err, context.Canceled)
	}
}
