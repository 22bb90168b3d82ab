package upgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/installer/upgrade"
)

// became returns the slots of this process as if Enter had made it the slot, which is on
// trial, and needs a broker and a lamp.
func became(t *testing.T, dir string, v vendor) (s *upgrade.Slots, slot upgrade.Slot) {
	t.Helper()
	slot = finished(t, enter(t, dir, v), v, "v1.3.0", upgrade.Health{"broker": "", "lamp": "", "heater": "broken for ever"})
	return enteredAs(t, dir, v, slot), slot
}

// finished has a version arrive and selects it. The slots are let go of.
func finished(t *testing.T, s *upgrade.Slots, v vendor, version string, was upgrade.Health) upgrade.Slot {
	t.Helper()
	content := []byte("program " + version)
	a := arrival(t, s, v.offer(t, version, content))
	if err := a.Write(a.Offset(), content[a.Offset():]); err != nil {
		t.Fatal(err)
	}
	slot, err := a.Finish()
	if err == nil {
		err = s.Select(slot, 1, was)
	}
	if err != nil {
		t.Fatal(err)
	}
	upgrade.Leave(s)
	return slot
}

// enteredAs marks this process as Enter does.
func enteredAs(t *testing.T, dir string, v vendor, slot upgrade.Slot) *upgrade.Slots {
	t.Helper()
	mark := fmt.Sprintf(`{"pid":%d,"digest":%q,"installed":{"path":"/nowhere","version":"v1.0.0"}}`, os.Getpid(), slot.Digest)
	t.Setenv("SEDGE_ENTERED", mark)
	s := enter(t, dir, v)
	if _, ok := os.LookupEnv("SEDGE_ENTERED"); ok {
		t.Error("a child would see the mark")
	}
	t.Cleanup(func() { upgrade.Leave(s) })
	return s
}

func TestAVersionThatIsWellForAMinuteIsConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, dir := newVendor(t), t.TempDir()
		s, slot := became(t, dir, v)
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		begun := time.Now()
		go func() { // awaited below
			ran <- s.Run(ctx, func() upgrade.Health {
				if time.Since(begun) < 2*time.Minute {
					return upgrade.Health{"broker": "not connected yet"}
				}
				return upgrade.Health{"broker": "", "heater": "broken for ever", "new": "broken, too"} // and the lamp was removed
			})
		}()
		time.Sleep(2*time.Minute + upgrade.SettleTime - time.Second)
		synctest.Wait()
		if !s.Report().Trial {
			t.Error("it was confirmed before it was well for a minute")
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if r := s.Report(); r.Trial || r.Slot == nil || *r.Slot != slot || r.Failed != nil {
			t.Errorf("after a minute: %+v, want it confirmed", r)
		}
		stop()
		if err := <-ran; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
}

func TestAVersionThatIsNotAsWellAsTheOneBeforeIsTriedTwiceAndGivenUp(t *testing.T) {
	v, dir := newVendor(t), t.TempDir()
	const why = "not as healthy within 10m0s as the version before: lamp: load failed"
	offer := v.offer(t, "v1.3.0", []byte("program v1.3.0"))
	offer.Order = 1
	for _, doubt := range []bool{true, false} {
		var s *upgrade.Slots
		var slot upgrade.Slot
		synctest.Test(t, func(t *testing.T) {
			s, slot = became(t, dir, v)
			begun := time.Now()
			err := s.Run(t.Context(), func() upgrade.Health { return upgrade.Health{"broker": "", "lamp": "load failed"} })
			if !errors.Is(err, upgrade.ErrRestart) || time.Since(begun) != upgrade.TrialTime {
				t.Errorf("Run = %v after %v, want ErrRestart after %v", err, time.Since(begun), upgrade.TrialTime)
			}
		})
		if f := s.Report().Failed; f == nil || f.Slot != slot || f.Order != 1 || f.Why != why || f.Doubt != doubt {
			t.Errorf("given up: %+v, want order 1, %q, in doubt: %v", f, why, doubt)
		}
		upgrade.Leave(s)
		s = enter(t, dir, v) // no version is selected: this is the installed file again
		if a, err := s.Offer(offer); doubt && (err != nil || a.Offset() != offer.Size) {
			t.Errorf("the second time Offer = %v, want one that is whole already", err)
		} else if !doubt {
			refused(t, err, upgrade.RefusedFailed)
		}
		upgrade.Leave(s)
	}
	s := enter(t, dir, v)
	offer.Order = 2
	if a := arrival(t, s, offer); a.Offset() != offer.Size {
		t.Errorf("what an operator wants again goes on at %d, want %d", a.Offset(), offer.Size)
	}
}

