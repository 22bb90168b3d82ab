package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

const debounced = `
triggers: [{mqtt: {topic: "in/{device}", debounce: 10s}}]
permissions: {publish: ["out/#"]}`

func TestDebounceRunsOnceOnTheLastMessageWhenItIsQuiet(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("calm", debounced, publishes)
		var said []*spoken
		for _, payload := range []string{"1", "2", "3"} {
			said = append(said, n.bus.say("in/a", payload))
			pass(9 * time.Second)
		}
		n.want()
		for _, p := range said {
			if !p.acked() {
				t.Errorf("%s is not acknowledged", p.Payload)
			}
		}
		pass(2 * time.Second)
		n.want("out/a=3")
		pass(time.Minute)
		n.want("out/a=3")
	})
}

func TestAPendingDebounceSurvivesARestartWithItsLastMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.deploy("calm", debounced, publishes)
		n.bus.say("in/a", "1")
		pass(5 * time.Second)
		n.bus.say("in/a", "2")
		n = n.restart()
		pass(11 * time.Second)
		n.want("out/a=2")
		n.stop()
	})
}

func TestAHoldThatIsTakenBackInTheSameMomentDoesNotRun(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("open", `
triggers: [{mqtt: {topic: "in/{device}", when: "payload.open == true", hold: 5m}}]
permissions: {publish: ["out/#"]}`, publishes)
		n.bus.say("in/door", `{"open":true}`)
		p := n.bus.say("in/door", `{"open":false}`)
		pass(10 * time.Minute)
		n.want()
		if !p.acked() {
			t.Error("what took it back is not acknowledged")
		}
		if r, err := n.Store.Recover(); err != nil || len(r.Timers) > 0 {
			t.Errorf("timers left: %v, %v", r.Timers, err)
		}
	})
}

func TestAHoldBesideAnotherTriggerSeesTheMessageToo(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("both", `
triggers:
- mqtt: {topic: "in/{device}", when: "payload.now == true"}
- mqtt: {topic: "in/{device}", when: "payload.open == true", hold: 5m}
permissions: {publish: ["out/#"]}`, publishes)
		n.bus.say("in/a", `{"open":true}`)
		n.bus.say("in/a", `{"open":false,"now":true}`) // runs, and takes the hold back
		pass(time.Second)
		n.bus.say("in/b", `{"open":true,"now":true}`) // runs, and begins a hold
		pass(time.Minute)
		n.want(`out/a={"open":false,"now":true}`, `out/b={"open":true,"now":true}`)
		pass(5 * time.Minute)
		n.want(`out/a={"open":false,"now":true}`, `out/b={"open":true,"now":true}`, `out/b={"open":true,"now":true}`)
	})
}

