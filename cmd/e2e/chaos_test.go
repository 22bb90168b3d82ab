package e2e

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices/mqtttest"
)

// The functions of a run say which event they ran on. They take a while, so
// that some are always under way: echo changes nothing, count keeps a number.
const (
	echo = `apiVersion: sedge.dev/v1
kind: Function
metadata: {name: echo}
spec:
  runtime: javascript
  triggers: [{mqtt: {topic: "in/{device}"}}]
  output: {topic: "out/echo/{device}", qos: 1}
  source:
    inline: |
      export function handle(event) {
        for (const begin = Date.now(); Date.now() - begin < 2;);
        return {function: "echo", device: event.captures.device, n: event.payload.n, id: event.id};
      }
`
	count = `apiVersion: sedge.dev/v1
kind: Function
metadata: {name: count}
spec:
  runtime: javascript
  triggers: [{mqtt: {topic: "in/{device}"}}]
  output: {topic: "out/count/{device}", qos: 1}
  source:
    inline: |
      export function handle(event, sedge) {
        sedge.state.incr("n/" + event.captures.device);
        return {function: "count", device: event.captures.device, n: event.payload.n, id: event.id};
      }
`
)

var both = []string{"echo", "count"}

// unacked is how many unacknowledged events a node has at most.
const unacked = 1024

// A run is a node that has the two functions, under load.
type run struct {
	broker string // host:port
	node   *node
	oracle *oracle
	stop   chan struct{} // closed when enough was said
	wg     sync.WaitGroup
	sent   map[string]int // device → events that the broker acknowledged; set when wg is done
	err    error          // of the crowd; set when wg is done
}

// begin starts a node that is told of its broker by args, see joins and embeds,
// and a crowd that says rate events a second at the broker itself.
func begin(t *testing.T, broker string, args []string, rate int, env ...string) *run {
	t.Helper()
	r := &run{broker: broker, node: newNode(t, args, env...), oracle: newOracle(), stop: make(chan struct{})}
	r.node.start(t)
	listen(t, broker, "out/#", r.oracle.hear)
	r.node.deploy(t, echo, count)
	r.probe(t, "early")
	crowd := newCrowd(broker, "device", 8, rate)
	r.wg.Go(func() { r.sent, r.err = crowd.run(t.Context(), r.stop) })
	t.Cleanup(r.wg.Wait) // the context has ended by then
	t.Cleanup(func() {
		if t.Failed() && r.node.cmd != nil {
			r.node.account(t)
		}
	})
	return r
}

// probe has a device of its own speak until both functions answer, and returns
// how long that took.
func (r *run) probe(t *testing.T, name string) time.Duration {
	t.Helper()
	begin := time.Now()
	crowd := newCrowd(r.broker, name, 1, 20)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { crowd.run(t.Context(), stop) }) // what matters is the answer
	defer wg.Wait()
	defer close(stop)
	await(t, "both functions to answer "+name, func() error { return r.reached(crowd.devices[0], 1) })
	return time.Since(begin)
}

// reached returns nil if both functions have run on the n-th event of the device.
func (r *run) reached(device string, n int) error {
	return errors.Join(r.oracle.reached("echo", device, n), r.oracle.reached("count", device, n))
}

// quiet ends the load, waits until the node has run on the last event of each
// device and has nothing left to do, and returns what the oracle says. A lane
// keeps its order, so what has not come by then is lost.
func (r *run) quiet(t *testing.T) verdict {
	t.Helper()
	close(r.stop)
	r.wg.Wait()
	if r.err != nil {
		t.Fatal(r.err)
	}
	for device, n := range r.sent {
		await(t, "the last event of "+device, func() error { return r.reached(device, n) })
	}
	r.node.clean(t, r.node.client(t))
	v := r.oracle.judge(both, r.sent)
	t.Log(v)
	return v
}

// counted checks that the state of count holds the number of events.
func (r *run) counted(t *testing.T) {
	t.Helper()
	c := r.node.client(t)
	for device, n := range r.sent {
		e, err := c.StateGet(t.Context(), "count", "n/"+device)
		if err != nil {
			t.Errorf("state of %s: %v", device, err)
		} else if want := strconv.Itoa(n); e.Value != want {
			t.Errorf("%s was counted %s times, want %s", device, e.Value, want)
		}
	}
}

// persistent starts a broker with no limit on what it keeps for who is absent.
// It saves all that when it is stopped, and not, as mqtttest's own does, at each
// change: that would be the only thing it does.
func persistent(t *testing.T) *mqtttest.Broker {
	return mqtttest.Start(t, mqtttest.Options{
		MaxInflight: -1,
		MaxQueued:   -1,
		Config:      "persistence true\npersistence_location " + t.TempDir() + "/",
	})
}

