package store_test

import (
	"errors"
	"testing"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/functions"
)

func set(key, value string) functions.StateWrite {
	return functions.StateWrite{Op: functions.StateSet, Key: key, Value: []byte(value)}
}

func TestAConflictVoidsOnlyItsOwnChange(t *testing.T) {
	s, _ := open(t, t.TempDir())
	mustCommit(t, s, store.Change{State: &store.StateChange{Function: "f", Writes: []functions.StateWrite{set("k", "1")}}})
	_, version, err := s.Get("f", "k")
	if err != nil {
		t.Fatal(err)
	}
	write := func(value string) *store.Change {
		return &store.Change{
			State: &store.StateChange{Function: "f", Reads: map[string]int64{"k": version}, Writes: []functions.StateWrite{set("k", value)}},
			Drop:  []int64{1},
		}
	}
	errs := make(chan error, 3)
	for _, c := range []*store.Change{write("2"), write("3"), {State: &store.StateChange{Function: "f", Writes: []functions.StateWrite{set("other", "4")}}}} {
		s.Commit(c, func(err error) { errs <- err })
	}
	for i, want := range []error{nil, store.ErrConflict, nil} {
		if got := <-errs; !errors.Is(got, want) {
			t.Errorf("change %d: %v, want %v", i, got, want)
		}
	}
	for key, want := range map[string]string{"k": "2", "other": "4"} {
		if got, _, _ := s.Get("f", key); string(got) != want {
			t.Errorf("Get(%s) = %s, want %s", key, got, want)
		}
	}
}
