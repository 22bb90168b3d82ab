package agent

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// stuck is a handler that ends when release is closed.
func stuck(release <-chan struct{}) handler {
	return func(inv functions.Invocation, r functions.Run) functions.Outcome {
		<-release
		return publishes(inv, r)
	}
}

func TestPastTheCapWhatComesIsStoredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bus{}
		n := start(t, t.TempDir(), newSandbox(), Config{Bus: b, Unacked: 10, Hold: time.Hour})
		n.bus = b
		release := make(chan struct{})
		n.deploy("stuck", onIn+"resources: {timeout: 10m}", stuck(release))
		var said []*spoken
		for i := range 30 {
			said = append(said, b.say(fmt.Sprintf("in/d%d", i), "1"))
			synctest.Wait()
		}
		acked := 0
		for _, p := range said {
			if p.acked() {
				acked++
			}
		}
		if acked != 20 {
			t.Errorf("%d of 30 acknowledged, want 20: those past the cap", acked)
		}
		close(release)
		pass(time.Minute)
		if got := len(b.published()); got != 30 {
			t.Errorf("%d published, want 30", got)
		}
		n.stop()
	})
}

func TestTheBusIsPausedWhileTheDiskDoesNotKeepUp(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		for range 9 * n.Unacked { // as if they were being stored
			newReceipt(&n.own.load, 1, nil, 1)
		}
		n.deploy("echo", onIn, publishes)
		n.bus.say("in/a", "1")
		pass(time.Second)
		if !n.bus.isPaused() || n.Checks()[2].OK {
			t.Errorf("paused %v, ready %v; want true, false", n.bus.isPaused(), n.Checks()[2].OK)
		}
		n.own.load.messages.Store(0)
		pass(time.Second)
		if n.bus.isPaused() || !n.Checks()[2].OK {
			t.Errorf("paused %v, ready %v once there is room; want false, true", n.bus.isPaused(), n.Checks()[2].OK)
		}
	})
}

func TestLargeMessagesArePausedByTheirBytes(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.own.load.add(1, fullBytes+1)
		n.deploy("echo", onIn, publishes)
		n.bus.say("in/a", "1")
		if !n.bus.isPaused() {
			t.Error("not paused though too many bytes are unacknowledged")
		}
		n.own.load.add(-1, -fullBytes-1)
		pass(time.Second)
		if n.bus.isPaused() {
			t.Error("paused though there is room")
		}
	})
}

// A flood with every runner stuck: what the agent takes stays bounded, and
// nothing that it acknowledged is lost.
func TestAFloodIsBoundedAndLosesNothingThatWasAccepted(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		const many, size = 20_000, 1 << 10
		release := make(chan struct{})
		var ran atomic.Int64
		h := func(functions.Invocation, functions.Run) functions.Outcome {
			<-release
			ran.Add(1)
			return functions.Outcome{}
		}
		n.deploy("stuck", onIn+"resources: {timeout: 14m}\ndelivery: {inbox: {deliveries: 50000, bytes: 64Mi}}", h)
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		goroutines := runtime.NumGoroutine()
		acked := make([]*atomic.Int32, 0, many)
		for i := range many {
			m := devices.Message{Topic: fmt.Sprintf("in/d%d", i%100), Payload: make([]byte, size), QoS: byte(i % 2), Time: time.Now()}
			if m.QoS > 0 {
				p := &spoken{}
				m.PacketID, m.Session, m.Ack = uint16(i), "s", p
				acked = append(acked, &p.acks)
			}
			n.bus.hear(m)
			if i%10 == 0 {
				time.Sleep(time.Millisecond)
			}
			if i%1000 == 0 {
				synctest.Wait()
			}
		}
		pass(time.Second)
		if got := runtime.NumGoroutine() - goroutines; got > 50 {
			t.Errorf("%d more goroutines than before", got)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		heap := int64(after.HeapAlloc) - int64(before.HeapAlloc)
		t.Logf("heap grew by %d KiB", heap>>10)
		if heap > 40<<20 {
			t.Errorf("the heap grew by %d MiB", heap>>20)
		}
		accepted := 0
		for _, a := range acked {
			accepted += int(a.Load())
		}
		if accepted < many/2-100 {
			t.Errorf("%d of %d acknowledged; want all but those that run first", accepted, many/2)
		}
		close(release)
		pass(time.Hour)
		c := n.status("stuck").Counts
		if c.Done+c.Shed != many || c.Done != ran.Load() || c.Done < many/2 {
			t.Errorf("counts %+v, %d ran; want all done, or shed at QoS 0", c, ran.Load())
		}
	})
}

// A limit on the size of files makes writes fail as a broken disk does. It
// holds for the whole process, which therefore is one of its own.
func TestWhileTheDiskFailsNothingIsAcknowledgedAndTheBusIsPaused(t *testing.T) {
	const variable = "AGENT_TEST_CHILD"
	if os.Getenv(variable) == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), variable+"=1")
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.ENOEXEC) {
			t.Skip("this program is emulated and cannot start itself")
		}
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("count", onIn, counting)
		n.bus.say("in/a", "1")
		pass(time.Second)
		heal := breakDisk(t)
		p := n.bus.say("in/a", "2")
		pass(10 * time.Second)
		if p.acked() || !n.bus.isPaused() {
			t.Errorf("acknowledged %v, paused %v; want false, true", p.acked(), n.bus.isPaused())
		}
		if ok := n.Checks()[1]; ok.OK || ok.Why == "" {
			t.Errorf("check %+v, want why the store fails", ok)
		}
		n.want("out/a=1")
		heal()
		pass(30 * time.Second)
		n.want("out/a=1", "out/a=2")
		if !p.acked() || n.bus.isPaused() {
			t.Errorf("acknowledged %v, paused %v once it works; want true, false", p.acked(), n.bus.isPaused())
		}
		if e, err := n.StateGet(t.Context(), "count", "n"); err != nil || e.Value != "2" {
			t.Errorf("n = %s, %v; want 2", e.Value, err)
		}
		var none *edge.Error
		if _, err := n.StateGet(t.Context(), "count", "none"); !errors.As(err, &none) || none.Code != edge.NotFound {
			t.Errorf("StateGet = %v, want %s", err, edge.NotFound)
		}
	})
}

// breakDisk makes every write to a file fail until heal is called.
func breakDisk(t *testing.T) (heal func()) {
	t.Helper()
	var whole syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &whole); err != nil {
		t.Fatal(err)
	}
	set := func(l syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
			t.Fatal(err)
		}
	}
	set(syscall.Rlimit{Cur: 0, Max: whole.Max})
	return func() { set(whole) }
}