func TestWhatTriggersRememberSurvivesACheckpoint(t *testing.T) {
	tests := []struct{ name, trigger, first, second string }{
		{"changed", `changed: payload.state`, `{"state":"ON"}`, `{"state":"ON","more":1}`},
		{"throttle", `throttle: 1h`, `1`, `2`},
		{"previous", `when: "previous == nil || previous.n != payload.n"`, `{"n":1}`, `{"n":1}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				n.deploy("gate", "triggers: [{mqtt: {topic: \"in/{device}\", "+tt.trigger+"}}]\npermissions: {publish: [\"out/#\"]}", publishes)
				n.bus.say("in/a", tt.first)
				n.bus.say("in/a", tt.second)
				pass(2 * time.Minute)
				n.want("out/a=" + tt.first)
				dir := n.copyDir()
				n.stop()
				n = startNode(t, dir, &bus{}, n.box) // as after a crash, a minute after the checkpoint
				n.bus.say("in/a", tt.second)
				n.bus.say("in/b", tt.second)
				pass(time.Second)
				n.want("out/b=" + tt.second)
				n.stop()
			})
		})
	}
}

func TestARetainedMessageOnlySeedsUnlessItIsToRun(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("ignores", `
triggers: [{mqtt: {topic: "in/{device}", changed: payload}}]
permissions: {publish: ["out/#"]}`, publishes)
		n.deploy("runs", `
triggers: [{mqtt: {topic: "in/{device}", retained: run}}]
permissions: {publish: ["out/#"]}`, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			o := publishes(inv, r)
			o.Effects.Publish[0].Topic = "out/run"
			return o
		})
		p := n.bus.saying("in/a", "1")
		p.Retained = true
		n.bus.hear(p.Message)
		n.bus.say("in/a", "1")
		pass(time.Second)
		n.want("out/run=1", "out/run=1")
		if !p.acked() {
			t.Error("the retained message is not acknowledged")
		}
		n.bus.say("in/a", "2")
		pass(time.Second)
		if got := n.status("ignores").Counts; got.Done != 1 || got.Filtered != 2 {
			t.Errorf("counts %+v, want one done and two filtered", got)
		}
	})
}

func TestARetainedMessageThatCannotBeReadIsNoDeadLetterWhereItIsIgnored(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("ignores", `triggers: [{mqtt: {topic: "in/{device}", changed: payload.x}}]`, publishes)
		for _, change := range []func(*spoken){
			func(p *spoken) { p.Payload = []byte(`{"x":1,"x":2}`) },
			func(p *spoken) { p.Truncated = 2 << 20 },
		} {
			p := n.bus.saying("in/a", "{")
			p.Retained = true
			change(p)
			n.bus.hear(p.Message)
		}
		pass(time.Second)
		if c := n.status("ignores").Counts; c.Dead > 0 || c.Filtered != 2 {
			t.Errorf("counts %+v, want two filtered", c)
		}
	})
}

const young = `
triggers: [{mqtt: {topic: "in/{device}"}}]
permissions: {publish: ["out/#"]}
delivery: {maxAge: 1m}`

func TestAnEventThatIsTooOldExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(30 * 365 * 24 * time.Hour) // to a time that a clock shows which was set
		n := newNode(t)
		n.deploy("young", young, publishes)
		p := n.bus.saying("in/a", "queued")
		p.Queued = true
		n.bus.hear(p.Message)
		q := n.bus.saying("in/a", "old")
		q.Time = time.Now().Add(-2 * time.Minute)
		n.bus.hear(q.Message)
		n.bus.say("in/a", "young")
		pass(time.Second)
		n.want("out/a=young")
		if c := n.status("young").Counts; c.Expired != 2 || !p.acked() || !q.acked() {
			t.Errorf("counts %+v, acknowledged %v, %v; want two expired and acknowledged", c, p.acked(), q.acked())
		}
		n.stop()
	})
}

func TestWhatWaitedTooLongInTheInboxExpiresAlsoAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(30 * 365 * 24 * time.Hour)
		n := newNode(t)
		n.deploy("young", young, publishes)
		def := n.function("young").def
		def.Enabled = false
		if err := n.Put(t.Context(), def.Definition); err != nil {
			t.Fatal(err)
		}
		n.bus.say("in/a", "1")
		pass(2 * time.Minute)
		n.bus.say("in/a", "2")
		pass(time.Second)
		n = n.restart()
		def.Enabled = true
		if err := n.Put(t.Context(), def.Definition); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		n.want("out/a=2")
		if c := n.status("young").Counts; c.Expired != 1 || c.Done != 1 {
			t.Errorf("counts %+v, want one expired, one done", c)
		}
		if rows := n.stored(); len(rows) > 0 {
			t.Errorf("rows left: %v", rows)
		}
		n.stop()
	})
}

func TestAClockThatJumpsExpiresNothingThatWasHeardBefore(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) { // the bubble's clock begins where one that was not set may stand
		n.deploy("young", young, publishes)
		p := n.bus.saying("in/a", "1")
		p.Time = time.Date(1970, 1, 1, 0, 0, 5, 0, time.UTC)
		n.bus.hear(p.Message)
		pass(time.Second)
		n.want("out/a=1")
	})
}

func TestOneMessageRunsAFunctionOnceThoughSeveralOfItsTriggersMatch(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("wide", `
triggers:
- mqtt: {topic: "in/#", when: "payload > 5"}
- mqtt: {topic: "in/{device}"}
- mqtt: {topic: "{all...}"}
permissions: {publish: ["out/#"]}`, publishes)
		n.bus.say("in/a", "1")
		pass(time.Second)
		n.want("out/a=1")
		if c := n.status("wide").Counts; c.Taken != 1 || c.Done != 1 {
			t.Errorf("counts %+v, want one", c)
		}
	})
}

func TestAMessageIsAcknowledgedOnceAllFunctionsHaveSettledIt(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		n.deploy("quick", onIn, publishes)
		n.deploy("slow", onIn, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			<-release
			return publishes(inv, r)
		})
		n.deploy("filters", `triggers: [{mqtt: {topic: "in/#", when: "payload == 2"}}]`, publishes)
		p := n.bus.say("in/a", "1")
		pass(time.Second)
		n.want("out/a=1")
		if p.acked() {
			t.Error("acknowledged while one function runs it")
		}
		close(release)
		pass(time.Second)
		if got := p.acks.Load(); got != 1 {
			t.Errorf("acknowledged %d times, want once", got)
		}
	})
}
