package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// build returns a function of that name whose revision is the spec's.
func build(t testing.TB, name, spec string) functions.Function {
	t.Helper()
	yaml := fmt.Sprintf("apiVersion: sedge.dev/v1\nkind: Function\nmetadata: {name: %s}\nspec:\n  runtime: javascript\n  source: {inline: \"x\"}\n%s", name, indent(spec))
	m, err := functions.Parse("function.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	fn, err := functions.New(m, "x")
	if err != nil {
		t.Fatal(err)
	}
	return fn
}

// version returns the spec of a function with a number, so that its revision is another.
func version(n int) string { return fmt.Sprintf("%senv: {N: \"%d\"}\n", onIn, n) }

// on is fn as the hub tells it to run.
func on(fn functions.Function) edge.Definition { return edge.Definition{Function: fn, Enabled: true} }

// bare is a definition without what the node has already.
func bare(fn functions.Function, enabled bool) edge.Definition {
	d := edge.Definition{Enabled: enabled}
	d.Function.Manifest.Metadata.Name, d.Function.Revision = fn.Name(), fn.Revision
	return d
}

// at is the position of that number, at which these are told.
func at(number int64, told ...functions.Function) edge.Synced {
	s := edge.Synced{At: edge.Position{Epoch: "e", Revision: number}}
	for _, fn := range told {
		s.Functions = append(s.Functions, edge.Ref{Name: fn.Name(), Revision: fn.Revision, Enabled: true})
	}
	s.At.Digest = edge.Digest(s.Functions)
	return s
}

// apply has the node take a step, and returns what it cannot run of it.
func (n *node) apply(put []edge.Definition, remove []edge.Removal, next edge.Synced) []edge.Unfit {
	n.t.Helper()
	unfit, _, err := n.Apply(n.t.Context(), put, remove, next)
	if err != nil {
		n.t.Fatal(err)
	}
	return unfit
}

// runs returns what the node runs, as name=revision.
func (n *node) runs() string {
	var words []string
	for _, f := range n.Functions() {
		words = append(words, f.Name+"="+f.Revision.Short())
	}
	return strings.Join(words, " ")
}

func (n *node) wantSynced(want edge.Synced, unfit ...string) {
	n.t.Helper()
	got := n.Synced()
	not := got.Unfit
	if got.Unfit = nil; !reflect.DeepEqual(got, want) {
		n.t.Errorf("Synced = %+v, want %+v", got, want)
	}
	var names []string
	for _, u := range not {
		names = append(names, u.Name+"="+u.Revision.Short())
	}
	if got, want := strings.Join(names, " "), strings.Join(unfit, " "); got != want {
		n.t.Errorf("unfit are %q, want %q", got, want)
	}
}

func named(fn functions.Function) string { return fn.Name() + "=" + fn.Revision.Short() }

func TestAStepIsTakenWithItsPositionAndOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		a, b := build(t, "a", version(1)), build(t, "b", version(1))
		n.box.set("a", publishes)
		n.box.set("b", publishes)
		if unfit := n.apply([]edge.Definition{on(a), on(b)}, nil, at(1, a, b)); len(unfit) > 0 {
			t.Errorf("unfit %+v", unfit)
		}
		n.box.set("b", func(functions.Invocation, functions.Run) functions.Outcome { return thrown("no") })
		n.bus.say("in/x", "1")
		pass(time.Second)
		_, discarded, err := n.Apply(t.Context(), []edge.Definition{bare(a, false)}, []edge.Removal{{Name: "b"}, {Name: "never"}}, at(2, a))
		if err != nil || discarded["b"] != 0 && len(discarded) != 1 {
			t.Errorf("Apply = %v, %v", discarded, err)
		}
		n = n.restart()
		if got, want := n.runs(), named(a); got != want {
			t.Errorf("it runs %q, want %q", got, want)
		}
		if got := n.status("a").Phase; got != edge.Disabled {
			t.Errorf("a is %s, want disabled", got)
		}
		n.wantSynced(at(2, a))
		n.stop()
	})
}

func TestWhatWaitsForAFunctionThatTheHubRemovesIsCounted(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		fn := build(t, "a", version(1))
		n.apply([]edge.Definition{{Function: fn}}, nil, at(1, fn))
		n.bus.say("in/x", "1")
		n.bus.say("in/y", "1")
		pass(time.Second)
		_, discarded, err := n.Apply(t.Context(), nil, []edge.Removal{{Name: "a"}}, at(2))
		if err != nil || discarded["a"] != 2 {
			t.Errorf("Apply = %v, %v, want 2 discarded", discarded, err)
		}
	})
}

