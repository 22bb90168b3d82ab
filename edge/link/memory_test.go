package link_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/link"
)

// TestMain lets the test program be the nodes of a measurement, so that what is measured
// is the hub's alone.
func TestMain(m *testing.M) {
	if os.Getenv("SEDGE_LINK_NODES") != "" {
		if err := beNodes(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// beNodes dials the URL so many times, says a beat on each, answers what is longer than
// that, and keeps the links until its input ends.
func beNodes(args []string) error {
	var n int
	if _, err := fmt.Sscan(args[3], &n); err != nil {
		return err
	}
	var want [2][]byte // the hub's key, the authority's pin
	for i := range want {
		var err error
		if want[i], err = base64.StdEncoding.DecodeString(args[1+i]); err != nil {
			return err
		}
	}
	_, key, err := ed25519Key()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	d := &link.Dialer{URL: args[0], Hub: want[0], Key: key, Trust: link.Trust{Pin: want[1]}}
	for range n {
		conn, _, err := d.Dial(ctx, now(), edge.Proof{Name: "one of many"})
		if err != nil {
			return err
		}
		if err := conn.Send([]byte("beat")); err != nil {
			return err
		}
		beat := make(chan bool, 1)
		all.Go(func() {
			conn.Serve(ctx, func(data []byte) error { // ends with the program
				if len(data) > len("beat") {
					return conn.Send([]byte("got"))
				}
				beat <- true
				return nil
			})
		})
		<-beat
	}
	fmt.Println("there")
	_, err = io.Copy(io.Discard, os.Stdin)
	stop()
	return err
}

// idle returns what one idle link costs the hub's process, with n of them.
func idle(t testing.TB, n int) (heap, stack, resident float64) {
	t.Helper()
	before := memory()
	var after usage
	with(t, n, newHub(t, echo), func() { after = memory() })
	each := func(f func(usage) uint64) float64 { return (float64(f(after)) - float64(f(before))) / float64(n) }
	return each(func(u usage) uint64 { return u.heap }), each(func(u usage) uint64 { return u.stack }), each(func(u usage) uint64 { return u.resident })
}

// with starts another process that is n nodes of the hub, and calls f while they are there.
func with(t testing.TB, n int, h *hub, f func()) {
	t.Helper()
	h.ended = make(chan error, n)
	nodes := exec.Command(os.Args[0], h.url(), base64.StdEncoding.EncodeToString(public(h.gate.Key)), base64.StdEncoding.EncodeToString(h.ca.Pin()), fmt.Sprint(n))
	nodes.Env = append(os.Environ(), "SEDGE_LINK_NODES=1")
	nodes.Stderr = os.Stderr
	in, err := nodes.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := nodes.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := nodes.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		f()
	}
	in.Close()
	if err := errors.Join(err, nodes.Wait()); err != nil || strings.TrimSpace(said) != "there" {
		t.Fatalf("the nodes: %v, %q", err, said)
	}
}

type usage struct{ heap, stack, resident uint64 } // bytes

// memory returns what the process uses when the garbage is gone.
func memory() (u usage) {
	for range 3 { // what is pooled goes in two, and stacks shrink in one
		runtime.GC()
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.heap, u.stack = m.HeapInuse, m.StackInuse
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, pages uint64
		fmt.Sscan(string(statm), &size, &pages)
		u.resident = pages * uint64(os.Getpagesize())
	}
	return u
}

// BenchmarkIdleLink reports what a link with TLS costs a hub when nothing goes over it.
func BenchmarkIdleLink(b *testing.B) {
	heap, stack, resident := idle(b, 3000)
	for b.Loop() {
	}
	b.ReportMetric(heap, "heap-B/link")
	b.ReportMetric(stack, "stack-B/link")
	b.ReportMetric(resident, "resident-B/link")
}

func TestAnIdleLinkIsSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a program")
	}
	heap, stack, _ := idle(t, 500)
	t.Logf("heap %.0f bytes a link, stack %.0f", heap, stack)
	if total := heap + stack; total > 32<<10 {
		t.Errorf("a link takes %.0f bytes of the hub, want at most 32 KiB", total)
	}
}

// BenchmarkTellAll sends 10 kB to 3,000 nodes until all have answered.
func BenchmarkTellAll(b *testing.B) {
	const n = 3000
	conns, got := make(chan *link.Conn, n), make(chan bool, n)
	h := newHub(b, func(c *link.Conn) func([]byte) error {
		conns <- c
		return func(data []byte) error {
			if string(data) == "got" {
				got <- true
				return nil
			}
			return c.Send([]byte("beat"))
		}
	})
	with(b, n, h, func() {
		var all []*link.Conn
		for range n {
			all = append(all, <-conns)
		}
		change, before, most := make([]byte, 10_000), memory(), usage{}
		for b.Loop() {
			for _, c := range all {
				if err := c.Send(change); err != nil {
					b.Fatal(err)
				}
			}
			for range n {
				<-got
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.heap, most.stack = max(most.heap, m.HeapInuse), max(most.stack, m.StackInuse)
		}
		b.ReportMetric((float64(most.heap)-float64(before.heap))/n, "more-heap-B/link")
		b.ReportMetric((float64(most.stack)-float64(before.stack))/n, "more-stack-B/link")
	})
}
