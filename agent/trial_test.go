package agent

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// byVersion runs the handler of the revision that runs: the one of which N is in its
// environment.
func (n *node) byVersion(name string, handlers map[string]handler) {
	n.box.setMaker(name, func(fn functions.Function) handler { return handlers[fn.Manifest.Spec.Env["N"]] })
}

func fails(functions.Invocation, functions.Run) functions.Outcome { return thrown("no") }

func versioned(n int, more string) string { return version(n) + more }

const quick = "delivery: {order: none, retry: {attempts: 100, backoff: 100ms, max: 100ms}}"

// report returns how a function is reported.
func (n *node) report(name string) edge.FunctionReport {
	n.t.Helper()
	for _, r := range n.Reports() {
		if r.Name == name {
			return r
		}
	}
	n.t.Fatalf("no report of %s", name)
	return edge.FunctionReport{}
}

// trusted starts a node whose function has shown that it works as of version 1.
func trusted(t *testing.T, handlers map[string]handler) (*node, []functions.Function) {
	n := newNode(t)
	n.byVersion("f", handlers)
	var fn []functions.Function
	for i := range 4 {
		fn = append(fn, build(t, "f", versioned(i, quick)))
	}
	n.apply([]edge.Definition{on(fn[1])}, nil, at(1, fn[1]))
	for i := range trialSuccesses {
		n.bus.say("in/good", fmt.Sprint(i))
	}
	pass(time.Second)
	return n, fn
}

func TestARevisionThatKeepsFailingIsGivenUpForTheLastGoodOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, fn := trusted(t, map[string]handler{"1": publishes, "2": fails, "3": publishes})
		n.apply([]edge.Definition{on(fn[2])}, nil, at(2, fn[2]))
		first := len(n.bus.published())
		for i := range 3 {
			n.bus.say(fmt.Sprintf("in/d%d", i), "x")
		}
		pass(time.Minute)
		if got := len(n.bus.published()) - first; got != 3 {
			t.Errorf("%d were published of what came, want all 3: what waits runs on the good one", got)
		}
		r := n.report("f")
		if r.Revision != fn[1].Revision || r.Bad != fn[2].Revision || r.Failed != 0 || r.Runs != 3 || r.Dead != 0 || !strings.Contains(r.Reason, "5 attempts in a row failed, the last one: no") {
			t.Errorf("report %+v, want the first revision to run, and why", r)
		}
		// It outlives a restart, and the same is not taken again.
		n = n.restart()
		if r := n.report("f"); r.Revision != fn[1].Revision || r.Bad != fn[2].Revision || !strings.Contains(r.Reason, "no") {
			t.Errorf("after a restart, report %+v", r)
		}
		n.wantSynced(at(2, fn[2]), named(fn[2]))
		for _, again := range []edge.Definition{on(fn[2]), bare(fn[2], false)} {
			unfit := n.apply([]edge.Definition{again}, nil, at(3, fn[2]))
			if len(unfit) != 1 || unfit[0].Revision != fn[2].Revision || !strings.Contains(unfit[0].Error.Message, "given") {
				t.Errorf("told it again, unfit %+v", unfit)
			}
		}
		if got := n.status("f").Phase; got != edge.Disabled {
			t.Errorf("told that it is disabled it is %s", got)
		}
		if e, ok := errors.AsType[*edge.Error](n.Try(t.Context(), fn[2])); !ok || e.Code != edge.Invalid {
			t.Errorf("Try of it = %v", e)
		}
		// Another in between, and it is taken.
		for i, next := range []functions.Function{fn[3], fn[2]} {
			if unfit := n.apply([]edge.Definition{on(next)}, nil, at(int64(5+i), next)); len(unfit) > 0 {
				t.Errorf("unfit %+v", unfit)
			}
			if r := n.report("f"); r.Revision != next.Revision || r.Bad != "" || r.Reason != "" {
				t.Errorf("report %+v, want %s, none given up", r, next.Revision.Short())
			}
		}
		n.stop()
	})
}

