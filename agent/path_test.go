package agent

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

func TestAnEventIsAcknowledgedOnceItsPublishIsConfirmedAndNothingIsStored(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("echo", onIn, publishes)
		n.bus.setSilent(true)
		p := n.bus.say("in/a", "1")
		synctest.Wait()
		if got, want := n.bus.published(), []string{"out/a=1"}; !slices.Equal(got, want) {
			t.Fatalf("published %q, want %q", got, want)
		}
		if p.acked() {
			t.Error("acknowledged before the broker confirmed the answer")
		}
		n.bus.setSilent(false)
		synctest.Wait()
		if !p.acked() {
			t.Error("not acknowledged though done")
		}
		if rows := n.stored(); len(rows) != 0 {
			t.Errorf("stored %v, want nothing", rows)
		}
		if c := n.status("echo").Counts; c.Done != 1 || c.Taken != 1 {
			t.Errorf("counts %+v, want one taken and done", c)
		}
	})
}

func TestWhatWaitsForItsLaneIsStoredTogetherWithWhatRunsBeforeIt(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		n.deploy("slow", onIn, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			<-release
			return publishes(inv, r)
		})
		first, second, other := n.bus.say("in/a", "1"), n.bus.say("in/a", "2"), n.bus.say("in/b", "3")
		time.Sleep(time.Second)
		synctest.Wait()
		if !first.acked() || !second.acked() {
			t.Errorf("acknowledged: first %v, second %v; want both, for they are stored", first.acked(), second.acked())
		}
		if other.acked() {
			t.Error("what runs and holds nobody up was stored")
		}
		if got := len(n.stored()); got != 2 {
			t.Errorf("%d rows in the inbox, want 2", got)
		}
		close(release)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !other.acked() {
			t.Error("not acknowledged though done")
		}
		var a []string
		for _, s := range n.bus.published() {
			if strings.HasPrefix(s, "out/a") {
				a = append(a, s)
			}
		}
		if want := []string{"out/a=1", "out/a=2"}; !slices.Equal(a, want) {
			t.Errorf("published %q, want %q", a, want)
		}
		if got := len(n.stored()); got != 0 {
			t.Errorf("%d rows left in the inbox", got)
		}
	})
}

func TestAnotherProcessGoesOnWithWhatWasStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.deploy("fails", onIn+"delivery: {retry: {attempts: 50, backoff: 10s}}", func(functions.Invocation, functions.Run) functions.Outcome {
			return thrown("not yet")
		})
		for _, payload := range []string{"1", "2", "3"} {
			n.bus.say("in/a", payload)
		}
		time.Sleep(time.Second)
		n.box.set("fails", publishes)
		n = n.restart()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got, want := n.bus.published(), []string{"out/a=1", "out/a=2", "out/a=3"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
		if c := n.status("fails").Counts; c.Recovered != 3 || c.Done != 3 {
			t.Errorf("counts %+v, want three recovered and done", c)
		}
		n.stop()
	})
}

func TestALostPublishIsRepeatedInOrderAndItsHandlerNotRunAgain(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		var runs atomic.Int32
		n.deploy("echo", onIn, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			runs.Add(1)
			return publishes(inv, r)
		})
		n.bus.lose = 2
		one, two, three := n.bus.say("in/a", "1"), n.bus.say("in/a", "2"), n.bus.say("in/a", "3")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for i, p := range []*spoken{one, two, three} {
			if !p.acked() {
				t.Errorf("event %d not acknowledged", i+1)
			}
		}
		if runs.Load() != 3 {
			t.Errorf("%d runs, want 3", runs.Load())
		}
		got := n.bus.published()
		if want := []string{"out/a=1", "out/a=2", "out/a=3"}; !slices.Equal(got[len(got)-3:], want) {
			t.Errorf("published %q, want it to end in %q", got, want)
		}
		r, err := n.Store.Recover()
		if err != nil || len(r.Outbox) != 0 {
			t.Errorf("outbox %v, %v; want it empty", r.Outbox, err)
		}
	})
}

// counting keeps a count by incr and publishes it.
func counting(inv functions.Invocation, r functions.Run) functions.Outcome {
	o := publishes(inv, r)
	o.Effects.State = []functions.StateWrite{{Op: functions.StateIncr, Key: "n", By: 1}}
	return o
}

