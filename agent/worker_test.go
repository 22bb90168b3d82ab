package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

func (s *sandbox) started() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts
}

func TestARunnerThatKeepsDyingIsStartedLessAndLess(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("bomb", onIn+"delivery: {order: none, retry: {attempts: 100, backoff: 100ms, max: 100ms}}", func(functions.Invocation, functions.Run) functions.Outcome {
			n.box.die(functions.CodeDied)
			return functions.Outcome{}
		})
		for i := range 1000 {
			n.bus.say("in/a", fmt.Sprint(i))
		}
		pass(time.Minute)
		first := n.box.started()
		pass(time.Minute)
		second := n.box.started() - first
		if first > 60 || second >= first {
			t.Errorf("%d starts in the first minute, %d in the second; want few, and fewer", first, second)
		}
		n.box.set("bomb", publishes) // which the next start takes
		pass(15 * time.Minute)
		if c := n.status("bomb").Counts; c.Done < 900 {
			t.Errorf("counts %+v; want nearly all done once the runner lives", c)
		}
	})
}

func TestAStartThatFailsIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.box.refuse(errors.New("out of processes"))
		n.deploy("late", onIn, publishes)
		p := n.bus.say("in/a", "1")
		pass(10 * time.Second)
		if s := n.status("late"); s.Phase != edge.Failing || s.Reason == "" || !p.acked() {
			t.Errorf("phase %s %q, acknowledged %v; want failing, stored", s.Phase, s.Reason, p.acked())
		}
		n.box.refuse(nil)
		pass(time.Minute)
		n.want("out/a=1")
		if got := n.status("late").Phase; got != edge.Running {
			t.Errorf("phase %s, want running", got)
		}
	})
}

func TestAFunctionThatNoLongerFitsTheNodeGivesUpWhatWaits(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("misfit", onIn+"scaling: {idle: 1s}", publishes)
		pass(10 * time.Second)
		n.box.refuse(fmt.Errorf("no such engine: %w", functions.ErrUnfit))
		var said []*spoken
		for i := range 10 {
			said = append(said, n.bus.say(fmt.Sprintf("in/d%d", i), "1"))
		}
		pass(time.Second)
		if letters := n.letters(); len(letters) != 10 || letters[0].Failure.Code != functions.CodeLoad {
			t.Errorf("dead letters %+v, want ten: %s", letters, functions.CodeLoad)
		}
		for i, p := range said {
			if !p.acked() {
				t.Errorf("%d is not acknowledged", i)
			}
		}
		starts := n.box.started()
		for range 1000 {
			n.bus.say("in/a", "1")
			time.Sleep(time.Millisecond)
		}
		if got := n.box.started() - starts; got > 3 {
			t.Errorf("%d starts in a second, want few", got)
		}
	})
}

func TestAKeptRunnerIsReplacedThoughNothingWaits(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("kept", onIn+"scaling: {min: 1, idle: 1s}", publishes)
		pass(time.Hour)
		if got := n.status("kept").Phase; got != edge.Running {
			t.Errorf("phase %s after an idle hour, want running", got)
		}
		n.box.die(functions.CodeDied)
		pass(time.Second)
		if got := n.status("kept").Phase; got != edge.Running {
			t.Errorf("phase %s after its runner died, want running", got)
		}
	})
}

func TestARunnerThatDiedIdleIsNoFaultOfTheNextEvent(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("echo", onIn+"delivery: {retry: {attempts: 1}}", publishes)
		n.box.die(functions.CodeLimit)
		n.bus.say("in/a", "1") // before anybody has noticed
		pass(time.Second)
		n.want("out/a=1")
	})
}

func TestAnotherRevisionTakesOverWhileTheOldOneFinishes(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		old := func(inv functions.Invocation, r functions.Run) functions.Outcome {
			<-release
			o := publishes(inv, r)
			o.Effects.Publish[0].Topic = "old/" + inv.Event.Capture("device")
			return o
		}
		n.deploy("echo", "triggers: [{mqtt: {topic: \"in/{device}\"}}]\npermissions: {publish: [\"old/#\"]}\nresources: {timeout: 10m}", old)
		n.bus.say("in/a", "1")
		n.bus.say("in/a", "2")
		synctest.Wait()
		n.deploy("echo", onIn, publishes) // which may not publish to old/
		n.bus.say("in/b", "3")
		pass(time.Second)
		n.want("out/b=3")
		close(release)
		pass(time.Second)
		n.want("out/b=3", "old/a=1", "out/a=2")
		if got := n.letters(); len(got) > 0 {
			t.Errorf("dead letters %+v", got)
		}
		n.box.mu.Lock()
		defer n.box.mu.Unlock()
		if !n.box.live[0].over || n.box.live[1].over {
			t.Error("want the old runner closed, and the new one not")
		}
	})
}

func TestAnOldRevisionThatIsStuckDoesNotHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		release := make(chan struct{})
		stuck := func(inv functions.Invocation, r functions.Run) functions.Outcome {
			<-release
			return publishes(inv, r)
		}
		n.deploy("echo", onIn+"resources: {timeout: 14m}", stuck)
		n.bus.say("in/a", "1")
		synctest.Wait()
		n.deploy("echo", onIn+"resources: {timeout: 15m}", stuck)
		p := n.bus.say("in/b", "2")
		n.bus.say("in/b", "3")
		pass(time.Second)
		began := time.Now()
		n.box.set("echo", publishes)
		n = n.restart()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("the end took %v, want at most 10 s", took)
		}
		close(release)
		if !p.acked() {
			t.Error("what ran was neither done nor stored")
		}
		pass(time.Minute)
		got := n.bus.published()
		slices.Sort(got)
		if want := []string{"out/a=1", "out/b=2", "out/b=3"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
		n.stop()
	})
}

