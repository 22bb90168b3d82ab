package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/functions"
)

func TestChangesAreToldInTheOrderTheyCame(t *testing.T) {
	s, _ := open(t, t.TempDir())
	const changes = 3000 // more than one batch
	var told []int
	var wg sync.WaitGroup
	wg.Add(changes)
	for n := range changes {
		c := numbered(int64(n + 1))
		c.Lazy = n%3 == 0
		if n%5 == 0 {
			c.State.Reads = map[string]int64{"count": 1 << 60} // never so
		}
		s.Commit(c, func(err error) {
			if void := n%5 == 0; void != errors.Is(err, store.ErrConflict) || !void && err != nil {
				t.Errorf("change %d: %v", n, err)
			}
			told = append(told, n)
			wg.Done()
		})
	}
	wg.Wait()
	if !slices.IsSorted(told) {
		t.Error("not in order")
	}
	if count, _, _ := s.Get("f", "count"); string(count) != "2400" {
		t.Errorf("count is %s, want 2400: the void changes are to leave nothing", count)
	}
}

// A change that SQLite refuses, which the store does not foresee, is the only
// one to suffer.
func TestAChangeThatCannotBeWrittenHarmsNoOther(t *testing.T) {
	s, _ := open(t, t.TempDir())
	bad := numbered(2)
	bad.Store[0].Event.Time = time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC) // JSON knows no such year
	errs := make(chan error, 3)
	for _, c := range []*store.Change{numbered(1), bad, numbered(3)} {
		s.Commit(c, func(err error) { errs <- err })
	}
	for n, ok := range []bool{true, false, true} {
		if err := <-errs; (err == nil) != ok {
			t.Errorf("change %d: %v", n+1, err)
		}
	}
	if count, _, _ := s.Get("f", "count"); string(count) != "2" {
		t.Errorf("count is %s, want 2", count)
	}
}

func TestALazyChangeWaitsASecondForCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, closeStore := open(t, t.TempDir())
		defer closeStore()
		lazy := func(n int64) *store.Change {
			c := numbered(n)
			c.Lazy = true
			return c
		}
		start := time.Now()
		done := make(chan time.Duration, 4)
		hand := func(c *store.Change) {
			s.Commit(c, func(err error) {
				if err != nil {
					t.Error(err)
				}
				done <- time.Since(start)
			})
		}
		hand(lazy(1))
		time.Sleep(300 * time.Millisecond)
		hand(lazy(2))
		for range 2 {
			if got := <-done; got != time.Second {
				t.Errorf("committed after %v, want 1s", got)
			}
		}
		hand(lazy(3))
		hand(numbered(4))
		for range 2 {
			if got := <-done; got != time.Second {
				t.Errorf("committed after %v, want at once", got-time.Second)
			}
		}
	})
}

func TestRunCommitsWhatWaitsBeforeItReturns(t *testing.T) {
	s, err := store.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var told []error
	for n := range int64(5) {
		c := numbered(n + 1)
		c.Lazy = true
		s.Commit(c, func(err error) { told = append(told, err) })
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	if want := make([]error, 5); !slices.Equal(told, want) {
		t.Errorf("told %v, want five times nil", told)
	}
	if err := commit(s, *numbered(6)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Commit afterwards = %v, want %v", err, store.ErrClosed)
	}
	if err := s.Purge("f"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Purge afterwards = %v, want %v", err, store.ErrClosed)
	}
}

func TestAnIdleStoreWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, closeStore := open(t, dir)
		defer closeStore()
		c := numbered(1)
		c.State.Writes[0].TTL = time.Hour
		mustCommit(t, s, *c)
		files, bytes := stat(t, dir), written(t)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if got := written(t); got != bytes {
			t.Errorf("%d bytes were written in an idle day", got-bytes)
		}
		if got := stat(t, dir); got != files {
			t.Errorf("the files were\n%s\nand are\n%s", files, got)
		}
		mustCommit(t, s, *numbered(2))
		if got := written(t); got == bytes {
			t.Error("the test does not see writes")
		}
	})
}

// written returns how many bytes this process has had the kernel write to files.
func written(t testing.TB) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skipf("this kernel does not count: %v", err)
	}
	_, after, _ := strings.Cut(string(text), "\nwrite_bytes: ")
	line, _, _ := strings.Cut(after, "\n")
	n, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func stat(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&all, e.Name(), info.Size(), info.ModTime())
	}
	return all.String()
}

func TestABatchCostsOneSync(t *testing.T) {
	if isChild(t) {
		commitForStrace(t)
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil || testing.Short() {
		t.Skip("strace is not installed, or cannot be used here")
	}
	dir := t.TempDir()
	trace := filepath.Join(dir, "trace")
	out, err := child(t, dir, strace, "-f", "-qq", "-o", trace, "-e", "trace=fsync,fdatasync,mkdirat").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	parts := regexp.MustCompile(`mkdirat\(.*"mark`).Split(string(text), -1)
	if len(parts) != 4 {
		t.Fatalf("the trace has %d parts, want 4\n%s", len(parts), text)
	}
	syncs := func(part string) int { return len(regexp.MustCompile(`f(data)?sync\(`).FindAllString(part, -1)) }
	if got, want := syncs(parts[1]), 20; got != want {
		t.Errorf("%d syncs for 20 changes one after another, want %d", got, want)
	}
	if got := syncs(parts[2]); got != 1 {
		t.Errorf("%d syncs for 500 changes at once, want 1", got)
	}
}

// commitForStrace makes a folder between its parts, to be seen in the trace.
func commitForStrace(t *testing.T) {
	s, err := store.Open(".", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	run := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx); close(ended) }()
		return func() { cancel(); <-ended }
	}
	mark := func(n int) {
		if err := os.Mkdir(fmt.Sprint("mark", n), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	small := func(n int) store.Change {
		return store.Change{State: &store.StateChange{Function: "f", Writes: []functions.StateWrite{set("k", strconv.Itoa(n))}}}
	}
	stop := run()
	mustCommit(t, s, small(0)) // the log is begun
	mark(1)
	for n := range 20 {
		mustCommit(t, s, small(n))
	}
	mark(2)
	blocked, release := make(chan struct{}), make(chan struct{})
	s.Commit(&store.Change{}, func(error) { close(blocked); <-release })
	<-blocked
	var wg sync.WaitGroup
	wg.Add(500)
	for n := range 500 {
		c := small(n)
		s.Commit(&c, func(error) { wg.Done() })
	}
	close(release)
	wg.Wait()
	mark(3)
	stop()
}
