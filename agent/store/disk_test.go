package store_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// eventually fails unless ok becomes true within ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within ten seconds", what)
		}
	}
}

// A crowd is changes that were handed in, and what became of them.
type crowd struct {
	mu     sync.Mutex
	done   []int64 // numbers of the changes, in the order they were confirmed
	failed []error
}

func (c *crowd) store(s *store.Store, seq int64, size int) {
	s.Commit(&store.Change{Store: []store.Delivery{{
		Seq: seq, Function: "f", Event: devices.Event{Payload: make([]byte, size)},
	}}}, func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.done = append(c.done, seq); err != nil {
			c.failed = append(c.failed, err)
		}
	})
}

func (c *crowd) confirmed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.done)
}

func TestAFullDiskLosesNothingAndHeals(t *testing.T) {
	dir, here := inTmpfs(t, "16m")
	if !here {
		return
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 9<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s, closeStore := open(t, filepath.Join(dir, "data"))
	var c crowd
	const changes = 80
	for seq := range int64(changes) {
		c.store(s, seq+1, 60_000)
	}
	eventually(t, "the full disk is noticed", func() bool { return s.Healthy() != nil })
	<-s.Health()
	if c.confirmed() == changes {
		t.Fatal("all changes found room: the disk is too large for this test")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all changes are committed", func() bool { return c.confirmed() == changes })
	eventually(t, "the store is well again", func() bool { return s.Healthy() == nil })
	if len(c.failed) > 0 {
		t.Errorf("%d changes failed: %v", len(c.failed), c.failed[0])
	}
	closeStore()
	s, _ = open(t, filepath.Join(dir, "data"))
	if r, err := s.Recover(); err != nil || len(r.Inbox) != changes {
		t.Errorf("%d rows after reopening, %v; want %d", len(r.Inbox), err, changes)
	}
}

func TestOnADiskThatTheStoreItselfHasFilledDeletingHeals(t *testing.T) {
	dir, here := inTmpfs(t, "16m")
	if !here {
		return
	}
	s, _ := open(t, filepath.Join(dir, "data"))
	var c crowd
	last := int64(0)
	for s.Healthy() == nil {
		last++
		n := c.confirmed()
		c.store(s, last, 60_000)
		eventually(t, "a change is committed, or the disk is full", func() bool { return c.confirmed() > n || s.Healthy() != nil })
	}
	// What is begun can be ended: each deletion is small.
	for seq := range last {
		s.Commit(&store.Change{Drop: []int64{seq + 1}}, nil)
	}
	eventually(t, "the deletions and the store's health", func() bool { return s.Healthy() == nil })
	mustCommit(t, s, store.Change{})
	if r, err := s.Recover(); err != nil || len(r.Inbox) != 0 {
		t.Errorf("%d rows are left, %v; want none", len(r.Inbox), err)
	}
	if c.confirmed() != int(last) || len(c.failed) > 0 {
		t.Errorf("%d of %d confirmed, failed: %v", c.confirmed(), last, c.failed)
	}
}

// A limit on the size of files makes writes fail as a broken disk does.
func TestAFailingDiskIsWaitedFor(t *testing.T) {
	if !isChild(t) {
		out, err := child(t, t.TempDir()).CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	s, _ := open(t, ".")
	mustCommit(t, s, store.Change{State: &store.StateChange{Function: "f", Writes: []functions.StateWrite{set("k", "1")}}})
	var whole, broken syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &whole); err != nil {
		t.Fatal(err)
	}
	broken = whole
	broken.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &broken); err != nil {
		t.Fatal(err)
	}
	var c crowd
	for seq := range int64(10) {
		c.store(s, seq+1, 10)
	}
	eventually(t, "the failure is noticed", func() bool { return s.Healthy() != nil })
	<-s.Health()
	if err := s.Purge("f"); err == nil {
		t.Error("Purge = nil, want the disk's error at once")
	}
	if got, _, err := s.Get("f", "k"); err != nil || string(got) != "1" {
		t.Errorf("Get = %s, %v while the disk cannot be written, want 1", got, err)
	}
	if got := c.confirmed(); got > 0 {
		t.Errorf("%d changes were confirmed by a disk that takes nothing", got)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &whole); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all changes are committed", func() bool { return c.confirmed() == 10 })
	<-s.Health()
	if err := s.Healthy(); err != nil {
		t.Errorf("Healthy = %v, want nil", err)
	}
	for i, seq := range c.done {
		if seq != int64(i+1) {
			t.Fatalf("confirmed %v, want them in order", c.done)
		}
	}
}

func TestAReadOnlyDirectoryIsRefused(t *testing.T) {
	dir, here := inTmpfs(t, "10m")
	if !here {
		return
	}
	s, closeStore := open(t, dir)
	mustCommit(t, s, *numbered(1))
	closeStore()
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(dir, slog.New(slog.DiscardHandler)); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Open = %v, want %v", err, syscall.EROFS)
	}
}

// What is found damaged only while it runs is set aside at the next start.
func TestDamageFoundWhileRunningEndsTheRunAndIsMendedByTheNext(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	fill(t, s, 0, 200)
	closeStore()

	s, err := store.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "node.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := f.Stat()
	if _, err := f.WriteAt(make([]byte, info.Size()-4096), 4096); err != nil {
		t.Fatal(err)
	}
	f.Close()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context()) }()
	told := make(chan error, 1)
	s.Commit(numbered(1000), func(err error) { told <- err })
	if err := <-told; err == nil {
		t.Error("the change was confirmed, want an error")
	}
	if err := <-ended; err == nil {
		t.Error("Run = nil, want an error")
	}
	if err := commit(s, *numbered(1001)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Commit afterwards = %v, want %v", err, store.ErrClosed)
	}
	s.Close()

	s, _ = open(t, dir)
	if s.Report() == nil {
		t.Error("Report = nil, want what was set aside")
	}
	mustCommit(t, s, *numbered(1000))
}
