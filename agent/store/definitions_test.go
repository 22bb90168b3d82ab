package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/sqlite"
	"github.com/sedge-iot/sedge/functions"
)

func define(name, revision string, enabled bool) edge.Definition {
	var f functions.Function
	f.Manifest.Metadata.Name = name
	f.Code = strings.Repeat("// "+revision+"\n", 100)
	f.Revision = functions.Revision(revision)
	return edge.Definition{Function: f, Enabled: enabled}
}

// put makes d the definition of its function.
func put(t testing.TB, s *store.Store, d edge.Definition) {
	t.Helper()
	if err := s.Define(store.Definitions{Put: []store.Function{{Definition: d}}}); err != nil {
		t.Fatal(err)
	}
}

// defined returns what the store holds as name=revision.
func defined(t testing.TB, s *store.Store) string {
	t.Helper()
	list, err := s.Functions()
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, f := range list {
		word := f.Function.Name() + "=" + string(f.Function.Revision)
		if f.Bad != "" {
			word += " not " + string(f.Bad) + ": " + f.Why
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

func TestDefinitionsAreKeptWithTheirPosition(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	a, b := define("a", "a1", true), define("b", "b1", false)
	b.Origin = edge.FromCluster
	put(t, s, define("old", "o1", true))
	put(t, s, a)
	at := edge.Synced{
		At:        edge.Position{Epoch: "e", Revision: 2, Digest: "d"},
		Functions: []edge.Ref{{Name: "a", Revision: "a1", Enabled: true}, {Name: "b", Revision: "b2"}},
		Unfit:     []edge.Unfit{{Name: "b", Revision: "b2", Error: &edge.Error{Code: edge.Invalid, Message: "no"}}},
	}
	step := store.Definitions{Put: []store.Function{{Definition: b}}, Remove: []edge.Removal{{Name: "old"}}, Synced: &at}
	if err := s.Define(step); err != nil {
		t.Fatal(err)
	}
	closeStore()
	s, _ = open(t, dir)
	if got, err := s.Functions(); err != nil || !reflect.DeepEqual(got, []store.Function{{Definition: a}, {Definition: b}}) {
		t.Errorf("Functions = %+v, %v, want a and b", got, err)
	}
	if got, err := s.Synced(); err != nil || !reflect.DeepEqual(got, at) {
		t.Errorf("Synced = %+v, %v, want %+v", got, err, at)
	}
}

func TestAFunctionFallsBackToItsGoodRevisionOnce(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	put(t, s, define("f", "r1", true))
	if err := s.FallBack("f", "r1", "no"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("with no good one, FallBack = %v, want ErrNotFound", err)
	}
	if err := s.MarkGood("f", "r1"); err != nil {
		t.Fatal(err)
	}
	if err := s.FallBack("f", "r1", "no"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("from the good one, FallBack = %v, want ErrNotFound", err)
	}
	put(t, s, define("f", "r2", true))
	if err := s.FallBack("f", "r2", "it failed"); err != nil {
		t.Fatal(err)
	}
	if err := s.FallBack("f", "r2", "it failed"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("once more, FallBack = %v, want ErrNotFound", err)
	}
	if _, err := s.Revision("f", "r2"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the bad revision is still there, or %v", err)
	}
	closeStore()
	s, _ = open(t, dir)
	if got, want := defined(t, s), "f=r1 not r2: it failed"; got != want {
		t.Errorf("after a restart %q, want %q", got, want)
	}
	put(t, s, define("f", "r3", true))
	if got, want := defined(t, s), "f=r3"; got != want {
		t.Errorf("told another revision %q, want %q", got, want)
	}
}

func TestADeletedFunctionTakesWhatWaitsForItAlong(t *testing.T) {
	for _, purge := range []bool{false, true} {
		s, _ := open(t, t.TempDir())
		put(t, s, define("f", "r1", true))
		for _, f := range []string{"f", "g"} {
			mustCommit(t, s, store.Change{
				State:  &store.StateChange{Function: f, Writes: []functions.StateWrite{set("k", "1")}},
				Store:  []store.Delivery{{Seq: int64(f[0]), Function: f}, {Seq: int64(f[0]) + 100, Function: f}},
				Timers: []store.Timer{{TimerKey: store.TimerKey{Function: f}}},
				Dead:   []store.DeadLetter{{Function: f}},
				Done:   []store.Done{{Function: f, Key: "k", Until: time.Now().Add(time.Hour)}},
				Outbox: []store.Outgoing{{Seq: int64(f[0]), Function: f}},
			})
		}
		gone := store.Definitions{Remove: []edge.Removal{{Name: "f", Purge: purge}}}
		if err := s.Define(gone); err != nil {
			t.Fatal(err)
		}
		r, err := s.Recover()
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(len(r.Inbox), len(r.Timers), len(r.Done), len(r.Outbox), s.DeadCount("f").Letters, s.Usage("f").Keys, s.Usage("g").Keys)
		want := "2 1 1 2 1 1 1"
		if purge {
			want = "2 1 1 2 0 0 1"
		}
		if got != want {
			t.Errorf("purge %v: inbox, timers, dedupe, outbox, dead, state, neighbour's state are %s, want %s", purge, got, want)
		}
		if err := s.Define(gone); err != nil {
			t.Errorf("once more: %v", err)
		}
	}
}

func TestTheLastGoodRevisionStandsInForADamagedOne(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	put(t, s, define("f", "r1", true))
	if err := s.MarkGood("f", "r1"); err != nil {
		t.Fatal(err)
	}
	put(t, s, define("f", "r2", true))
	put(t, s, define("f", "r3", true))
	if err := s.MarkGood("f", "r2"); err != nil { // is not current any more
		t.Fatal(err)
	}
	put(t, s, define("g", "r1", true))
	closeStore()

	db, err := sqlite.Open(filepath.Join(dir, "node.db"), os.DirFS("schema"))
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *sqlite.Tx) error {
		_, err := tx.Exec(`UPDATE revisions SET body = replace(body, 'r3', 'rr') WHERE revision = 'r3'`)
		if err == nil {
			_, err = tx.Exec(`UPDATE revisions SET body = '{' WHERE name = 'g'`)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	rows, err := db.Read().Query(`SELECT name || ' ' || revision FROM revisions ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, line)
	}
	if want := []string{"f r1", "f r3", "g r1"}; !reflect.DeepEqual(kept, want) {
		t.Errorf("kept are %q, want %q", kept, want)
	}
	db.Close()

	s, _ = open(t, dir)
	if got, want := defined(t, s), "f=r1"; got != want {
		t.Errorf("Functions = %q, want %q: f as of r1, and no g", got, want)
	}
}
