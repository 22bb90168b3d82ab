package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/edge/sqlite"
	"github.com/sedge-iot/sedge/functions"
)

// numbered is the change number n: it counts up a key, and writes another one,
// an inbox row and a publish.
func numbered(n int64) *store.Change {
	return &store.Change{
		State: &store.StateChange{Function: "f", Writes: []functions.StateWrite{
			{Op: functions.StateIncr, Key: "count", By: 1}, set(fmt.Sprint("key ", n), `"`+strings.Repeat("x", int(n%2000))+`"`),
		}},
		Store:  []store.Delivery{{Seq: n, Function: "f", Event: anEvent(int(n))}},
		Outbox: []store.Outgoing{{Seq: n, Function: "f"}},
	}
}

// count opens the store in dir and returns up to which number it holds changes.
// It fails if one of them is not whole.
func count(t *testing.T, dir string) int64 {
	t.Helper()
	s, err := store.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if r := s.Report(); r != nil {
		t.Fatalf("the store was damaged: %+v", r)
	}
	r, err := s.Recover()
	if err != nil {
		t.Fatal(err)
	}
	n := r.NextSeq - 1
	if n == 0 {
		return 0
	}
	sum, _, err := s.Get("f", "count")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(r.Inbox); int64(got) != n {
		t.Errorf("%d inbox rows, want %d", got, n)
	}
	if got := len(r.Outbox); int64(got) != n {
		t.Errorf("%d outbox rows, want %d", got, n)
	}
	if want := strconv.FormatInt(n, 10); string(sum) != want {
		t.Errorf("count is %s, want %s", sum, want)
	}
	if got := s.Usage("f").Keys; int64(got) != n+1 {
		t.Errorf("%d keys, want %d", got, n+1)
	}
	return n
}

