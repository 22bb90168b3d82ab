package store_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

func ids(t testing.TB, s *store.Store, function string, after int64, limit int) (ids []int64) {
	t.Helper()
	letters, err := s.DeadLetters(function, after, limit)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range letters {
		ids = append(ids, d.ID)
	}
	return ids
}

func TestDeadLettersAreListedByFunctionAndNumber(t *testing.T) {
	s, _ := open(t, t.TempDir())
	for _, f := range []string{"f", "g", "f", "f"} {
		mustCommit(t, s, store.Change{Dead: []store.DeadLetter{{Function: f, Event: anEvent(1)}}})
	}
	mustCommit(t, s, store.Change{Undead: []int64{4, 99}, Dead: []store.DeadLetter{{Function: "f"}}})
	for _, tt := range []struct {
		function string
		after    int64
		limit    int
		want     []int64
	}{
		{"f", 0, 10, []int64{1, 3, 5}}, {"f", 1, 1, []int64{3}}, {"g", 0, 10, []int64{2}}, {"", 1, 2, []int64{2, 3}}, {"h", 0, 10, nil},
	} {
		if got := ids(t, s, tt.function, tt.after, tt.limit); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("DeadLetters(%q, %d, %d) = %v, want %v", tt.function, tt.after, tt.limit, got, tt.want)
		}
	}
	if _, err := s.DeadLetter(4); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("DeadLetter(4) = %v, want %v", err, store.ErrNotFound)
	}
	if d, err := s.DeadLetter(5); err != nil || d.Function != "f" {
		t.Errorf("DeadLetter(5) = %+v, %v", d, err)
	}
}

func TestADeadLetterTakesItsEventFromTheInbox(t *testing.T) {
	s, _ := open(t, t.TempDir())
	mustCommit(t, s, store.Change{Store: []store.Delivery{{Seq: 7, Function: "f", Event: anEvent(7), Size: 17}}})
	mustCommit(t, s, store.Change{Dead: []store.DeadLetter{{Function: "f", Seq: 7, InInbox: true}}, Drop: []int64{7}})
	d, err := s.DeadLetter(1)
	if err != nil || !reflect.DeepEqual(d.Event, anEvent(7)) {
		t.Errorf("event %+v, %v; want that of the inbox", d.Event, err)
	}
	if got := s.DeadCount("f").Bytes; got != 17 {
		t.Errorf("%d bytes are counted, want 17", got)
	}
}

func TestTheOldestDeadLettersMakeRoom(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	var wg sync.WaitGroup
	bury := func(d store.DeadLetter) {
		wg.Add(1)
		s.Commit(&store.Change{Dead: []store.DeadLetter{d}}, func(err error) {
			if err != nil {
				t.Error(err)
			}
			wg.Done()
		})
	}
	for range store.MaxDeadLetters + 50 {
		bury(store.DeadLetter{Function: "many"})
	}
	for range 20 {
		bury(store.DeadLetter{Function: "large", Event: devices.Event{Payload: make([]byte, 1<<20)}})
	}
	wg.Wait()
	if got, want := s.DeadCount("many"), (store.DeadCount{Letters: 1000, Discarded: 50}); got != want {
		t.Errorf("many: %+v, want %+v", got, want)
	}
	if got, want := s.DeadCount("large"), (store.DeadCount{Letters: 16, Bytes: 16 << 20, Discarded: 4}); got != want {
		t.Errorf("large: %+v, want %+v", got, want)
	}
	if got := ids(t, s, "many", 0, 1); !reflect.DeepEqual(got, []int64{51}) {
		t.Errorf("the oldest is %v, want 51", got)
	}
	closeStore()
	s, _ = open(t, dir)
	if got, want := s.DeadCount("many"), (store.DeadCount{Letters: 1000}); got != want {
		t.Errorf("after a restart: %+v, want %+v", got, want)
	}
}

func TestARepeatedPacketIsKnownWhileItsSessionLasts(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	session, err := s.Session(true)
	if err != nil || session == "" {
		t.Fatalf("Session = %q, %v", session, err)
	}
	id := store.Identity{Session: session, PacketID: 5, Digest: 1}
	mustCommit(t, s, store.Change{Done: []store.Done{{Function: "f", Identity: id}}})
	knows := func(s *store.Store, function string, id store.Identity) bool {
		t.Helper()
		done, err := s.WasDone(function, id)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	other := func(change func(*store.Identity)) store.Identity {
		o := id
		change(&o)
		return o
	}
	for name, tt := range map[string]struct {
		function string
		id       store.Identity
		want     bool
	}{
		"same":           {"f", id, true},
		"other function": {"g", id, false},
		"other digest":   {"f", other(func(i *store.Identity) { i.Digest = 2 }), false},
		"other packet":   {"f", other(func(i *store.Identity) { i.PacketID = 6 }), false},
		"other session":  {"f", other(func(i *store.Identity) { i.Session = "x" }), false},
		"none":           {"f", store.Identity{}, false},
	} {
		if got := knows(s, tt.function, tt.id); got != tt.want {
			t.Errorf("%s: WasDone = %v, want %v", name, got, tt.want)
		}
	}
	closeStore()
	s, _ = open(t, dir)
	if kept, err := s.Session(true); err != nil || kept != session || !knows(s, "f", id) {
		t.Errorf("a kept session is %q, %v; want %q and what was done known", kept, err, session)
	}
	if lost, err := s.Session(false); err != nil || lost == session || knows(s, "f", id) {
		t.Errorf("a lost session is %q, %v; want another than %q and nothing known", lost, err, session)
	}
}

func TestATimerIsCancelledOnlyIfItIsStillTheSame(t *testing.T) {
	s, _ := open(t, t.TempDir())
	key := store.TimerKey{Function: "f", Kind: store.TimerAfter, Key: "off"}
	timers := func() int {
		t.Helper()
		r, err := s.Recover()
		if err != nil {
			t.Fatal(err)
		}
		return len(r.Timers)
	}
	mustCommit(t, s, store.Change{Timers: []store.Timer{{TimerKey: key, Due: time.Now(), Event: anEvent(1)}}})
	mustCommit(t, s, store.Change{Timers: []store.Timer{{TimerKey: key, Due: time.Now(), Event: anEvent(2)}}})
	mustCommit(t, s, store.Change{Cancel: []store.TimerEnd{{TimerKey: key, Event: "e1"}}})
	if got := timers(); got != 1 {
		t.Errorf("%d timers, want the one that replaced the cancelled one", got)
	}
	mustCommit(t, s, store.Change{Cancel: []store.TimerEnd{{TimerKey: key, Event: "e2"}}})
	if got := timers(); got != 0 {
		t.Errorf("%d timers, want none", got)
	}
}

func TestTriggersRemember(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	if got, err := s.LoadGate("f"); err != nil || got != nil {
		t.Errorf("LoadGate = %s, %v, want nothing", got, err)
	}
	for _, memory := range []string{`{"a":1}`, `{"a":2}`} {
		if err := s.SaveGate("f", []byte(memory)); err != nil {
			t.Fatal(err)
		}
	}
	closeStore()
	s, _ = open(t, dir)
	if got, err := s.LoadGate("f"); err != nil || string(got) != `{"a":2}` {
		t.Errorf("LoadGate = %s, %v, want a: 2", got, err)
	}
}

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
