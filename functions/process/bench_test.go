package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

const lamp = `export default function (event, sedge) {
	if (event.payload.occupancy && event.payload.illuminance < 20) {
		sedge.publish("zigbee2mqtt/hall_lamp/set", {state: "ON", brightness: 120});
	}
}`

// lampFunction is the function of the budgets.
func lampFunction(t testing.TB, concurrency int) functions.Function {
	t.Helper()
	f, err := functions.New(functions.Manifest{
		APIVersion: functions.APIVersion,
		Kind:       "Function",
		Metadata:   functions.Metadata{Name: "lamp"},
		Spec: functions.Spec{
			Runtime:   "javascript",
			Source:    functions.Source{Path: "index.js"},
			Triggers:  []functions.Trigger{{MQTT: &functions.MQTTTrigger{Topic: "zigbee2mqtt/{device}"}}},
			Resources: functions.Resources{Concurrency: concurrency},
		},
	}, lamp)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func motion() functions.Invocation {
	return functions.Invocation{ID: "i", Attempt: 1, Timeout: patience, Event: devices.Event{
		ID: "e", Source: devices.MQTT, Topic: "zigbee2mqtt/hall_motion", QoS: 1, Time: time.Now(),
		Payload:  []byte(`{"occupancy":true,"illuminance":4,"battery":97,"linkquality":120}`),
		Captures: []devices.Capture{{Name: "device", Value: "hall_motion"}},
	}}
}

// waiter is a Run that tells when its outcome came.
type waiter struct {
	t    testing.TB
	done func()
}

func (w *waiter) Get(string) ([]byte, error)        { return nil, nil }
func (w *waiter) Peek(string) ([]byte, error)       { return nil, nil }
func (w *waiter) Publish(devices.Publication) error { return nil }
func (w *waiter) Log(functions.Level, string)       {}
func (w *waiter) Done(o functions.Outcome) {
	if o.Err != nil || len(o.Effects.Publish) != 1 {
		w.t.Errorf("outcome %+v", o)
	}
	w.done()
}

// cpu returns the CPU time that the process has used: in steps of 10 ms.
func cpu(b testing.TB, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRoundTrip measures an event from Invoke to Done: back to back, at
// 1,000 events a second, and with 64 under way.
func BenchmarkRoundTrip(b *testing.B) {
	for _, m := range []struct {
		name   string
		rate   time.Duration
		flight int
	}{{"sequential", 0, 1}, {"1000 a second", time.Millisecond, 1}, {"64 in flight", 0, 64}} {
		b.Run(m.name, func(b *testing.B) { roundTrip(b, m.rate, m.flight) })
	}
}

func roundTrip(b *testing.B, gap time.Duration, flight int) {
	s := open(b)
	i, err := s.Start(b.Context(), lampFunction(b, flight))
	if err != nil {
		b.Fatal(err)
	}
	defer i.Close()
	pid := i.(*child).pid
	var mu sync.Mutex
	var took []time.Duration
	free := make(chan struct{}, flight)
	for range flight {
		free <- struct{}{}
	}
	inv := motion()
	clock := time.NewTicker(max(gap, time.Nanosecond))
	defer clock.Stop()
	b.ReportAllocs()
	child, own := cpu(b, pid), ownCPU()
	n := 0
	for b.Loop() {
		if gap > 0 {
			<-clock.C
		}
		<-free
		began := time.Now()
		i.Invoke(inv, &waiter{b, func() {
			d := time.Since(began)
			mu.Lock()
			took = append(took, d)
			mu.Unlock()
			free <- struct{}{}
		}})
		n++
	}
	for range flight {
		<-free
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
	b.ReportMetric(float64((cpu(b, pid)-child).Nanoseconds())/1e3/float64(n), "runner-cpu-µs/op")
	b.ReportMetric(float64((ownCPU()-own).Nanoseconds())/1e3/float64(n), "agent-cpu-µs/op")
}

// BenchmarkFirstStart measures the first event of a sleeping function: a warm
// runner is taken, the code loaded, the event run.
func BenchmarkFirstStart(b *testing.B) {
	s := open(b)
	f := lampFunction(b, 4)
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		c, err := s.take(context.Background()) // wait for the pool, so that the start finds a warm one
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
		for len(s.warm) < cap(s.warm) {
			<-time.After(time.Millisecond)
		}
		<-time.After(30 * time.Millisecond)
		b.StartTimer()
		began := time.Now()
		i, err := s.Start(b.Context(), f)
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan struct{})
		i.Invoke(motion(), &waiter{b, func() { close(done) }})
		<-done
		took = append(took, time.Since(began))
		b.StopTimer()
		i.Close()
		b.StartTimer()
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1e3, "p99-ms")
}

// TestIdleRunnerIsSmall holds runners to their budget, PSS: pages that they share
// with their agent are not all theirs, so the agent is to be the same program.
// What the collector leaves differs by half a megabyte: two of three must be small.
func TestIdleRunnerIsSmall(t *testing.T) {
	if program != self {
		if out, err := exec.Command(program, "-test.run=^"+t.Name()+"$").CombinedOutput(); err != nil {
			t.Errorf("without the race detector: %v\n%s", err, out)
		}
		return
	}
	s := open(t)
	const most = 8 << 10 // kB
	small, big := 0, 0
	for small < 2 && big < 2 {
		got := idleSize(t, s, most)
		t.Logf("PSS %d kB", got)
		if got <= most {
			small++
		} else {
			big++
		}
	}
	if big == 2 {
		t.Errorf("two runners stayed above %d kB", most)
	}
}

// idleSize returns the PSS of a runner that has worked, kB, as soon as it is at
// most enough, or after a while.
func idleSize(t *testing.T, s *Sandbox, enough int) int {
	t.Helper()
	i, err := s.Start(t.Context(), lampFunction(t, 4))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	for range 1000 {
		done := make(chan struct{})
		i.Invoke(motion(), &waiter{t, func() { close(done) }})
		<-done
	}
	clock := time.NewTicker(200 * time.Millisecond)
	defer clock.Stop()
	late := time.After(patience)
	pid := i.(*child).pid
	for {
		got := pss(t, pid)
		if got <= enough {
			return got
		}
		select {
		case <-clock.C:
		case <-late:
			return got
		}
	}
}

// pss returns the proportional set size of a process, kB.
func pss(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	var n int
	for l := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(l, "Pss:"); ok {
			fmt.Sscan(rest, &n)
		}
	}
	return n
}
