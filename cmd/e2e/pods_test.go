//go:build cluster

package e2e

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge/kube"
)

var (
	absence = flag.Duration("absence", 15*time.Second, "how long the API server is away; the promise is about a minute")
	record  = flag.String("record", "", "file to write the figures into, as JSON")
)

// inPod says which event it ran on, from a pod. It writes no state, so that a board
// whose disk is slow can keep up.
const inPod = `apiVersion: sedge.dev/v1
kind: Function
metadata: {name: echo}
spec:
  runtime: javascript
  triggers: [{mqtt: {topic: "in/{device}"}}]
  output: {topic: "out/echo/{device}", qos: 1}
  placement: {sandbox: pod}
  env: {REVISION: "%d"}
  source:
    inline: |
      export function handle(event) {
        return {function: "echo", device: event.captures.device, n: event.payload.n, id: event.id};
      }
`

// A day is a board with a function in a pod, under load, to which things happen.
type day struct {
	*board
	oracle *oracle
	stop   chan struct{}
	wg     sync.WaitGroup
	sent   map[string]int // device → events that the broker acknowledged; set when wg is done
	err    error          // of the crowd; set when wg is done
	probes int
}

// newDay begins with events coming and the function answering them.
func newDay(t *testing.T, name string) *day {
	t.Helper()
	d := &day{board: newBoard(t, name), oracle: newOracle(), stop: make(chan struct{})}
	d.install(t)
	d.deploy(t, fmt.Sprintf(inPod, 1))
	listen(t, d.broker, "out/#", d.oracle.hear)
	crowd := newCrowd(d.broker, "device", 4, 50)
	d.wg.Go(func() { d.sent, d.err = crowd.run(t.Context(), d.stop) })
	t.Cleanup(d.wg.Wait) // the context has ended by then
	d.answers(t)
	return d
}

// answers waits until an event that is said from now on is answered.
func (d *day) answers(t *testing.T) {
	t.Helper()
	d.probes++
	probe := newCrowd(d.broker, fmt.Sprintf("probe%d-", d.probes), 1, 20)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { probe.run(t.Context(), stop) }) // what matters is the answer
	defer wg.Wait()
	defer close(stop)
	awaitFor(t, patience, "the function to answer", func() error { return d.oracle.reached("echo", probe.devices[0], 1) })
}

// quiet ends the load and checks that every event was answered, in order.
func (d *day) quiet(t *testing.T) {
	t.Helper()
	close(d.stop)
	d.wg.Wait()
	if d.err != nil {
		t.Fatal(d.err)
	}
	for device, n := range d.sent {
		awaitFor(t, patience, "the last event of "+device, func() error { return d.oracle.reached("echo", device, n) })
	}
	v := d.oracle.judge([]string{"echo"}, d.sent)
	t.Log(v)
	if len(v.lost)+len(v.inverted) > 0 {
		t.Error(v)
	}
}

// running returns what identifies the pods that serve the function, once these are
// as many as should be.
func (d *day) running(t *testing.T) (all []string) {
	t.Helper()
	awaitFor(t, patience, "one pod to serve the function", func() error {
		all = nil
		for _, p := range d.functionPods(t, "echo") {
			if p.Status.Phase == kube.PodRunning {
				all = append(all, starts(p))
			}
		}
		if len(all) != 1 {
			return fmt.Errorf("%q do", all)
		}
		return nil
	})
	return all
}

// spares checks that what happens starts no pod and no container of a function anew.
func (d *day) spares(t *testing.T, what string, happen func()) {
	t.Helper()
	before := d.running(t)
	happen()
	d.answers(t)
	if after := d.running(t); !slices.Equal(before, after) {
		t.Errorf("%s: %q became %q, want the same", what, before, after)
	}
	t.Logf("%s: answered", what)
}

func TestClusterWhatHappensToABoardCostsNoEvent(t *testing.T) {
	d := newDay(t, "day")
	for revision := 2; revision <= 3; revision++ {
		before := d.running(t)
		d.deploy(t, fmt.Sprintf(inPod, revision))
		d.answers(t)
		awaitFor(t, patience, "the old revision to go", func() error {
			if slices.Equal(before, slices.Collect(maps.Keys(d.functionPods(t, "echo")))) {
				return errors.New("it serves")
			}
			return nil
		})
		t.Logf("revision %d: answered", revision)
	}
	d.spares(t, "an agent that is restarted", func() { d.restartAgent(t) })
	d.spares(t, "an agent that is killed", func() {
		d.strike(t, isAgent)
		awaitFor(t, patience, "the agent", d.agentReady(t))
	})
	d.spares(t, "a kubelet that is killed", func() {
		d.do(t, "kill", d.name, "kubelet")
		d.answers(t)
		d.do(t, "start", d.name, "kubelet")
	})
	d.spares(t, "an API server that is away", func() {
		d.do(t, "stop", d.name, "apiserver")
		began := time.Now()
		for time.Since(began) < *absence {
			d.answers(t)
		}
		d.do(t, "start", d.name, "apiserver")
	})
	d.strike(t, isRunner)
	d.answers(t)
	t.Log("a runner that is killed: answered")
	d.quiet(t)
	d.noOrphans(t)
}

// restartAgent deletes the agent's pod, as a roll-out does, and waits for the next.
func (d *day) restartAgent(t *testing.T) {
	t.Helper()
	pods, err := d.pods(t.Context(), agentSpace)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range pods {
		if strings.HasPrefix(name, "sedge-agent-") {
			if err := kube.Pods.In(d.kube, agentSpace).Delete(t.Context(), name, p.Metadata.UID); err != nil {
				t.Fatal(err)
			}
		}
	}
	awaitFor(t, patience, "the agent", d.agentReady(t))
}

// noOrphans checks that there is the function's pod and the pool, and nothing when the
// function is deleted.
func (d *day) noOrphans(t *testing.T) {
	t.Helper()
	d.running(t)
	d.sedge(t, "", "delete", "echo", "-y")
	awaitFor(t, patience, "only the pool to be left", func() error {
		pods, err := d.pods(t.Context(), functionSpace)
		if err != nil {
			return err
		}
		for name, p := range pods {
			if p.Metadata.Labels["sedge.dev/function"] != "" {
				return fmt.Errorf("%s is there, of %v", name, p.Metadata.Labels)
			}
		}
		if len(pods) > 1 {
			return fmt.Errorf("%d pods are there: %q", len(pods), slices.Sorted(maps.Keys(pods)))
		}
		return nil
	})
}

// A power cut takes broker, agent, pods and Kubernetes at once, while events come.
func TestClusterAPowerCutCostsNoEvent(t *testing.T) {
	d := newDay(t, "cut")
	awaitFor(t, patience, "events to have come", func() error { return d.oracle.reached("echo", "device0", 50) })
	d.shutBroker(t)
	d.off(t)
	d.on(t)
	awaitFor(t, patience, "the agent", d.agentReady(t))
	d.answers(t)
	d.quiet(t)
	d.noOrphans(t)
}
