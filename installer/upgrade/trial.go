package upgrade

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ErrRestart says that another version is to run: the program is to bring its work to an
// end and to call [Slots.Restart].
var ErrRestart = errors.New("another version is to run")

// lookTime is how often the health of a version on trial is looked at, unless it is to be
// healthy for less.
const lookTime = 5 * time.Second

// Health says of each thing that a program has to do with, such as its broker, its hub
// or a function, why it is not well, or "" if it is.
type Health map[string]string

// well returns what is well, as much of it as fits into a state.
func (h Health) well() (names []string) {
	size := 0
	for _, name := range slices.Sorted(maps.Keys(h)) {
		size += len(name) + 16 // with what JSON has around it
		if h[name] == "" && size <= maxNeeds {
			names = append(names, name)
		}
	}
	return names
}

// lacks returns what of needs is not well, and why. What is no longer there, such as a
// function that was removed, is needed no longer.
func (h Health) lacks(needs []string) string {
	var faults []string
	for _, name := range needs {
		if why := h[name]; why != "" {
			faults = append(faults, name+": "+why)
		}
	}
	return strings.Join(faults, "; ")
}

// Run waits until another version is to run, and returns [ErrRestart] then, or nil once
// ctx is done. Meanwhile, if this version is on trial, it looks at its health: after
// [Slots.Settle] without a lack it calls Healthy; after [TrialTime] it gives way to the one
// before it, in doubt the first time and for good the second. What was not well before
// this version need not be. A failure to write either down is tried again at the next look
// or start, and told by Report.
func (s *Slots) Run(ctx context.Context, health func() Health) error {
	needs, settle, trial := s.needs()
	if !trial {
		return s.wait(ctx, nil)
	}
	tick := time.NewTicker(min(lookTime, max(settle, time.Millisecond)))
	defer tick.Stop()
	begun := time.Now()
	var well time.Time // since when nothing is lacking, or zero
	for {
		if err := s.wait(ctx, tick.C); err != errLook {
			return err
		}
		lack := health().lacks(needs)
		switch {
		case lack != "":
			well = time.Time{}
		case well.IsZero():
			well = time.Now()
		}
		switch {
		case lack == "" && time.Since(well) >= settle:
			if s.Healthy() == nil {
				return s.wait(ctx, nil)
			}
		case time.Since(begun) >= TrialTime:
			if lack == "" {
				lack = "well only from time to time"
			}
			s.giveWay(fmt.Sprintf("not as healthy within %v as the version before: %s", TrialTime, lack), state.doubt) // has wait return
		}
	}
}

// errLook says that it is time to look at the health.
var errLook = errors.New("time to look")

func (s *Slots) wait(ctx context.Context, tick <-chan time.Time) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.again:
		return ErrRestart
	case <-tick:
		return errLook
	}
}

// needs returns what must be well, and for how long, if this version is on trial.
func (s *Slots) needs() (needs []string, settle time.Duration, trial bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.onTrialLocked() {
		return nil, 0, false
	}
	return s.state.Trial.Needs, s.settle, true
}

// Healthy ends the trial of this version, if it is on trial, for good: it is the one that
// runs, and the one before it is kept to go back to; older ones are removed.
func (s *Slots) Healthy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.onTrialLocked() {
		return nil
	}
	if err := s.noteLocked(s.state.confirm()); err != nil {
		return fmt.Errorf("confirm %s: %w", s.place.Version, err)
	}
	if err := s.sweepLocked(); err != nil {
		return fmt.Errorf("remove older versions: %w", err)
	}
	return nil
}

// Unhealthy ends the trial of this version, if it is on trial, with a failure for the
// reason given: the one before it is to run, and [Slots.Run] returns. If that cannot be
// written down, the next starts are still counted.
func (s *Slots) Unhealthy(why string) error { return s.giveWay(why, state.giveUp) }

// giveWay ends the trial with what as makes of the state.
func (s *Slots) giveWay(why string, as func(st state, why string, now time.Time) state) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.onTrialLocked() {
		return nil
	}
	defer s.restart()
	if err := s.noteLocked(as(s.state, why, time.Now())); err != nil {
		return fmt.Errorf("give up %s: %w", s.place.Version, err)
	}
	return nil
}