func TestOnlyARevisionThatIsNotGoodIsGivenUp(t *testing.T) {
	var broken atomic.Bool
	sometimes := func(inv functions.Invocation, r functions.Run) functions.Outcome {
		if broken.Load() {
			return thrown("no")
		}
		return publishes(inv, r)
	}
	for name, prepare := range map[string]func(n *node){
		"it has succeeded often enough": func(n *node) {
			for range trialSuccesses {
				n.bus.say("in/x", "1")
			}
		},
		"it has run for long enough": func(n *node) {
			n.bus.say("in/x", "1")
			pass(trialTime)
		},
	} {
		t.Run(name, func(t *testing.T) {
			broken.Store(false)
			synctest.Test(t, func(t *testing.T) {
				n, fn := trusted(t, map[string]handler{"1": publishes, "2": sometimes})
				n.apply([]edge.Definition{on(fn[2])}, nil, at(2, fn[2]))
				prepare(n)
				pass(time.Second)
				broken.Store(true)
				n.bus.say("in/x", "1")
				pass(time.Minute)
				if r := n.report("f"); r.Revision != fn[2].Revision || r.Bad != "" || r.Failed < trialFailures {
					t.Errorf("report %+v, want it to go on", r)
				}
				n.stop()
			})
		})
	}
}

func TestAFirstRevisionThatFailsStays(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		fn := build(t, "f", versioned(1, "delivery: {order: none, retry: {attempts: 3, backoff: 100ms, max: 100ms}}"))
		n.box.set("f", fails)
		n.apply([]edge.Definition{on(fn)}, nil, at(1, fn))
		for range 3 {
			n.bus.say("in/x", "1")
		}
		pass(time.Minute)
		if r := n.report("f"); r.Revision != fn.Revision || r.Bad != "" || r.Dead != 3 || r.Failed != 9 || r.Error != "no" {
			t.Errorf("report %+v, want three dead letters", r)
		}
	})
}

func TestRunsByHandAndEventsThatAreBrokenSayNothingAboutARevision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, fn := trusted(t, map[string]handler{"1": publishes, "2": func(inv functions.Invocation, r functions.Run) functions.Outcome {
			if inv.Event.Source == devices.Invoke {
				return thrown("no")
			}
			return functions.Outcome{Err: &functions.Failure{Code: functions.CodePayload, Message: "no JSON"}}
		}})
		n.apply([]edge.Definition{on(fn[2])}, nil, at(2, fn[2]))
		for range 2 * trialFailures {
			n.bus.say("in/x", "{")
			n.Invoke(t.Context(), "f", edge.Invoke{}) // it fails
		}
		pass(time.Minute)
		if r := n.report("f"); r.Revision != fn[2].Revision || r.Runs != 0 {
			t.Errorf("report %+v, want the second revision, with no runs", r)
		}
		n.stop()
	})
}

func TestARevisionThatCannotBeStartedAnyMoreIsGivenUpAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, fn := trusted(t, map[string]handler{"1": publishes, "2": publishes})
		n.apply([]edge.Definition{{Function: fn[2]}}, nil, at(2, fn[2])) // disabled, so it is not tried
		n.box.refuseOne(string(fn[2].Revision), fmt.Errorf("no such engine: %w", functions.ErrUnfit))
		n.bus.say("in/x", "1")
		first := len(n.bus.published())
		n.function("f").mu.Lock()
		n.function("f").def.Enabled = true // as after a restart with another program
		n.function("f").mu.Unlock()
		n.function("f").pump()
		pass(time.Minute)
		if r := n.report("f"); r.Revision != fn[1].Revision || r.Dead != 0 || len(n.bus.published()) != first+1 {
			t.Errorf("report %+v, %d published; want the event run on the first revision", r, len(n.bus.published())-first)
		}
		n.stop()
	})
}

func TestWhatARevisionHasFailedOnHasAllItsAttemptsOnTheGoodOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int32
		n := newNode(t)
		n.byVersion("f", map[string]handler{"2": fails, "1": func(inv functions.Invocation, r functions.Run) functions.Outcome {
			if n := runs.Add(1); n > trialSuccesses && n <= trialSuccesses+trialFailures-1 {
				return thrown("not yet")
			}
			return publishes(inv, r)
		}})
		const few = "delivery: {order: none, retry: {attempts: 5, backoff: 1h, max: 1h}}"
		good, bad := build(t, "f", versioned(1, few)), build(t, "f", versioned(2, few))
		n.apply([]edge.Definition{on(good)}, nil, at(1, good))
		for range trialSuccesses {
			n.bus.say("in/x", "1")
		}
		pass(time.Second)
		n.apply([]edge.Definition{on(bad)}, nil, at(2, bad))
		n.bus.say("in/x", "last")
		pass(24 * time.Hour)
		sent := n.bus.published()
		if r := n.report("f"); r.Dead != 0 || r.Failed != trialFailures-1 || sent[len(sent)-1] != "out/x=last" {
			t.Errorf("report %+v, published %q; want the event to succeed at its last attempt", r, sent)
		}
		n.stop()
	})
}