func TestAVersionThatIsTakenBackMakesRoomForTheOneBeforeIt(t *testing.T) {
	for name, confirmed := range map[string]bool{"confirmed": true, "on trial": false} {
		t.Run(name, func(t *testing.T) {
			v, dir := newVendor(t), t.TempDir()
			before := finished(t, enter(t, dir, v), v, "v1.2.5", nil)
			s := enteredAs(t, dir, v, before)
			if err := s.Healthy(); err != nil {
				t.Fatal(err)
			}
			slot := finished(t, s, v, "v1.3.0", nil)
			s = enteredAs(t, dir, v, slot)
			if confirmed {
				if err := s.Healthy(); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Revert(before.Digest); err != nil || s.Report().Slot == nil || *s.Report().Slot != slot {
				t.Errorf("Revert of another version = %v, and %+v", err, s.Report().Slot)
			}
			if err := s.Revert(slot.Digest); err != nil {
				t.Fatal(err)
			}
			if err := s.Run(t.Context(), nil); !errors.Is(err, upgrade.ErrRestart) {
				t.Errorf("Run = %v, want ErrRestart", err)
			}
			if f := s.Report().Failed; f != nil {
				t.Errorf("it is held against the version: %+v", f)
			}
			if got := upgrade.Next(s); got == nil || *got != before {
				t.Errorf("next is %+v, want %+v", got, before)
			}
		})
	}
}

func TestAConfirmedVersionKeepsOneBeforeIt(t *testing.T) {
	v, dir := newVendor(t), t.TempDir()
	s := enter(t, dir, v)
	for n, version := range []string{"v1.3.0", "v1.4.0", "v1.5.0"} {
		slot := finished(t, s, v, version, nil)
		s = enteredAs(t, dir, v, slot)
		if err := s.Healthy(); err != nil {
			t.Fatal(err)
		}
		if err := s.Healthy(); err != nil { // says so again
			t.Fatal(err)
		}
		folders, err := filepath.Glob(filepath.Join(dir, "versions", "v*"))
		if want := min(n+1, 2); err != nil || len(folders) != want {
			t.Errorf("after %s there are %q, want %d", version, folders, want)
		}
	}
}

func TestADamagedStateIsAsNone(t *testing.T) {
	v, dir := newVendor(t), t.TempDir()
	finished(t, enter(t, dir, v), v, "v1.3.0", nil)
	if err := os.WriteFile(filepath.Join(dir, "versions", "state.json"), []byte(`{"selected":`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := upgrade.Enter(upgrade.Place{Dir: dir, Program: "program", Version: "v1.2.0", Platform: upgrade.Platform()})
	s.Trust(v.file)
	if s.Report().Fault == nil {
		t.Error("nobody is told of the damage")
	}
	finished(t, s, v, "v1.4.0", nil)
	text, err := os.ReadFile(filepath.Join(dir, "versions", "state.json"))
	var st map[string]any
	if err == nil {
		err = json.Unmarshal(text, &st)
	}
	if err != nil || s.Report().Fault != nil {
		t.Errorf("after the next selection: %v, %v, want a state", err, s.Report().Fault)
	}
}

func TestAProgramWithoutADataDirectoryRuns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", file, "/proc/none"} {
		s := upgrade.Enter(upgrade.Place{Dir: dir, Program: "program", Version: "v1.2.0", Platform: upgrade.Platform()})
		if err := errors.Join(s.Healthy(), s.Unhealthy("so")); err != nil {
			t.Error(err)
		}
		v := newVendor(t)
		s.Trust(v.file)
		if _, err := s.Offer(v.offer(t, "v1.3.0", []byte("one"))); err == nil {
			t.Errorf("in %q a version could be taken", dir)
		}
	}
}
