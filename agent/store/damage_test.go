package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// An image is the files of a store as a crash leaves them.
type image map[string][]byte

func snapshot(dir string) image {
	img := image{}
	for _, name := range []string{"node.db", "node.db-wal"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			img[name] = data
		}
	}
	return img
}

func (img image) write(t testing.TB, dir string) {
	t.Helper()
	for name, data := range img {
		if data == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A mutant is a store that something has happened to.
type mutant struct {
	name  string
	image image
	saved int // how many rows of state must be saved, 0 if that cannot be told
}

// mutants returns count of them, made of images of one store: with 50 rows of
// state, 200, 400, and as it was closed.
func mutants(young, old, now, shut image, count int, seed uint64) (all []mutant) {
	rng := rand.New(rand.NewPCG(seed, 0))
	of := func(base image, name string, saved int, change func(image)) {
		img := image{}
		for file, data := range base {
			img[file] = slices.Clone(data)
		}
		change(img)
		all = append(all, mutant{name, img, saved})
	}
	with := func(name string, change func(image)) { of(now, name, 0, change) }
	of(shut, "header lost", 400, func(i image) { copy(i["node.db"], strings.Repeat("garbage ", 13)[:100]) })
	of(shut, "first page lost", 400, func(i image) { copy(i["node.db"], strings.Repeat("garbage ", 512)) })
	of(young, "no file", 50, func(i image) { i["node.db"] = nil })
	of(young, "empty file", 50, func(i image) { i["node.db"] = []byte{} })
	with("untouched", func(image) {})
	with("both empty", func(i image) { i["node.db"], i["node.db-wal"] = []byte{}, []byte{} })
	with("garbage header", func(i image) { copy(i["node.db"], strings.Repeat("garbage ", 13)) })
	with("all garbage", func(i image) { copy(i["node.db"], strings.Repeat("garbage ", len(i["node.db"])/8)) })
	with("old log", func(i image) { i["node.db-wal"] = old["node.db-wal"] })
	with("old file", func(i image) { i["node.db"] = old["node.db"] })
	with("no log", func(i image) { i["node.db-wal"] = nil })
	for n := len(all); n < count; n++ {
		file := []string{"node.db", "node.db-wal"}[n%2]
		switch size := len(now[file]); n / 2 % 4 {
		case 0:
			at := rng.IntN(size)
			with(fmt.Sprintf("%s cut at %d", file, at), func(i image) { i[file] = i[file][:at] })
		case 1:
			at, bit := rng.IntN(size), rng.IntN(8)
			with(fmt.Sprintf("%s bit %d of %d", file, bit, at), func(i image) { i[file][at] ^= 1 << bit })
		case 2:
			at := rng.IntN(size) / 512 * 512
			with(fmt.Sprintf("%s sector %d zeroed", file, at), func(i image) { clear(i[file][at:min(at+512, size)]) })
		case 3:
			with(file+" with 20 flips", func(i image) {
				for range 20 {
					i[file][rng.IntN(size)] ^= 1 << rng.IntN(8)
				}
			})
		}
	}
	return all
}

// fill writes rows of most kinds, numbered from one number to another.
func fill(t testing.TB, s *store.Store, from, to int) {
	t.Helper()
	errs := make(chan error, to-from)
	for n := from; n < to; n++ {
		s.Commit(&store.Change{
			State: &store.StateChange{Function: "f", Writes: []functions.StateWrite{set(fmt.Sprintf("key %d", n), fmt.Sprintf("%q", strings.Repeat("v", n)))}},
			Store: []store.Delivery{{Seq: int64(n + 1), Function: "f", Lane: "hall", Event: anEvent(n)}},
			Dead:  []store.DeadLetter{{Function: "f", Event: anEvent(n)}},
		}, func(err error) { errs <- err })
	}
	for range to - from {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	var f functions.Function
	f.Manifest.Metadata.Name = "f"
	f.Revision = "r1"
	f.Code = strings.Repeat("// code\n", 1000)
	put(t, s, edge.Definition{Function: f, Enabled: true})
}

func TestADamagedStoreIsSetAsideAndSalvaged(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	fill(t, s, 0, 50)
	young := snapshot(dir) // all that is in it is in its log
	fill(t, s, 50, 200)
	old := snapshot(dir)
	fill(t, s, 200, 400)
	now := snapshot(dir)
	closeStore()
	shut := snapshot(dir)

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	count := 200
	if testing.Short() {
		count = 40
	}
	saved, salvaged := map[string]int{}, 0
	for _, m := range mutants(young, old, now, shut, count, seed) {
		dir := t.TempDir()
		m.image.write(t, dir)
		report := reopen(t, dir, m)
		if report == nil {
			if m.saved > 0 {
				t.Errorf("%s: nothing was reported", m.name)
			}
			continue
		}
		if m.saved > 0 && report.Rows["state"] != m.saved {
			t.Errorf("%s: %d rows of state were saved, want %d", m.name, report.Rows["state"], m.saved)
		}
		salvaged++
		for table, n := range report.Rows {
			saved[table] += n
		}
		for name, data := range m.image {
			aside, err := os.ReadFile(report.Path + strings.TrimPrefix(name, "node.db"))
			if data != nil && (err != nil || !slices.Equal(aside, data)) {
				t.Errorf("%s: %s was not kept as it was: %v", m.name, name, err)
			}
		}
	}
	t.Logf("%d salvaged, rows saved: %v", salvaged, saved)
	for _, table := range []string{"inbox", "state", "dead", "functions", "revisions"} {
		if saved[table] == 0 {
			t.Errorf("nothing was ever saved of %s", table)
		}
	}
}

// reopen opens the store in dir, which must work whatever happened to it, and
// uses every part of it.
func reopen(t *testing.T, dir string, m mutant) *store.Salvage {
	t.Helper()
	s, err := store.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Errorf("%s: %v", m.name, err)
		return nil
	}
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r, err := s.Recover()
	if err != nil {
		t.Errorf("%s: Recover: %v", m.name, err)
	}
	if _, err := s.Functions(); err != nil {
		t.Errorf("%s: Functions: %v", m.name, err)
	}
	for i := 0; i < len(r.Inbox); i += 20 {
		s.Event(r.Inbox[i].Seq) // a flipped bit of the data is found only here
	}
	if err := commit(s, store.Change{Store: []store.Delivery{{Seq: r.NextSeq, Function: "f"}}}); err != nil {
		t.Errorf("%s: Commit: %v", m.name, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("%s: Run: %v", m.name, err)
	}
	return s.Report()
}
