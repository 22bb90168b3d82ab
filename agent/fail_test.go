package agent

import (
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

func TestAFailingDeviceIsRetriedInOrderAndHoldsUpNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		var mended atomic.Bool
		n.deploy("picky", onIn+"delivery: {retry: {attempts: 5, backoff: 1s}}", func(inv functions.Invocation, r functions.Run) functions.Outcome {
			if !mended.Load() && inv.Event.Capture("device") == "a" {
				return thrown("no")
			}
			return publishes(inv, r)
		})
		first, second := n.bus.say("in/a", "1"), n.bus.say("in/a", "2")
		n.bus.say("in/b", "3")
		synctest.Wait()
		if got, want := n.bus.published(), []string{"out/b=3"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
		mended.Store(true)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got, want := n.bus.published(), []string{"out/b=3", "out/a=1", "out/a=2"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
		if !first.acked() || !second.acked() {
			t.Error("not acknowledged")
		}
	})
}

func TestUsedUpAttemptsEndAsADeadLetterThatCanBeRedriven(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		var runs atomic.Int32
		var mended atomic.Bool
		n.deploy("fails", onIn+"delivery: {retry: {attempts: 3, backoff: 1s}}", func(inv functions.Invocation, r functions.Run) functions.Outcome {
			if runs.Add(1); !mended.Load() {
				return thrown("always")
			}
			return publishes(inv, r)
		})
		p := n.bus.say("in/a", "1")
		time.Sleep(time.Minute)
		synctest.Wait()
		if runs.Load() != 3 {
			t.Errorf("%d runs, want 3", runs.Load())
		}
		letters, err := n.Dead(t.Context(), edge.Query{})
		if err != nil || len(letters) != 1 {
			t.Fatalf("Dead = %v, %v; want one letter", letters, err)
		}
		if l := letters[0]; l.Attempts != 3 || string(l.Event.Payload) != "1" || l.Failure.Message != "always" {
			t.Errorf("letter %+v", l)
		}
		if !p.acked() {
			t.Error("not acknowledged")
		}
		mended.Store(true)
		if got, err := n.Redrive(t.Context(), "fails", nil); got != 1 || err != nil {
			t.Errorf("Redrive = %d, %v; want 1", got, err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got, want := n.bus.published(), []string{"out/a=1"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
	})
}

func TestTheInnocentBesideADyingRunnerLoseNoAttempt(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		hold := make(chan struct{})
		n.deploy("bomb", onIn+"delivery: {retry: {attempts: 3, backoff: 1s}}", func(inv functions.Invocation, r functions.Run) functions.Outcome {
			if string(inv.Event.Payload) == "bomb" {
				n.box.die(functions.CodeLimit)
				return functions.Outcome{}
			}
			<-hold
			return publishes(inv, r)
		})
		n.bus.say("in/a", "1")
		n.bus.say("in/b", "2")
		n.bus.say("in/c", "bomb")
		synctest.Wait()
		close(hold)
		time.Sleep(time.Minute)
		synctest.Wait()
		got := n.bus.published()
		slices.Sort(got)
		if want := []string{"out/a=1", "out/b=2"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
		letters, err := n.Dead(t.Context(), edge.Query{})
		if err != nil || len(letters) != 1 || string(letters[0].Event.Payload) != "bomb" {
			t.Errorf("dead letters %+v, %v; want only the bomb", letters, err)
		}
	})
}

func TestAPayloadOverTheCapIsADeadLetter(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("echo", onIn, publishes)
		p := &spoken{Message: devices.Message{Topic: "in/a", Payload: []byte("begin"), QoS: 1, PacketID: 9, Session: "s", Truncated: 2 << 20}}
		p.Message.Ack = p
		n.bus.hear(p.Message)
		time.Sleep(time.Second)
		synctest.Wait()
		letters, err := n.Dead(t.Context(), edge.Query{})
		if err != nil || len(letters) != 1 || letters[0].Failure.Code != functions.CodeTooLarge || !p.acked() {
			t.Errorf("letters %+v, %v, acknowledged %v; want one too large", letters, err, p.acked())
		}
	})
}

