package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sedge-iot/sedge/devices/mqtttest"
)

var events = flag.Int("events", 1000, "how many events two nodes of a cluster have between them")

// A member is a node of a cluster, in a process of its own.
type member struct {
	place
	cmd   *exec.Cmd
	in    io.Writer
	out   *bufio.Scanner
	words *os.File
}

// start starts the member, which stands by then.
func (m *member) start(t *testing.T) {
	t.Helper()
	told, err := json.Marshal(m.place)
	if err != nil {
		t.Fatal(err)
	}
	m.cmd = exec.Command("/proc/self/exe")
	m.cmd.Env = append(os.Environ(), memberEnv+"="+string(told))
	m.cmd.Stderr = m.words
	in, err := m.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.in, m.out = in, bufio.NewScanner(out)
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// tell says a line to the member.
func (m *member) tell(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(m.in, line+"\n"); err != nil {
		t.Fatalf("tell %s to %s: %v", m.Name, line, err)
	}
}

// leave takes the lease from the member and returns when it has let go.
func (m *member) leave(t *testing.T) {
	t.Helper()
	m.tell(t, "leave")
	if !m.out.Scan() || m.out.Text() != "left" {
		t.Fatalf("%s says %q, %v; want that it has left", m.Name, m.out.Text(), m.out.Err())
	}
}

// kill ends the member as a power cut would.
func (m *member) kill(t *testing.T) {
	t.Helper()
	if err := m.cmd.Process.Kill(); err != nil {
		t.Errorf("kill %s: %v", m.Name, err)
	}
	m.cmd.Wait() // which only says that it was killed
}

// A cluster is two members, one of which leads, and a crowd that speaks to them.
type cluster struct {
	broker  *mqtttest.Broker
	members [2]*member
	leader  int
	oracle  *oracle
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{broker: persistent(t), oracle: newOracle()}
	shared := t.TempDir()
	for i, name := range []string{"pi-1", "pi-2"} {
		m := &member{place: place{Name: name, Dir: t.TempDir(), Shared: shared, Broker: c.broker.URL()}}
		c.members[i] = m
		var err error
		if m.words, err = os.Create(filepath.Join(m.Dir, "words")); err != nil {
			t.Fatal(err)
		}
		m.start(t)
		t.Cleanup(func() { m.end(t) })
	}
	listen(t, c.broker.Addr(), "out/#", c.oracle.hear)
	c.members[0].tell(t, "lead")
	c.probe(t)
	return c
}

// end ends the member as an operator would.
func (m *member) end(t *testing.T) {
	m.cmd.Process.Signal(syscall.SIGTERM)
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("%s ended with %v, want success", m.Name, err)
	}
	if t.Failed() {
		words, err := os.ReadFile(m.words.Name())
		t.Logf("the last words of %s: %v\n%s", m.Name, err, words[max(0, len(words)-4000):])
	}
	m.words.Close()
}

// probe waits until the cluster hears.
func (c *cluster) probe(t *testing.T) {
	t.Helper()
	crowd, stop := newCrowd(c.broker.Addr(), "early", 1, 20), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		_, err := crowd.run(t.Context(), stop)
		done <- err
	}()
	await(t, "the cluster to answer", func() error { return c.oracle.reached("echo", crowd.devices[0], 1) })
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// next lets the other member lead, and returns the one that did.
func (c *cluster) next(t *testing.T) *member {
	t.Helper()
	before := c.members[c.leader]
	c.leader = 1 - c.leader
	c.members[c.leader].tell(t, "lead")
	return before
}

// under lets a crowd say at least as many events as are asked for, calls change so many
// times meanwhile, and returns what the oracle says.
func (c *cluster) under(t *testing.T, changes int, change func(i int)) verdict {
	t.Helper()
	const rate = 300
	crowd, stop := newCrowd(c.broker.Addr(), "device", 8, rate), make(chan struct{})
	type result struct {
		sent map[string]int
		err  error
	}
	said := make(chan result, 1)
	go func() {
		sent, err := crowd.run(t.Context(), stop)
		said <- result{sent, err}
	}()
	each := time.Duration(*events) * time.Second / rate / time.Duration(changes+1)
	for i := range changes {
		pause(t.Context(), each)
		change(i)
	}
	await(t, "enough events", func() error {
		if n := c.oracle.heard("echo"); n < *events {
			return fmt.Errorf("%d of %d", n, *events)
		}
		return nil
	})
	close(stop)
	r := <-said
	if r.err != nil {
		t.Fatal(r.err)
	}
	for device, n := range r.sent {
		await(t, "the last event of "+device, func() error { return c.oracle.reached("echo", device, n) })
	}
	v := c.oracle.judge([]string{"echo"}, r.sent)
	t.Log(v)
	return v
}

// Once, as long as what runs and is published when the lease goes is through within
// [agent.HandOverTime]: on a machine that is much too busy some of it may be repeated.
func TestAClusterRunsEachEventOnceThoughItsLeaseGoesRound(t *testing.T) {
	c := newCluster(t)
	v := c.under(t, 4, func(int) {
		c.members[c.leader].leave(t)
		c.next(t)
	})
	if len(v.lost)+len(v.inverted)+len(v.renamed)+v.repeated > 0 {
		t.Errorf("%v; want each event to have run once, in order", v)
	}
}

// What a runner has done of an event when it dies is not known, but nothing of it has been
// published: that is done once it is through.
func TestAClusterRunsEachEventOnceThoughItsRunnersDie(t *testing.T) {
	c := newCluster(t)
	killed := 0
	v := c.under(t, 4, func(int) {
		before := c.oracle.heard("echo")
		await(t, "the leader's runner to work", func() error { // one that is being started would be as one that cannot be
			if c.oracle.heard("echo") == before {
				return errors.New("it does not")
			}
			return nil
		})
		for _, runner := range children(strconv.Itoa(c.members[c.leader].cmd.Process.Pid)) {
			if unix.Kill(runner, unix.SIGKILL) == nil { // else it has ended by itself
				killed++
			}
		}
		c.members[c.leader].leave(t)
		c.next(t)
	})
	if len(v.lost)+len(v.inverted)+len(v.renamed)+v.repeated > 0 {
		t.Errorf("%v; want each event to have run once, in order", v)
	}
	if killed < 3 {
		t.Errorf("%d runners were killed, want one nearly every time", killed)
	}
}

func TestAClusterWhoseHolderIsKilledLosesNothing(t *testing.T) {
	c := newCluster(t)
	v := c.under(t, 4, func(i int) {
		m := c.members[c.leader]
		if i%2 == 0 {
			m.kill(t)
			c.next(t)
			m.start(t)
			return
		}
		// One that hangs and wakes when another has taken over: the broker has shut
		// it out, and it is told then.
		m.signal(t, unix.SIGSTOP)
		c.next(t)
		pause(t.Context(), 200*time.Millisecond)
		m.tell(t, "leave")
		m.signal(t, unix.SIGCONT)
		if !m.out.Scan() || m.out.Text() != "left" {
			t.Errorf("%s says %q, want that it has left", m.Name, m.out.Text())
		}
	})
	if len(v.lost)+len(v.inverted)+len(v.renamed) > 0 {
		t.Errorf("%v; want nothing lost, turned round or renamed", v)
	}
	if most := 4 * unacked; v.repeated > most {
		t.Errorf("%d repeated, want at most what could be unacknowledged, %d", v.repeated, most)
	}
}

func (m *member) signal(t *testing.T, s unix.Signal) {
	t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		t.Errorf("signal %s: %v", m.Name, err)
	}
}