func TestWhatFinishesWhileTheNodeEndsIsAcknowledgedAndNotRunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.deploy("slow", onIn, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			time.Sleep(2 * time.Second)
			return publishes(inv, r)
		})
		p := n.bus.say("in/a", "1")
		synctest.Wait()
		first := n.bus
		n = n.restart()
		if got := first.published(); !p.acked() || !slices.Equal(got, []string{"out/a=1"}) {
			t.Errorf("acknowledged %v, published %q; want both done", p.acked(), got)
		}
		pass(time.Minute)
		n.want()
		n.stop()
	})
}

func TestWhatIsHeardWhileTheNodeEndsIsLeftToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		var b = n.bus
		var late *spoken
		n.deploy("slow", onIn, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			time.Sleep(2 * time.Second)
			return publishes(inv, r)
		})
		b.say("in/a", "1")
		synctest.Wait()
		go func() { // ends before the node does
			time.Sleep(time.Second)
			late = b.say("in/a", "2")
		}()
		n = n.restart()
		if late.acked() {
			t.Error("acknowledged though nothing was done with it")
		}
		n.bus.repeat(late)
		pass(time.Minute)
		n.want("out/a=2")
		n.stop()
	})
}

func TestADeletedFunctionLeavesNothingOfWhatRanBehind(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		var runs atomic.Int32
		n.deploy("gone", onIn+"resources: {timeout: 10m}", func(functions.Invocation, functions.Run) functions.Outcome {
			if runs.Add(1) == 1 {
				<-release
			}
			return thrown("no")
		})
		p := n.bus.say("in/a", "1")
		synctest.Wait()
		if _, err := n.Remove(t.Context(), "gone", true); err != nil {
			t.Fatal(err)
		}
		close(release)
		pass(time.Second)
		n.deploy("gone", onIn, publishes)
		pass(time.Minute)
		n.want()
		if rows := n.stored(); len(rows) > 0 || !p.acked() {
			t.Errorf("rows %v, acknowledged %v; want none, true", rows, p.acked())
		}
	})
}

func TestManyDeploymentsAtOnceEndWithARunnerOfTheLast(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("echo", onIn, publishes)
		done := make(chan error)
		for i := range 8 {
			go func() { done <- n.tryDeploy("echo", fmt.Sprintf("%senv: {N: \"%d\"}", onIn, i), publishes) }() // received below
		}
		for range 8 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		pass(time.Second)
		f := n.function("echo")
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.worker == nil || f.worker.function.Revision != f.def.Function.Revision {
			t.Error("the runner is not of the current revision")
		}
		stored, err := n.Store.Functions()
		if err != nil || stored[0].Function.Revision != f.def.Function.Revision {
			t.Errorf("stored %v, %v; want the current revision", stored, err)
		}
	})
}

func TestAFunctionThatLacksSomethingStartsOnceItIsThere(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		lack := &functions.LackError{What: "secret token is missing"}
		n.box.refuse(fmt.Errorf("start needy: %w", lack))
		n.deploy("needy", onIn+"secrets: [token]\ndelivery: {retry: {attempts: 1}}", publishes)
		if s := n.status("needy"); s.Phase != edge.Starting || s.Reason != lack.What {
			t.Errorf("deployed, phase %s %q; want starting, and what it lacks", s.Phase, s.Reason)
		}
		p := n.bus.say("in/a", "1")
		pass(24 * time.Hour)
		if s := n.status("needy"); s.Phase != edge.Starting || s.Reason != lack.What || !p.acked() || s.Waiting != 1 || s.Dead != 0 {
			t.Errorf("after a day %+v, acknowledged %v; want it to lack, its event stored", s, p.acked())
		}
		_, err := n.Invoke(t.Context(), "needy", edge.Invoke{})
		if e, ok := errors.AsType[*edge.Error](err); !ok || e.Code != edge.Unavailable || !strings.Contains(e.Message, lack.What) {
			t.Errorf("Invoke = %v, want unavailable, and what it lacks", err)
		}
		n.box.refuse(nil)
		pass(lackTime)
		n.want("out/a=1")
		if s := n.status("needy"); s.Phase != edge.Running || s.Reason != "" || s.Counts.Done != 1 {
			t.Errorf("%+v; want it to run", s)
		}
	})
}

func TestAFunctionThatLacksSomethingStartsThoughNothingWaits(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("needy", onIn, publishes)
		pass(time.Second)
		n.box.refuse(&functions.LackError{What: "secret token is missing"})
		n.deploy("needy", onIn+"secrets: [token]", publishes)
		pass(time.Minute)
		if s := n.status("needy"); s.Phase != edge.Starting {
			t.Errorf("phase %s, want starting: the new revision lacks what the old one did not need", s.Phase)
		}
		n.box.refuse(nil)
		pass(lackTime)
		if s := n.status("needy"); s.Phase != edge.Running {
			t.Errorf("phase %s, want running", s.Phase)
		}
	})
}

func TestAFunctionThatLacksSomethingAtItsNextStartWaits(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("needy", onIn+"scaling: {idle: 1s}", publishes)
		pass(10 * time.Second)
		n.box.refuse(&functions.LackError{What: "secret token is missing"})
		n.bus.say("in/a", "1")
		pass(time.Minute)
		if s := n.status("needy"); s.Phase != edge.Starting || s.Waiting != 1 {
			t.Errorf("%+v; want it to lack, and its event to wait", s)
		}
		n.box.refuse(nil)
		pass(lackTime)
		n.want("out/a=1")
	})
}