func TestAFunctionThatTriggersItselfIsCut(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("ring", "triggers: [{mqtt: {topic: ring}}]\npermissions: {publish: [ring]}", func(inv functions.Invocation, _ functions.Run) functions.Outcome {
			go func() {
				time.Sleep(10 * time.Millisecond)
				n.bus.say("ring", "x")
			}()
			return functions.Outcome{Effects: functions.Effects{Publish: []devices.Publication{{Topic: "ring", Payload: []byte("x")}}}}
		})
		n.bus.say("ring", "x")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		letters, err := n.Dead(t.Context(), edge.Query{})
		if err != nil || len(letters) != 1 || letters[0].Failure.Code != functions.CodeLoop {
			t.Errorf("letters %+v, %v; want one loop", letters, err)
		}
		if got := len(n.bus.published()); got != maxHops {
			t.Errorf("%d publishes, want %d", got, maxHops)
		}
	})
}

func TestAPayloadThatCannotBeReadIsADeadLetterAndNotRun(t *testing.T) {
	for name, payload := range map[string]string{
		"deep":     strings.Repeat("[", 1e6),
		"same key": `{"x":1,"x":2}`,
		"too big":  `{"x":1e999}`,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, n *node) {
				n.deploy("picky", "triggers: [{mqtt: {topic: in, when: payload.x == 1}}]", func(functions.Invocation, functions.Run) functions.Outcome {
					t.Error("it ran")
					return functions.Outcome{}
				})
				p := n.bus.say("in", payload)
				time.Sleep(time.Second)
				synctest.Wait()
				letters, err := n.Dead(t.Context(), edge.Query{})
				if err != nil || len(letters) != 1 || !p.acked() {
					t.Fatalf("letters %+v, %v, acknowledged %v; want one letter", letters, err, p.acked())
				}
				if l := letters[0]; l.Failure.Code != functions.CodePayload || l.Attempts != 0 || string(l.Event.Payload) != payload {
					t.Errorf("letter of %d attempts, %+v; want none and %s, with what came", l.Attempts, l.Failure, functions.CodePayload)
				}
			})
		})
	}
}

func TestADeviceThatFloodsTheInboxCostsTheOthersNothing(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		n.deploy("stuck", onIn+"delivery: {inbox: {deliveries: 10}}\nresources: {timeout: 10m}", func(inv functions.Invocation, r functions.Run) functions.Outcome {
			<-release
			return publishes(inv, r)
		})
		for _, quiet := range []string{"in/q1", "in/q2"} {
			n.bus.say(quiet, "first")
			n.bus.say(quiet, "second")
		}
		time.Sleep(time.Second)
		for i := range 50 {
			n.bus.say("in/flood", strconv.Itoa(i))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		letters, err := n.Dead(t.Context(), edge.Query{})
		if err != nil || len(letters) == 0 {
			t.Fatalf("%d letters, %v; want some", len(letters), err)
		}
		for _, l := range letters {
			if l.Event.Topic != "in/flood" || l.Failure.Code != functions.CodeInboxFull {
				t.Errorf("letter %s %q: %v, want only inbox.full of the flood", l.Event.Topic, l.Event.Payload, l.Failure)
			}
		}
		close(release)
		time.Sleep(time.Second)
		synctest.Wait()
		for _, want := range []string{"out/q1=first", "out/q1=second", "out/q2=first", "out/q2=second", "out/flood=49"} {
			if got := n.bus.published(); !slices.Contains(got, want) {
				t.Errorf("published %q, want %s", got, want)
			}
		}
	})
}

func TestPastTheInboxQuotaTheOldestIsADeadLetter(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		n.deploy("stuck", onIn+"delivery: {inbox: {deliveries: 5}}\nresources: {timeout: 10m}", func(inv functions.Invocation, r functions.Run) functions.Outcome {
			<-release
			return publishes(inv, r)
		})
		for i := range 10 {
			n.bus.say("in/a", string(rune('0'+i)))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		letters, err := n.Dead(t.Context(), edge.Query{})
		if err != nil || len(letters) != 5 {
			t.Fatalf("%d letters, %v; want 5", len(letters), err)
		}
		if l := letters[0]; l.Failure.Code != functions.CodeInboxFull || string(l.Event.Payload) != "1" {
			t.Errorf("first letter %+v; want inbox.full of the second event, for the first runs", l)
		}
		close(release)
		time.Sleep(time.Second)
		synctest.Wait()
		if got, want := n.bus.published(), []string{"out/a=0", "out/a=6", "out/a=7", "out/a=8", "out/a=9"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
	})
}
