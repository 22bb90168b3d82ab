package store_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/functions"
)

// openBy is open by the clock c.
func openBy(t *testing.T, c store.Clock, dir string) (s *store.Store, close func()) {
	t.Helper()
	s, err := store.OpenBy(c, dir, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }() // waited for by close
	return s, func() {
		stop()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			t.Error(err)
		}
	}
}

// showing is a clock that shows the same until somebody sets it.
func showing(boot string, since time.Duration, wall time.Time) store.Clock {
	return store.Clock{Boot: boot, Since: func() time.Duration { return since }, Wall: func() time.Time { return wall }}
}

func TestTheTimeBetweenTwoProcessesIsToldByTheClockThatCanBeTrusted(t *testing.T) {
	day := func(year int) time.Time { return time.Date(year, 6, 1, 12, 0, 0, 0, time.UTC) }
	const life = 10 * time.Hour
	tests := []struct {
		name         string
		boot         string // the second process's; the first one's is "this"
		before, then time.Time
		since        time.Duration // of the second; the first one's is an hour
		passed       time.Duration // that the store takes to have passed
	}{
		{"same boot", "this", day(2030), day(2030).Add(2 * time.Hour), 3 * time.Hour, 2 * time.Hour},
		{"same boot, the clock jumped ahead", "this", day(2030), day(2050), 3 * time.Hour, 2 * time.Hour},
		{"same boot, the clock fell back", "this", day(2030), day(1974), 3 * time.Hour, 2 * time.Hour},
		{"same boot, after a copy to where it began later", "this", day(2030), day(2030), time.Minute, 0},
		{"another boot, the wall clock holds", "that", day(2030), day(2030).Add(4 * time.Hour), time.Minute, 4 * time.Hour},
		{"another boot, the clock fell back a little", "that", day(2030), day(2029), time.Minute, 0},
		{"another boot, the clock is not set", "that", day(2030), day(1970), time.Minute, 0},
		{"another boot, the clock was not set", "that", day(1970), day(2030), time.Minute, 0},
		{"boots without names are never the same", "", day(2030), day(2030).Add(time.Hour), 9 * time.Hour, time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				first := "this"
				if tt.boot == "" {
					first = ""
				}
				s, closeStore := openBy(t, showing(first, time.Hour, tt.before), dir)
				mustWrite(t, s, functions.StateWrite{Op: functions.StateSet, Key: "k", Value: []byte("1"), TTL: life})
				mustCommit(t, s, store.Change{Done: []store.Done{{Function: "f", Key: "dk", Until: time.Now().Add(life)}}})
				closeStore()

				s, closeStore = openBy(t, showing(tt.boot, tt.since, tt.then), dir)
				defer closeStore()
				list, err := s.List("f", "", 10, "")
				if err != nil || len(list) != 1 {
					t.Fatalf("List = %v, %v; want one key", list, err)
				}
				if got, want := list[0].Expires.Sub(tt.then), life-tt.passed; got != want {
					t.Errorf("the key has %v left, want %v", got, want)
				}
				r, err := s.Recover()
				if err != nil || len(r.Done) != 1 {
					t.Fatalf("Recover = %v, %v; want one dedupe key", r.Done, err)
				}
				if got, want := time.Until(r.Done[0].Until), life-tt.passed; got != want {
					t.Errorf("the dedupe key has %v left, want %v", got, want)
				}
			})
		})
	}
}

// A store of before the mark has expiries by the wall clock.
func TestAStoreWithoutAMarkGoesByTheWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, at := t.TempDir(), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
		_, closeStore := openBy(t, showing("this", time.Hour, at), dir)
		closeStore() // wrote nothing, and so no mark
		s, closeStore := openBy(t, showing("that", time.Hour, at.Add(time.Hour)), dir)
		defer closeStore()
		mustWrite(t, s, functions.StateWrite{Op: functions.StateSet, Key: "k", Value: []byte("1"), TTL: time.Minute})
		list, err := s.List("f", "", 10, "")
		if want := at.Add(time.Hour + time.Minute); err != nil || len(list) != 1 || !list[0].Expires.Equal(want) {
			t.Errorf("List = %v, %v; want one key until %v", list, err, want)
		}
	})
}
