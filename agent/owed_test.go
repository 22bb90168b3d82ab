package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// onSome is onIn for what says n alone.
func onSome(n string) string {
	return strings.Replace(onIn, `"in/{device}"`, `"in/{device}", when: payload == `+n, 1)
}

// mute runs until release is closed, and publishes nothing.
func mute(release <-chan struct{}) handler {
	return func(functions.Invocation, functions.Run) functions.Outcome {
		<-release
		return functions.Outcome{}
	}
}

// crash returns a node that goes on with what the disk of n holds now.
func (n *node) crash() *node {
	n.t.Helper()
	dir := n.copyDir()
	n.stop()
	return startNode(n.t, dir, &bus{}, n.box)
}

func TestAMessageWaitsForAnEarlierOneOfItsLaneThatAnotherFunctionHas(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		n.deploy("all", onIn, publishes)
		n.deploy("some", onSome("1"), mute(release))
		one, two, other := n.bus.say("in/a", "1"), n.bus.say("in/a", "2"), n.bus.say("in/b", "2")
		pass(n.Hold / 2)
		if one.acked() || two.acked() {
			t.Errorf("acknowledged %v, %v; want neither: alone, the first would come again after the second", one.acked(), two.acked())
		}
		if !other.acked() {
			t.Error("another device's message is not acknowledged; want no wait for another lane")
		}
		pass(3 * n.Hold)
		if !one.acked() || !two.acked() {
			t.Errorf("acknowledged %v, %v; want both: what the other function still runs is stored for them", one.acked(), two.acked())
		}
		close(release)
	})
}

func TestWhatRunsIsNotStoredUnlessOthersWaitForIt(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		n.deploy("all", onIn, publishes)
		n.deploy("some", onSome("1"), mute(release))
		one := n.bus.say("in/a", "1")
		pass(10 * n.Hold)
		if one.acked() || len(n.stored()) > 0 {
			t.Errorf("acknowledged %v, stored %v; want neither", one.acked(), n.stored())
		}
		close(release)
		pass(time.Second)
		if !one.acked() {
			t.Error("not acknowledged when all was done")
		}
	})
}

func TestAStoredDeliveryThatIsDoneIsNotRunAgainWhileAnotherFunctionHasItsMessage(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		go1, go2 := make(chan struct{}), make(chan struct{})
		n.deploy("all", onIn+"resources: {timeout: 10m}", stuck(go1))
		n.deploy("some", onSome("2")+"resources: {timeout: 10m}", mute(go2))
		n.bus.say("in/a", "1")
		two := n.bus.say("in/a", "2")
		pass(time.Second) // stored is what waits for the lane
		n.bus.repeat(two) // over another connection
		close(go1)
		pass(3 * time.Second) // the rows are gone
		n.want("out/a=1", "out/a=2")
		after := n.crash()
		after.bus.repeat(two)
		close(go2)
		pass(time.Second)
		after.want()
	})
}

func TestADeadLetterIsNotRunAgainWhileAnotherFunctionHasItsMessage(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		release := make(chan struct{})
		n.deploy("bad", onIn+"delivery: {retry: {attempts: 1}}", func(functions.Invocation, functions.Run) functions.Outcome {
			return thrown("no")
		})
		n.deploy("some", onIn+"resources: {timeout: 10m}", mute(release))
		one := n.bus.say("in/a", "1")
		pass(time.Second)
		n.bus.repeat(one) // over another connection
		pass(time.Second)
		after := n.crash()
		after.bus.repeat(one)
		close(release)
		pass(time.Second)
		if letters, err := after.Dead(t.Context(), edge.Query{}); err != nil || len(letters) != 1 {
			t.Errorf("%d dead letters, %v; want one", len(letters), err)
		}
	})
}

func TestTwoMessagesNeverWaitForEachOther(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		release := make(chan struct{})
		p.deploy("all", onceIn, publishes)
		p.deploy("slow", onceIn+"resources: {timeout: 10m}", mute(release))
		one, two := p.cluster.say("in/a", "1"), p.cluster.say("in/a", "2")
		pass(time.Second)
		again := p.cluster.repeat(one) // over another connection, on which the second is yet to come
		close(release)
		pass(time.Second)
		after := p.cluster.repeat(two)
		pass(time.Second)
		if !again.acked() || !after.acked() {
			t.Errorf("acknowledged %v, %v when all was done; want both", again.acked(), after.acked())
		}
	})
}
