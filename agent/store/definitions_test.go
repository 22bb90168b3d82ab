package store_test

import (
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

func TestDefinitionsAreKeptWithTheirPosition(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	a, b := define("a", "a1", true), define("b", "b1", false)
	b.Origin = edge.FromCluster
	if err := s.SetFunctions([]edge.Definition{define("old", "o1", true), a}, edge.Position{Epoch: "e", Revision: 1}); err != nil {
		t.Fatal(err)
	}
	at := edge.Position{Epoch: "e", Revision: 2}
	if err := s.SetFunctions([]edge.Definition{b, a}, at); err != nil {
		t.Fatal(err)
	}
	closeStore()
	s, _ = open(t, dir)
	if got, err := s.Functions(); err != nil || !reflect.DeepEqual(got, []edge.Definition{a, b}) {
		t.Errorf("Functions = %+v, %v, want a and b", got, err)
	}
	if got, err := s.Position(); err != nil || got != at {
		t.Errorf("Position = %v, %v, want %v", got, err, at)
	}
}

func TestADeletedFunctionTakesWhatWaitsForItAlong(t *testing.T) {
	for _, purge := range []bool{false, true} {
		s, _ := open(t, t.TempDir())
		if err := s.PutFunction(define("f", "r1", true), edge.Position{}); err != nil {
			t.Fatal(err)
		}
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
		if n, err := s.DeleteFunction("f", purge, edge.Position{Revision: 9}); err != nil || n != 2 {
			t.Errorf("DeleteFunction = %d, %v, want 2 discarded", n, err)
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
		if n, err := s.DeleteFunction("f", purge, edge.Position{}); err != nil || n != 0 {
			t.Errorf("once more: %d, %v", n, err)
		}
	}
}

func TestTheLastGoodRevisionStandsInForADamagedOne(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	put := func(d edge.Definition) {
		t.Helper()
		if err := s.PutFunction(d, edge.Position{}); err != nil {
			t.Fatal(err)
		}
	}
	put(define("f", "r1", true))
	if err := s.MarkGood("f", "r1"); err != nil {
		t.Fatal(err)
	}
	put(define("f", "r2", true))
	put(define("f", "r3", true))
	if err := s.MarkGood("f", "r2"); err != nil { // is not current any more
		t.Fatal(err)
	}
	put(define("g", "r1", true))
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
	if got, err := s.Functions(); err != nil || !reflect.DeepEqual(got, []edge.Definition{define("f", "r1", true)}) {
		t.Errorf("Functions = %+v, %v, want f as of r1, and no g", got, err)
	}
}
