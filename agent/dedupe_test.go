package agent

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

func TestADedupeKeyIsHadOnceWithinItsWindow(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("once", onIn+"delivery: {dedupe: {key: payload.id, window: 1m}}", publishes)
		for _, payload := range []string{`{"id":1}`, `{"id":1,"again":true}`, `{"id":2}`} {
			if p := n.bus.say("in/a", payload); true {
				pass(time.Second)
				if !p.acked() {
					t.Errorf("%s is not acknowledged", payload)
				}
			}
		}
		n.want(`out/a={"id":1}`, `out/a={"id":2}`)
		pass(time.Minute)
		n.bus.say("in/a", `{"id":1}`)
		pass(time.Second)
		n.want(`out/a={"id":1}`, `out/a={"id":2}`, `out/a={"id":1}`)
	})
}

func TestADuplicateByKeyIsNotAcknowledgedBeforeTheFirstIsSafe(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		n.deploy("once", onIn+"delivery: {dedupe: {key: payload}}", func(inv functions.Invocation, r functions.Run) functions.Outcome {
			<-release
			return publishes(inv, r)
		})
		first, second := n.bus.say("in/a", "1"), n.bus.say("in/a", "1")
		pass(time.Second)
		if first.acked() || second.acked() {
			t.Errorf("acknowledged: first %v, second %v; want neither, the run is under way", first.acked(), second.acked())
		}
		close(release)
		pass(time.Second)
		if !first.acked() || !second.acked() {
			t.Errorf("acknowledged: first %v, second %v; want both", first.acked(), second.acked())
		}
	})
}

func TestDedupeKeysAreKnownToAnotherProcess(t *testing.T) {
	for _, tt := range []struct {
		name  string
		h     handler
		crash bool
	}{{"stateless, restarted", publishes, false}, {"stateful, crashed", counting, true}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t)
				n.deploy("once", onIn+"delivery: {dedupe: {key: payload.id}}", tt.h)
				n.bus.say("in/a", `{"id":1}`)
				pass(5 * time.Second)
				dir := n.dir
				if tt.crash {
					dir = n.copyDir()
				}
				n.stop()
				n = startNode(t, dir, &bus{}, n.box)
				n.bus.say("in/a", `{"id":1}`)
				pass(time.Second)
				n.want()
				n.stop()
			})
		})
	}
}

func TestATriggerAtQoS0DoesNotHoldUpTheAcknowledgement(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		defer close(release)
		n.deploy("light", `triggers: [{mqtt: {topic: "in/{device}", qos: 0}}]`, func(functions.Invocation, functions.Run) functions.Outcome {
			<-release
			return functions.Outcome{}
		})
		p := n.bus.say("in/a", "1")
		synctest.Wait()
		if !p.acked() {
			t.Error("not acknowledged at once")
		}
	})
}

func TestQoS0RunsFromMemoryAndIsStoredOnlyToBeRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		var runs atomic.Int32
		release := make(chan struct{})
		n.deploy("slow", onIn+"delivery: {retry: {attempts: 50, backoff: 10s}}\nresources: {timeout: 10m}", func(inv functions.Invocation, r functions.Run) functions.Outcome {
			if runs.Add(1) == 1 {
				<-release
				return thrown("not yet")
			}
			return publishes(inv, r)
		})
		for _, payload := range []string{"1", "2"} {
			n.bus.hear(devices.Message{Topic: "in/a", Payload: []byte(payload), Time: time.Now()})
		}
		pass(10 * time.Second)
		if rows := n.stored(); len(rows) > 0 {
			t.Errorf("stored %v though nothing failed", rows)
		}
		close(release)
		pass(time.Second)
		if rows := n.stored(); len(rows) != 1 || rows[0].Attempt != 1 {
			t.Errorf("stored %v, want the one that failed", rows)
		}
		n = n.restart() // which stores the other, too
		pass(time.Minute)
		n.want("out/a=1", "out/a=2")
		n.stop()
	})
}

func TestQoS0IsShedAndCountedWhenMemoryIsFull(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		n.deploy("stuck", onIn+"resources: {timeout: 10m}", func(functions.Invocation, functions.Run) functions.Outcome {
			<-release
			return functions.Outcome{}
		})
		const size, many = 64 << 10, 200
		flood := func(topic string) int64 {
			before := n.status("stuck").Counts.Shed
			for range many {
				n.bus.hear(devices.Message{Topic: topic, Payload: make([]byte, size), Time: time.Now()})
			}
			pass(time.Second)
			return n.status("stuck").Counts.Shed - before
		}
		// One device fills half; the rest is there for the others.
		for topic, want := range map[string]int64{"in/a": many - maxLane/(size+perEvent+4), "in/b": many - maxLane/(size+perEvent+4)} {
			if got := flood(topic); got < want-2 || got > want+2 {
				t.Errorf("%s: %d shed, want about %d", topic, got, want)
			}
		}
		if got := flood("in/c"); got < many-2 {
			t.Errorf("%d shed when all is full, want about %d", got, many)
		}
		close(release)
		pass(time.Minute)
		if c := n.status("stuck").Counts; c.Done+c.Shed != 3*many {
			t.Errorf("counts %+v, want %d done or shed", c, 3*many)
		}
	})
}