func TestWhatDoesNotLoadLeavesTheOldOneAndTheRestIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		a1, b1, a2, b2 := build(t, "a", version(1)), build(t, "b", version(1)), build(t, "a", version(2)), build(t, "b", version(2))
		c := build(t, "c", version(1))
		for _, name := range []string{"a", "b", "c"} {
			n.box.set(name, publishes)
		}
		n.apply([]edge.Definition{on(a1), on(b1)}, nil, at(1, a1, b1))
		n.box.refuseOne("a", functions.ErrUnfit)
		n.box.refuseOne("c", functions.ErrUnfit)
		unfit := n.apply([]edge.Definition{on(a2), on(b2), on(c)}, nil, at(2, a2, b2, c))
		if len(unfit) != 2 || unfit[0].Name != "a" || unfit[0].Revision != a2.Revision || unfit[0].Error.Code != edge.Invalid || unfit[1].Name != "c" {
			t.Errorf("unfit %+v, want a as of its second revision, and c", unfit)
		}
		if got, want := n.runs(), named(a1)+" "+named(b2); got != want {
			t.Errorf("it runs %q, want %q", got, want)
		}
		n = n.restart()
		if got, want := n.runs(), named(a1)+" "+named(b2); got != want {
			t.Errorf("after a restart it runs %q, want %q", got, want)
		}
		// What it does not run is to be told again: another program may run it.
		n.wantSynced(edge.Synced{At: at(2, a2, b2, c).At, Functions: at(0, a1, b2).Functions})
		n.box.refuseOne("a", nil)
		n.box.refuseOne("c", nil)
		if unfit := n.apply([]edge.Definition{on(a2)}, []edge.Removal{{Name: "c"}}, at(4, a2, b2)); len(unfit) != 0 {
			t.Errorf("unfit %+v, want none", unfit)
		}
		n.stop()
	})
}

func TestTheHubDoesNotTouchWhatIsTheClusters(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		ours, hubs := build(t, "a", version(1)), build(t, "a", version(2))
		n.box.set("a", publishes)
		if err := n.Put(t.Context(), edge.Definition{Function: ours, Enabled: true, Origin: edge.FromCluster}); err != nil {
			t.Fatal(err)
		}
		unfit := n.apply([]edge.Definition{on(hubs)}, nil, at(1, hubs))
		if len(unfit) != 1 || unfit[0].Error.Code != edge.Conflict {
			t.Errorf("unfit %+v, want a conflict", unfit)
		}
		n.apply(nil, []edge.Removal{{Name: "a", Purge: true}}, at(2))
		if got, want := n.runs(), named(ours); got != want {
			t.Errorf("it runs %q, want %q", got, want)
		}
		if r := n.Reports(); len(r) != 0 {
			t.Errorf("reported are %+v, want none of the hub's", r)
		}
		n.wantSynced(at(2))
	})
}

func TestANodeThatHasWhatNoHubToldIsNowhere(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		fn := build(t, "a", version(1))
		n.box.set("a", publishes)
		if err := n.Put(t.Context(), on(fn)); err != nil {
			t.Fatal(err)
		}
		n.wantSynced(edge.Synced{Functions: at(0, fn).Functions})
		if got := n.Synced(); edge.NewReplica(got, edge.Policy{}).Synced().At != (edge.Position{}) {
			t.Errorf("the replica of %+v is somewhere", got)
		}
	})
}

func TestAStepThatIsGivenUpChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		a1, a2, b := build(t, "a", version(1)), build(t, "a", version(2)), build(t, "b", version(1))
		n.box.set("a", publishes)
		n.box.set("b", publishes)
		n.apply([]edge.Definition{on(a1)}, nil, at(1, a1))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := n.Apply(ctx, []edge.Definition{on(b)}, []edge.Removal{{Name: "a"}}, at(2, b)); err == nil {
			t.Error("Apply = nil, want that it was given up")
		}
		if _, _, err := n.Apply(ctx, []edge.Definition{on(a2)}, nil, at(2, a2)); err == nil {
			t.Error("Apply = nil, want that it was given up")
		}
		if got, want := n.runs(), named(a1); got != want {
			t.Errorf("it runs %q, want %q", got, want)
		}
		n.wantSynced(at(1, a1))
		n.bus.say("in/x", "1")
		synctest.Wait()
		n.want("out/x=1")
	})
}

func TestAFunctionIsTriedWithoutBeingPutInForce(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		fn := build(t, "a", version(1))
		n.box.set("a", publishes)
		if err := n.Try(t.Context(), fn); err != nil {
			t.Errorf("Try = %v", err)
		}
		n.box.refuse(&functions.LackError{What: "a secret"})
		if err := n.Try(t.Context(), fn); err != nil {
			t.Errorf("of one that lacks something, Try = %v, want nil", err)
		}
		n.box.refuse(fmt.Errorf("syntax: %w", functions.ErrUnfit))
		err := n.Try(t.Context(), fn)
		if e, ok := errors.AsType[*edge.Error](err); !ok || e.Code != edge.Invalid || !strings.Contains(e.Message, "syntax") {
			t.Errorf("Try = %v, want why it does not load", err)
		}
		if n.runs() != "" || len(n.box.living()) != 0 {
			t.Errorf("it runs %q, runners %d; want nothing", n.runs(), len(n.box.living()))
		}
	})
}
