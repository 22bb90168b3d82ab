//go:build cluster

package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/agent"
	edgecluster "github.com/sedge-iot/sedge/edge/cluster"
	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/installer/k3s"
)

var crowded = flag.Int("crowded", 10_000, "how many events two agents with one lease have between them")

// leaseHolds is how long the cluster's lease holds without a renewal.
const leaseHolds = 3 * agent.HandOverTime

// A couple is two agents on one board, with one broker, of which the one that holds
// the cluster's lease runs what is to run once.
type couple struct {
	*board
	oracle *oracle
	agents map[string]*exec.Cmd // by name, which is also how the cluster calls them
}

func newCouple(t *testing.T, name string) *couple {
	t.Helper()
	c := &couple{board: newBoard(t, name), oracle: newOracle(), agents: map[string]*exec.Cmd{}}
	c.lay(t)
	for _, agent := range []string{"alpha", "beta"} {
		c.start(t, agent)
	}
	c.holder(t, "")
	c.deploy(t, once)
	listen(t, c.broker, "out/#", c.oracle.hear)
	t.Cleanup(func() {
		if t.Failed() {
			c.words(t)
		}
	})
	return c
}

// start starts an agent, which ends with the board's power.
func (c *couple) start(t *testing.T, name string) {
	t.Helper()
	dir := filepath.Join(c.disk, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`exec %s --node-name %s --kube-node-name %s --kubeconfig "$KUBECONFIG" --data-dir %s \
		--mqtt mqtt://127.0.0.1:1883 --http-listen off --ops-listen off --log-format text >>%s/words 2>&1`,
		filepath.Join(scratch, "sedge-agent"), name, name, dir, dir)
	c.agents[name], _ = c.spawn(t, "exec", c.name, "--", "sh", "-c", script)
}

// kill ends an agent as a power cut would.
func (c *couple) kill(t *testing.T, name string) {
	t.Helper()
	if err := c.agents[name].Process.Kill(); err != nil {
		t.Fatalf("kill %s: %v", name, err)
	}
	c.agents[name].Wait() // which only says that it was killed
}

// words tells what the agents said last.
func (c *couple) words(t *testing.T) {
	for name := range c.agents {
		words, err := os.ReadFile(filepath.Join(c.disk, name, "words"))
		t.Logf("the last words of %s: %v\n%s", name, err, words[max(0, len(words)-6000):])
	}
}

// holder waits until another agent than that holds the lease, and returns it.
func (c *couple) holder(t *testing.T, than string) (name string) {
	t.Helper()
	leases := kube.Leases.In(c.kube, edgecluster.Namespace)
	awaitFor(t, patience, "an agent to hold the lease", func() error {
		l, err := leases.Get(t.Context(), edgecluster.LeaderLease)
		if err != nil {
			return err
		}
		if name = l.Spec.Holder; name == "" || name == than {
			return fmt.Errorf("it is %q who does", name)
		}
		return nil
	})
	return name
}

// under lets a crowd say at least as many events as are asked for, rate a second, and
// calls change so many times meanwhile.
func (c *couple) under(t *testing.T, rate, changes int, change func()) verdict {
	t.Helper()
	crowd, stop := newCrowd(c.broker, "device", 8, rate), make(chan struct{})
	var sent map[string]int
	var err error
	var wg sync.WaitGroup
	wg.Go(func() { sent, err = crowd.run(t.Context(), stop) })
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	t.Cleanup(end)
	for i := range changes {
		awaitFor(t, patience+time.Duration(*crowded/rate)*time.Second, "events", func() error { return c.reached((i + 1) * *crowded / (changes + 1)) })
		change()
	}
	awaitFor(t, patience+time.Duration(*crowded/rate)*time.Second, "enough events", func() error { return c.reached(*crowded) })
	end()
	if err != nil {
		t.Fatal(err)
	}
	for device, n := range sent {
		awaitFor(t, patience, "the last event of "+device, func() error { return c.oracle.reached("echo", device, n) })
	}
	v := c.oracle.judge([]string{"echo"}, sent)
	t.Log(v)
	return v
}

func (c *couple) reached(n int) error {
	if is := c.oracle.heard("echo"); is < n {
		return fmt.Errorf("%d of %d ran", is, n)
	}
	return nil
}

func TestClusterTwoNodesRunEachEventOnce(t *testing.T) {
	c := newCouple(t, "two")
	v := c.under(t, 300, 0, nil)
	if len(v.lost)+len(v.inverted)+len(v.renamed)+v.repeated > 0 {
		t.Errorf("%v; want each event to have run once, in order", v)
	}
}

func TestClusterAHolderThatIsKilledCostsNoEvent(t *testing.T) {
	c := newCouple(t, "kill")
	v := c.under(t, 300, 3, func() {
		victim := c.holder(t, "")
		before := c.oracle.heard("echo")
		c.kill(t, victim)
		since := time.Now()
		next := c.holder(t, victim)
		took := time.Since(since)
		c.start(t, victim)
		awaitFor(t, patience, next+" to run something", func() error {
			if c.oracle.heard("echo") == before {
				return errors.New("nothing has run")
			}
			return nil
		})
		t.Logf("%s killed → %s holds the lease after %v, first event after %v", victim, next, took.Round(time.Millisecond), time.Since(since).Round(time.Millisecond))
		if took > 2*leaseHolds {
			t.Errorf("the lease was taken after %v, want within two durations, %v", took, 2*leaseHolds)
		}
	})
	if len(v.lost)+len(v.inverted)+len(v.renamed) > 0 {
		t.Errorf("%v; want nothing lost, turned round or renamed", v)
	}
}

// lay puts on the board what agents need that run beside it.
func (c *couple) lay(t *testing.T) {
	t.Helper()
	text, err := k3s.Files.ReadFile("sedge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range documents(t, text) {
		if kind := doc["kind"]; kind == "Namespace" || kind == "CustomResourceDefinition" {
			await(t, "the API server to take what sedge.yaml has", func() error { return c.apply(t, doc) })
		}
	}
}
