package store_test

import (
	"testing"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
)

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
