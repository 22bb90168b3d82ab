package upgrade

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// Limits of a trial.
const (
	MaxBoots   = 3                // of a version that never was healthy
	TrialTime  = 10 * time.Minute // of one of its runs
	SettleTime = time.Minute      // that it must be healthy without a break
)

// Limits of the state, bytes.
const (
	maxState = 1 << 20
	maxNeeds = 128 << 10 // of the names in a trial
	maxWhy   = 1 << 10   // of a reason

	maxVersion = 64 // of the name of a version
)

// A Slot is a version that came from elsewhere.
type Slot struct {
	Version string `json:"version"` // like v1.4.0
	Digest  string `json:"digest"`  // SHA-256, hexadecimal
	Size    int64  `json:"size"`    // bytes
}

// check returns what is wrong with a slot: it names a folder, and may come from anywhere.
func (s Slot) check() error {
	digest, err := hex.DecodeString(s.Digest)
	switch {
	case !semver.IsValid(s.Version) || len(s.Version) > maxVersion:
		return fmt.Errorf("%.80q is no version like v1.4.0", s.Version)
	case err != nil || len(digest) != 32 || strings.ToLower(s.Digest) != s.Digest:
		return fmt.Errorf("%.80q is no SHA-256 in hexadecimal digits", s.Digest)
	case s.Size <= 0 || s.Size > MaxSize:
		return fmt.Errorf("%d bytes, a program has 1 to %d", s.Size, MaxSize)
	}
	return nil
}

// folder returns the name of the folder that the slot has for itself.
func (s Slot) folder() string { return s.Version + "-" + s.Digest[:16] }

// A Failure is a version that was given up.
type Failure struct {
	Slot  Slot      `json:"slot"`
	Order int64     `json:"order,omitempty"` // by which it was selected; 0 if it had been confirmed since
	Why   string    `json:"why"`
	Doubt bool      `json:"doubt,omitempty"` // it was not as healthy as the one before it, once: it may be tried a second time
	Time  time.Time `json:"time"`            // by a clock that may not have been set
}

// A trial is what is known of a selected version that has not been healthy yet.
type trial struct {
	Boots int      `json:"boots"`
	Order int64    `json:"order,omitempty"`
	Needs []string `json:"needs,omitempty"` // what was well before it, see Health
}

// A state says what is to run. It is read by the installed program also when a newer one
// wrote it: a field is only ever added, and must be one that can be passed over.
type state struct {
	Selected  *Slot    `json:"selected,omitempty"`  // nil: the installed file
	Trial     *trial   `json:"trial,omitempty"`     // of Selected; nil: it is confirmed
	Previous  *Slot    `json:"previous,omitempty"`  // confirmed, to go back to; nil: the installed file
	Installed string   `json:"installed,omitempty"` // the version that the installed file had at the selection
	Failed    *Failure `json:"failed,omitempty"`    // the last version that was given up
}

// choose returns the state in which slot is on trial. A version that is itself still on
// trial is nothing to go back to.
func (st state) choose(slot Slot, order int64, installed string, needs []string) state {
	if st.Selected != nil && st.Trial == nil {
		st.Previous = st.Selected
	}
	if st.Previous != nil && st.Previous.Digest == slot.Digest {
		st.Previous = nil
	}
	st.Selected, st.Trial, st.Installed = &slot, &trial{Order: order, Needs: needs}, installed
	return st
}

// boot decides about the next start of Selected: whether it is to be started, in
// the state that is to be kept before that, or what has become of it.
func (st state) boot(installed string, now time.Time) (next state, start bool) {
	switch {
	case installed != st.Installed && semver.Compare(installed, st.Selected.Version) > 0:
		return state{Failed: st.Failed}, false // somebody has installed a newer one since
	case st.Trial == nil:
		return st, true
	case st.Trial.Boots >= MaxBoots:
		return st.giveUp(fmt.Sprintf("started %d times and never healthy", st.Trial.Boots), now), false
	}
	t := *st.Trial
	t.Boots++
	st.Trial = &t
	return st, true
}

// giveUp returns the state in which the one before Selected is to run.
func (st state) giveUp(why string, now time.Time) state {
	if len(why) > maxWhy {
		why = strings.ToValidUTF8(why[:maxWhy], "") + "…"
	}
	f := &Failure{Slot: *st.Selected, Why: why, Time: now.UTC().Truncate(time.Second)}
	if st.Trial != nil {
		f.Order = st.Trial.Order
	}
	next := st.revert()
	next.Failed = f
	return next
}

// doubt returns the state of giveUp for a version that was not as healthy as the one
// before it: the first time it may have been the world, and it may come again.
func (st state) doubt(why string, now time.Time) state {
	next, was := st.giveUp(why, now), st.Failed
	f := next.Failed
	f.Doubt = was == nil || !was.Doubt || was.Slot != f.Slot || was.Order != f.Order
	return next
}

// revert returns the state in which the one before Selected is to run, without a word
// against that.
func (st state) revert() state {
	return state{Selected: st.Previous, Installed: st.Installed, Failed: st.Failed}
}

// confirm returns the state in which Selected is on trial no more.
func (st state) confirm() state {
	st.Trial = nil
	return st
}

// readState reads the state, which is empty if there is none.
func readState(path string) (state, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return state{}, err
	}
	st, err := parseState(data)
	if err != nil {
		return state{}, fmt.Errorf("%s: %w", path, err)
	}
	return st, nil
}

func parseState(data []byte) (st state, err error) {
	if len(data) > maxState {
		return state{}, fmt.Errorf("more than %d bytes", maxState)
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return state{}, err
	}
	for _, s := range []*Slot{st.Selected, st.Previous} {
		if s == nil {
			continue
		}
		if err := s.check(); err != nil {
			return state{}, err
		}
	}
	switch {
	case st.Trial != nil && st.Selected == nil:
		return state{}, errors.New("a trial of nothing")
	case st.Trial != nil && st.Trial.Boots < 0:
		return state{}, fmt.Errorf("%d boots", st.Trial.Boots)
	}
	return st, nil
}

func (st state) write(path string) error {
	data, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	return replace(path, append(data, '\n'))
}

// replace writes a file so that, whenever the machine stops, the old one or the new one
// is there. Whoever calls it is the only one to.
func replace(path string, data []byte) error {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
