package store_test

import (
	"errors"
	"reflect"
	"sync"
	"testing"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
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