func TestStateAndPublishesAreStoredBeforeTheyGoOut(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("count", onIn, counting)
		p := n.bus.say("in/a", "1")
		n.bus.say("in/b", "2")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if e, err := n.StateGet(t.Context(), "count", "n"); err != nil || e.Value != "2" {
			t.Errorf("state n = %+v, %v; want 2", e, err)
		}
		if !p.acked() {
			t.Error("not acknowledged")
		}
		q := n.bus.repeat(p) // the acknowledgement was lost with the connection
		synctest.Wait()
		if e, _ := n.StateGet(t.Context(), "count", "n"); e.Value != "2" || !q.acked() {
			t.Errorf("after a repeated packet: n = %s, acknowledged %v; want 2, true", e.Value, q.acked())
		}
	})
}

func TestARepeatedPacketIsKnownToAnotherProcessIfItChangedState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.deploy("count", onIn, counting)
		p := n.bus.say("in/a", "1")
		time.Sleep(time.Second)
		n = n.restart()
		q := n.bus.repeat(p)
		time.Sleep(time.Second)
		synctest.Wait()
		if e, err := n.StateGet(t.Context(), "count", "n"); err != nil || e.Value != "1" || !q.acked() {
			t.Errorf("n = %s (%v), acknowledged %v; want 1, true", e.Value, err, q.acked())
		}
		n.stop()
	})
}

func TestARepeatedPacketUnderWayIsNotRunTwiceAndItsNewCopyIsAcknowledged(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		var runs atomic.Int32
		n.deploy("slow", onIn, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			runs.Add(1)
			<-release
			return publishes(inv, r)
		})
		p := n.bus.say("in/a", "1")
		q := n.bus.repeat(p)
		close(release)
		synctest.Wait()
		if runs.Load() != 1 || !q.acked() {
			t.Errorf("%d runs, repeated copy acknowledged %v; want 1, true", runs.Load(), q.acked())
		}
	})
}

func TestAnAttemptWhoseStateChangedMeanwhileRunsAgain(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		var runs atomic.Int32
		n.deploy("reader", onIn, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			runs.Add(1)
			v, _ := r.Get("k")
			if runs.Load() == 1 {
				if _, err := n.StatePut(t.Context(), "reader", edge.StateEntry{Key: "k", Value: "7"}, nil); err != nil {
					t.Error(err)
				}
			}
			return functions.Outcome{Effects: functions.Effects{State: []functions.StateWrite{{Op: functions.StateSet, Key: "seen", Value: append([]byte("1"), v...)}}}}
		})
		n.bus.say("in/a", "1")
		time.Sleep(time.Second)
		synctest.Wait()
		if e, err := n.StateGet(t.Context(), "reader", "seen"); err != nil || e.Value != "17" || runs.Load() != 2 {
			t.Errorf("seen = %s (%v) after %d runs; want 17 after 2", e.Value, err, runs.Load())
		}
	})
}

func TestADisabledFunctionKeepsWhatWaitsAndADeletedOneDiscardsIt(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("echo", onIn, publishes)
		def := n.function("echo").def
		def.Enabled = false
		if err := n.Put(t.Context(), def.Definition); err != nil {
			t.Fatal(err)
		}
		p := n.bus.say("in/a", "1")
		n.bus.say("in/a", "2")
		time.Sleep(time.Second)
		synctest.Wait()
		if !p.acked() || len(n.bus.published()) != 0 {
			t.Errorf("acknowledged %v, published %q; want true, nothing", p.acked(), n.bus.published())
		}
		def.Enabled = true
		if err := n.Put(t.Context(), def.Definition); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got, want := n.bus.published(), []string{"out/a=1", "out/a=2"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
		def.Enabled = false
		n.Put(t.Context(), def.Definition)
		n.bus.say("in/a", "3")
		time.Sleep(time.Second)
		synctest.Wait()
		if got, err := n.Remove(t.Context(), "echo", false); got != 1 || err != nil {
			t.Errorf("Remove = %d, %v; want 1 discarded", got, err)
		}
		if rows := n.stored(); len(rows) != 0 {
			t.Errorf("stored %v after the function was deleted", rows)
		}
	})
}