func TestWhatWasConfirmedOutlivesAKill(t *testing.T) {
	if isChild(t) {
		commitForEver(t, false)
		return
	}
	cycles := 20
	if testing.Short() {
		cycles = 3
	}
	dir, n := t.TempDir(), int64(0)
	for range cycles {
		confirmed := max(n, killed(t, dir, rand.N(150*time.Millisecond)))
		if n = count(t, dir); n < confirmed {
			t.Errorf("%d changes are there, %d were confirmed", n, confirmed)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d changes after %d kills", n, cycles)
	if n == 0 {
		t.Error("no change was ever confirmed")
	}
}

// The same, with a child that confirms what it only has handed in, shows that
// the kill does hit what is not on disk yet.
func TestWhatWasConfirmedTooEarlyDoesNotOutliveAKill(t *testing.T) {
	if isChild(t) {
		commitForEver(t, true)
		return
	}
	dir := t.TempDir()
	for range 20 {
		if confirmed := killed(t, dir, rand.N(50*time.Millisecond)); count(t, dir) < confirmed {
			return
		}
	}
	t.Error("after 20 kills nothing was lost")
}

// commitForEver commits numbered changes, going on where the store is, and says
// which are confirmed: early, when they are handed in, or rightly.
func commitForEver(t *testing.T, early bool) {
	s, err := store.Open(".", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Recover()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("confirmed", r.NextSeq-1)
	window := make(chan struct{}, 64)
	go func() {
		for n := r.NextSeq; ; n++ {
			window <- struct{}{}
			if early {
				fmt.Println("confirmed", n)
			}
			s.Commit(numbered(n), func(err error) {
				if err == nil && !early {
					fmt.Println("confirmed", n)
				}
				<-window
			})
		}
	}()
	s.Run(context.Background()) // until the process is killed
}

// killed runs the child for some time after its start, kills it, and returns
// the last number that it said was confirmed.
func killed(t *testing.T, dir string, after time.Duration) (confirmed int64) {
	t.Helper()
	cmd := child(t, dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		number, ok := strings.CutPrefix(lines.Text(), "confirmed ")
		if !ok {
			continue
		}
		if confirmed, err = strconv.ParseInt(number, 10, 64); err != nil {
			t.Fatal(err)
		}
		if !started {
			started = true
			time.AfterFunc(after, func() { cmd.Process.Kill() })
		}
	}
	cmd.Wait() // it says that it was killed
	if !started {
		t.Fatal("the child never began")
	}
	return confirmed
}

// A power cut loses what was not synced, whole or in parts.
func TestWhatWasConfirmedOutlivesAPowerCut(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	const confirmed = 100
	for n := range int64(confirmed) {
		mustCommit(t, s, *numbered(n + 1))
	}
	before := snapshot(dir)
	for n := range int64(confirmed) {
		mustCommit(t, s, *numbered(confirmed + n + 1))
	}
	after := snapshot(dir)
	closeStore()
	shut := snapshot(dir)
	if len(before["node.db-wal"]) >= len(after["node.db-wal"]) || len(shut["node.db-wal"]) > 0 {
		t.Fatal("the log was copied too early or too late for this test")
	}
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		img, want := cutWhileLogging(rng, before, after), int64(confirmed)
		if seed%2 == 1 {
			img, want = cutWhileCopying(rng, after, shut), 2*confirmed
		}
		dir := t.TempDir()
		img.write(t, dir)
		if n := count(t, dir); n < want || t.Failed() {
			t.Fatalf("seed %d: %d changes are there, %d were confirmed", seed, n, want)
		}
	}
	// Had the last confirmed change not been synced, it would be missed.
	lost := image{"node.db": before["node.db"], "node.db-wal": before["node.db-wal"][:len(before["node.db-wal"])-1]}
	dir = t.TempDir()
	lost.write(t, dir)
	if n := count(t, dir); n != confirmed-1 {
		t.Errorf("%d changes are there of a log without its last byte, want %d", n, confirmed-1)
	}
}

// cutWhileLogging returns an image where the log that was written after before
// ends somewhere, with sectors missing.
func cutWhileLogging(rng *rand.Rand, before, after image) image {
	safe, log := len(before["node.db-wal"]), slices.Clone(after["node.db-wal"])
	log = log[:safe+rng.IntN(len(log)-safe)]
	for at := (safe + 511) / 512 * 512; at < len(log); at += 512 {
		if rng.IntN(4) == 0 {
			clear(log[at:min(at+512, len(log))])
		}
	}
	return image{"node.db": after["node.db"], "node.db-wal": log}
}

// cutWhileCopying returns an image where the log is whole, and each sector of
// the file is either old or new: the log was being copied into it.
func cutWhileCopying(rng *rand.Rand, old, new image) image {
	file := slices.Clone(old["node.db"])
	if n := len(new["node.db"]) - len(file); n > 0 {
		file = append(file, make([]byte, rng.IntN(n+1))...)
	}
	for at := 0; at < len(file); at += 512 {
		if rng.IntN(2) == 0 {
			copy(file[at:min(at+512, len(file))], new["node.db"][at:])
		}
	}
	return image{"node.db": file, "node.db-wal": old["node.db-wal"]}
}

func TestAProcessThatHasTheStoreIsNamed(t *testing.T) {
	if isChild(t) {
		_, err := store.Open(".", slog.New(slog.DiscardHandler))
		fmt.Println("answer:", err)
		return
	}
	dir := t.TempDir()
	open(t, dir)
	out, err := child(t, dir).CombinedOutput()
	if want := fmt.Sprintf("is in use by process %d", os.Getpid()); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("the child says %v, %s\nwant %q", err, out, want)
	}
}

func TestAStoreOfANewerProgramIsRefusedUntouched(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	fill(t, s, 0, 20)
	newer, err := sqlite.Open(filepath.Join(dir, "node.db"), schema99(t))
	if err != nil {
		t.Fatal(err)
	}
	img := snapshot(dir)
	if err := newer.Close(); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	img.write(t, dir)
	_, err = store.Open(dir, slog.New(slog.DiscardHandler))
	if e, ok := errors.AsType[*sqlite.NewerError](err); !ok || e.Version != 99 {
		t.Errorf("Open = %v, want it to name schema 99", err)
	}
	for name, want := range img {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s was changed: %v", name, err)
		}
	}
}

// schema99 is the schema of a program to come.
func schema99(t *testing.T) fs.FS {
	schema := fstest.MapFS{}
	known, err := filepath.Glob("schema/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range known {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		schema[filepath.Base(name)] = &fstest.MapFile{Data: text}
	}
	for n := len(known) + 1; n <= 99; n++ {
		schema[fmt.Sprintf("%03d_more.sql", n)] = &fstest.MapFile{Data: fmt.Appendf(nil, "CREATE TABLE t%d (c INTEGER) STRICT", n)}
	}
	return schema
}