// killed runs a node that is killed so many times within half a second of its
// start.
func killed(t *testing.T, times int, env ...string) (*run, verdict) {
	broker := persistent(t)
	return killedAt(t, broker.Addr(), joins(broker.URL()), times, env...)
}

func killedAt(t *testing.T, broker string, args []string, times int, env ...string) (*run, verdict) {
	random := chance(t)
	r := begin(t, broker, args, 300, env...)
	for range times {
		pause(t.Context(), time.Duration(random.Int64N(int64(500*time.Millisecond))))
		r.node.kill(t)
		r.node.start(t)
	}
	r.probe(t, "late")
	return r, r.quiet(t)
}

func TestChaosAKilledNodeLosesNothing(t *testing.T) {
	r, v := killed(t, *cycles)
	if len(v.lost)+len(v.inverted)+len(v.renamed) > 0 {
		t.Error(v)
	}
	if most := *cycles * unacked * len(both); v.repeated > most {
		t.Errorf("%d repeated, want at most what could be unacknowledged, %d", v.repeated, most)
	}
	r.counted(t)
	r.node.stop(t)
}

// The broker within dies with the node: the crowd says again what it had not
// acknowledged, as a new event, so ids and counts are not compared.
func TestChaosAKilledNodeWithABrokerWithinLosesNothing(t *testing.T) {
	broker := freeAddress(t)
	r, v := killedAt(t, broker, embeds(broker), *cycles)
	if len(v.lost)+len(v.inverted) > 0 {
		t.Error(v)
	}
	r.node.stop(t)
}

func TestChaosANodeWithABrokerWithinThatAcknowledgesFirstIsSeenToLose(t *testing.T) {
	broker := freeAddress(t)
	if _, v := killedAt(t, broker, embeds(broker), 20, "SEDGE_UNSAFE_ACK_FIRST=1"); len(v.lost) == 0 {
		t.Error("nothing was lost: these tests could not see it")
	}
}

func TestChaosANodeThatAcknowledgesFirstIsSeenToLose(t *testing.T) {
	if _, v := killed(t, 20, "SEDGE_UNSAFE_ACK_FIRST=1"); len(v.lost) == 0 {
		t.Error("nothing was lost: these tests could not see it")
	}
}

func TestChaosABrokerThatRestartsCostsNothing(t *testing.T) {
	t.Parallel() // most of it waits
	random := chance(t)
	broker := persistent(t)
	r := begin(t, broker.Addr(), joins(broker.URL()), 300)
	for i := range *cycles {
		pause(t.Context(), time.Duration(random.Int64N(int64(300*time.Millisecond))))
		broker.Stop()
		pause(t.Context(), time.Duration(random.Int64N(int64(100*time.Millisecond))))
		if err := broker.Restart(); err != nil {
			t.Fatal(err)
		}
		r.probe(t, fmt.Sprintf("again%d-", i))
	}
	// What the crowd has to say again over its next connection is another event,
	// so the same number may bear two ids here.
	if v := r.quiet(t); len(v.lost)+len(v.inverted) > 0 {
		t.Error(v)
	}
	r.reconnected(t, *cycles)
	r.node.stop(t)
}

func TestChaosABrokerThatForgetsIsSubscribedToAgain(t *testing.T) {
	t.Parallel() // most of it waits
	broker := mqtttest.Start(t, mqtttest.Options{})
	r := begin(t, broker.Addr(), joins(broker.URL()), 100)
	for i := range *cycles {
		broker.Kill()
		if err := broker.Restart(); err != nil {
			t.Fatal(err)
		}
		r.probe(t, fmt.Sprintf("again%d-", i))
	}
	close(r.stop)
	r.reconnected(t, *cycles)
	r.node.stop(t)
}

func TestChaosAHalfOpenLinkIsLeftAndCostsNothing(t *testing.T) {
	t.Parallel() // most of it waits
	broker := persistent(t)
	proxy := mqtttest.StartProxy(t, broker.Addr())
	r := begin(t, broker.Addr(), joins("mqtt://"+proxy.Addr()), 100)
	c := r.node.client(t)
	for i := range 20 {
		proxy.Silence()
		await(t, "the node to leave the silent link", func() error {
			if c.Ready(t.Context()) == nil {
				return errors.New("it is still ready")
			}
			return nil
		})
		proxy.Heal()
		r.probe(t, fmt.Sprintf("again%d-", i))
	}
	if v := r.quiet(t); len(v.lost)+len(v.inverted) > 0 {
		t.Error(v)
	}
	r.reconnected(t, 20)
	r.node.stop(t)
}

// reconnected checks that the node knows of so many connections after the first.
func (r *run) reconnected(t *testing.T, times int) {
	t.Helper()
	if got := r.node.metric(t, "sedge_mqtt_reconnects_total"); got < float64(times) {
		t.Errorf("the node counts %v reconnects, want at least %d", got, times)
	}
}
