package agent

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// letters returns the dead letters there are.
func (n *node) letters() []edge.DeadLetter {
	n.t.Helper()
	letters, err := n.Dead(n.t.Context(), edge.Query{})
	if err != nil {
		n.t.Fatal(err)
	}
	return letters
}

// onlyLetter fails unless there is one dead letter, with that code.
func (n *node) onlyLetter(code functions.Code) {
	n.t.Helper()
	if letters := n.letters(); len(letters) != 1 || letters[0].Failure.Code != code {
		n.t.Errorf("dead letters %+v, want one: %s", letters, code)
	}
}

// says is a handler that publishes payloads on one topic.
func says(topic string, payload ...string) handler {
	return func(functions.Invocation, functions.Run) functions.Outcome {
		var o functions.Outcome
		for _, p := range payload {
			o.Effects.Publish = append(o.Effects.Publish, devices.Publication{Topic: topic, Payload: []byte(p), QoS: 1})
		}
		return o
	}
}

func TestAPublishThatIsNotPermittedFailsTheAttemptForGood(t *testing.T) {
	for topic, code := range map[string]functions.Code{
		"other/a": functions.CodeRefused, "out": functions.CodeRefused, "$SYS/a": functions.CodeRefused,
		"out/+": functions.CodeResult, "": functions.CodeResult, "out/\x00": functions.CodeResult,
	} {
		t.Run(fmt.Sprintf("%q", topic), func(t *testing.T) {
			bubble(t, func(t *testing.T, n *node) {
				n.deploy("bad", "triggers: [{mqtt: {topic: in}}]\npermissions: {publish: [\"out/+\"]}\ndelivery: {retry: {attempts: 1}}", says(topic, "x"))
				p := n.bus.say("in", "1")
				pass(time.Minute)
				n.want()
				n.onlyLetter(code)
				if !p.acked() {
					t.Error("not acknowledged")
				}
			})
		})
	}
}

func TestAPublishInTheMiddleOfARunIsHeldToThePermissionsToo(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("now", onIn, func(_ functions.Invocation, r functions.Run) functions.Outcome {
			if err := r.Publish(devices.Publication{Topic: "out/now", Payload: []byte("1"), QoS: 1}); err != nil {
				t.Errorf("Publish = %v, want nil", err)
			}
			if err := r.Publish(devices.Publication{Topic: "secret", QoS: 1}); err == nil {
				t.Error("Publish = nil to a topic that is not permitted")
			}
			return thrown("afterwards")
		})
		n.bus.say("in/a", "1")
		synctest.Wait()
		n.want("out/now=1")
	})
}

func TestTooManyPublishesPauseTheFunctionUntilItIsEnabled(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("loud", "triggers: [{mqtt: {topic: in}}]\npermissions: {publish: [out]}\ndelivery: {publishRate: 1}", says("out", "a", "b"))
		for range 4 {
			n.bus.say("in", "1")
			synctest.Wait()
		}
		if s := n.status("loud"); s.Phase != edge.Paused || !strings.Contains(s.Reason, "publishRate") {
			t.Errorf("phase %s, %q; want paused for its rate", s.Phase, s.Reason)
		}
		if got := len(n.bus.published()); got != 6 {
			t.Errorf("%d published, want 6: the run that went over is carried out", got)
		}
		p := n.bus.say("in", "2")
		pass(time.Second)
		if c := n.status("loud").Counts; c.Pending != 2 || !p.acked() {
			t.Errorf("counts %+v, acknowledged %v; want two stored", c, p.acked())
		}
		pass(time.Minute)
		if err := n.Put(t.Context(), n.function("loud").def.Definition); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if s := n.status("loud"); s.Phase != edge.Running || s.Counts.Pending != 0 {
			t.Errorf("phase %s, pending %d after it was enabled; want running, 0", s.Phase, s.Counts.Pending)
		}
	})
}

func TestAReturnedValueGoesToTheOutputTopic(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		for payload, want := range map[string]string{`"on"`: "on", `{"a":1}`: `{"a":1}`, `null`: `null`} {
			n.deploy("lamp", "triggers: [{mqtt: {topic: \"{room}/motion/{device}\"}}]\noutput: {topic: \"{room}/lamp/set\"}", returning(payload, ""))
			before := len(n.bus.published())
			n.bus.say("hall/motion/m1", payload)
			pass(time.Second)
			if got := n.bus.published()[before:]; len(got) != 1 || got[0] != "hall/lamp/set="+want {
				t.Errorf("returned %s, published %q", payload, got)
			}
			n.Remove(t.Context(), "lamp", true)
		}
	})
}

func TestStateOverItsQuotaFailsAndChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		big := []byte(`"` + strings.Repeat("x", 3000) + `"`)
		n.deploy("hoard", onIn+"state: {maxBytes: 4Ki}\ndelivery: {retry: {attempts: 3, backoff: 1s}}", func(inv functions.Invocation, r functions.Run) functions.Outcome {
			o := publishes(inv, r)
			o.Effects.State = []functions.StateWrite{{Op: functions.StateSet, Key: string(inv.Event.Payload), Value: big}}
			return o
		})
		n.bus.say("in/a", "1")
		p := n.bus.say("in/a", "2")
		pass(5 * time.Second)
		if _, err := n.Remove(t.Context(), "nobody", false); err == nil {
			t.Error("Remove = nil for a function that is none")
		}
		pass(time.Minute)
		n.want("out/a=1")
		n.onlyLetter(functions.CodeState)
		if !p.acked() {
			t.Error("not acknowledged")
		}
	})
}

// What a voided attempt would have published must not go out with the next.
func TestAnAttemptWhoseStateWasRefusedPublishesNothingLater(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("picky", onIn+"delivery: {retry: {attempts: 3, backoff: 1s}}", func(inv functions.Invocation, r functions.Run) functions.Outcome {
			o := publishes(inv, r)
			o.Effects.Publish[0].Payload = fmt.Appendf(nil, "attempt %d", inv.Attempt)
			o.Effects.State = []functions.StateWrite{{Op: functions.StateIncr, Key: "n", By: 1}}
			if inv.Attempt == 1 {
				o.Effects.State = append(o.Effects.State, functions.StateWrite{Op: functions.StateSet, Key: ""})
			}
			return o
		})
		n.bus.say("in/a", "1")
		pass(time.Minute)
		n.want("out/a=attempt 2")
	})
}

func TestIncrFromManyLanesLosesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("count", onIn+"resources: {concurrency: 16}", counting)
		const many = 200
		for i := range many {
			n.bus.say(fmt.Sprintf("in/d%d", i%32), "x")
		}
		pass(10 * time.Second)
		if e, err := n.StateGet(t.Context(), "count", "n"); err != nil || e.Value != fmt.Sprint(many) {
			t.Errorf("n = %s, %v; want %d", e.Value, err, many)
		}
		if got := len(n.bus.published()); got != many {
			t.Errorf("%d published, want %d", got, many)
		}
	})
}

// A delivery is not acknowledged before an earlier one of its lane: a crash
// would run the earlier one again after it.
func TestInALaneNothingIsAcknowledgedBeforeWhatCameFirst(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("mixed", onIn, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			if string(inv.Event.Payload) == "quiet" {
				return functions.Outcome{}
			}
			return publishes(inv, r)
		})
		n.bus.setSilent(true)
		first := n.bus.say("in/a", "1")
		synctest.Wait()
		second := n.bus.say("in/a", "quiet")
		synctest.Wait()
		if first.acked() || second.acked() {
			t.Errorf("acknowledged: first %v, second %v; want neither yet", first.acked(), second.acked())
		}
		n.bus.setSilent(false)
		pass(time.Second)
		if !first.acked() || !second.acked() {
			t.Errorf("acknowledged: first %v, second %v; want both", first.acked(), second.acked())
		}
	})
}

func TestTheOutboxIsBoundedWhileTheBrokerIsAway(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("chatty", onIn+"delivery: {inbox: {deliveries: 5}}", publishes)
		n.bus.setAway(true)
		for i := range 20 {
			n.bus.say("in/a", fmt.Sprint(i))
			pass(time.Second)
		}
		if r, err := n.Store.Recover(); err != nil || len(r.Outbox) > 5 {
			t.Errorf("%d publishes in the outbox, %v; want at most 5", len(r.Outbox), err)
		}
		if got := len(n.letters()); got != 15 {
			t.Errorf("%d dead letters, want 15", got)
		}
		n.bus.setAway(false)
		pass(5 * time.Second)
		n.want("out/a=15", "out/a=16", "out/a=17", "out/a=18", "out/a=19")
	})
}