func TestASleepingFunctionWakesAndSleepsAgain(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("echo", onIn+"scaling: {idle: 1m}", publishes)
		if got := n.status("echo").Phase; got != edge.Running {
			t.Errorf("phase %s after deploy, want running", got)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := n.status("echo").Phase; got != edge.Asleep {
			t.Errorf("phase %s after its idle time, want asleep", got)
		}
		n.bus.say("in/a", "1")
		synctest.Wait()
		if got, want := n.bus.published(), []string{"out/a=1"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
	})
}

func TestARevisionThatDoesNotLoadIsRefusedAndTheOldOneStays(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("echo", onIn, publishes)
		n.box.refuse(functions.ErrUnfit)
		if err := n.tryDeploy("echo", onIn+"env: {A: b}", publishes); err == nil {
			t.Error("Put = nil, want a refusal")
		}
		n.bus.say("in/a", "1")
		synctest.Wait()
		if got, want := n.bus.published(), []string{"out/a=1"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
	})
}

func TestAnUpdateWhoseManifestIsNotRightIsRefusedAndTheOldOneStays(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("echo", onIn, publishes)
		d := n.function("echo").def
		d.Function.Manifest.Spec.Env = map[string]string{"LD_PRELOAD": "/tmp/x.so"}
		if err := n.Put(t.Context(), d.Definition); err == nil {
			t.Error("Put = nil, want a refusal")
		}
		n.bus.say("in/a", "1")
		synctest.Wait()
		if got, want := n.bus.published(), []string{"out/a=1"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
	})
}

func TestTimersComeOnceReplaceEachOtherAndSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		h := func(inv functions.Invocation, r functions.Run) functions.Outcome {
			if inv.Event.Source == devices.Timer {
				return publishes(inv, r)
			}
			return functions.Outcome{Effects: functions.Effects{Timers: []functions.TimerWrite{
				{Key: "off", After: time.Minute, Payload: inv.Event.Payload},
				{Key: string(inv.Event.Payload), After: time.Hour, Payload: []byte("late")},
				{Key: "never", Cancel: true},
			}}}
		}
		n.deploy("lamp", onIn, h)
		n.bus.say("in/a", "1")
		time.Sleep(30 * time.Second)
		n.bus.say("in/a", "2")
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if got := n.bus.published(); len(got) != 0 {
			t.Errorf("published %q before the replaced timer's new time", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got, want := n.bus.published(), []string{"out/a=2"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
		n = n.restart()
		time.Sleep(time.Hour)
		synctest.Wait()
		if got, want := n.bus.published(), []string{"out/a=late", "out/a=late"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
		if r, err := n.Store.Recover(); err != nil || len(r.Timers) != 0 {
			t.Errorf("timers left: %v, %v", r.Timers, err)
		}
		n.stop()
	})
}

func TestHoldRunsOnlyAfterItWasTrueForLongEnough(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("open", `
triggers: [{mqtt: {topic: "in/{device}", when: "payload.open == true", hold: 5m}}]
permissions: {publish: ["out/#"]}`, publishes)
		n.bus.say("in/door", `{"open":true}`)
		time.Sleep(4 * time.Minute)
		n.bus.say("in/door", `{"open":false}`)
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if got := n.bus.published(); len(got) != 0 {
			t.Errorf("published %q though it was not open for 5 minutes", got)
		}
		n.bus.say("in/door", `{"open":true}`)
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if got, want := n.bus.published(), []string{`out/door={"open":true}`}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
	})
}

func TestASlowPublishIsMovedToTheOutboxAndSentOnce(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("echo", onIn, publishes)
		n.bus.setSilent(true)
		p := n.bus.say("in/a", "1")
		time.Sleep(time.Second)
		synctest.Wait()
		if r, _ := n.Store.Recover(); len(r.Outbox) != 1 || !p.acked() {
			t.Errorf("outbox %v, acknowledged %v; want one row, true", r.Outbox, p.acked())
		}
		n.bus.setSilent(false)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if r, _ := n.Store.Recover(); len(r.Outbox) != 0 {
			t.Errorf("outbox %v after it was confirmed", r.Outbox)
		}
		if got, want := n.bus.published(), []string{"out/a=1"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
	})
}
