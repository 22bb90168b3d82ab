package upgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Place is what [Enter] must know of the program that it is in.
type Place struct {
	Dir      string // of data
	Program  string // the name under which it is signed and kept
	Version  string // of this very file, as settings.Version tells it
	Platform string // of it, as [Platform] tells it
}

// Slots are the versions of a program on a node. The methods may be called from several
// goroutines.
type Slots struct {
	place     Place
	dir       string // of the versions
	running   string // digest of the slot that this is, or "": the installed file
	installed installed
	again     chan struct{} // something else is to run

	mu       sync.Mutex
	keys     string        // guarded by mu; the file of trusted keys, or "" for none
	settle   time.Duration // guarded by mu; that a version on trial must be healthy
	lock     *os.File      // guarded by mu; the folder of versions, or nil: there is none yet
	state    state         // guarded by mu
	fault    error         // guarded by mu; why the versions cannot be used, or nil
	written  error         // guarded by mu; why the state could not be read or written when it last was, or nil
	arriving *Arrival      // guarded by mu; or nil
}

// An installed is the file that the node's owner has put on the machine.
type installed struct {
	Path    string `json:"path"`
	Version string `json:"version"`
}

// A Report says how things stand with the versions.
type Report struct {
	Slot      *Slot    // that this is; nil: the installed file
	Trial     bool     // it still has to prove itself
	Installed string   // the version of the installed file
	Failed    *Failure // the last version that was given up, or nil
	Fault     error    // what is wrong with the folder of versions, or nil
}

// Platform returns what this program was built for, like linux/arm64 or linux/arm/6.
func Platform() string {
	p := runtime.GOOS + "/" + runtime.GOARCH
	info, ok := debug.ReadBuildInfo()
	if !ok || runtime.GOARCH != "arm" {
		return p
	}
	for _, s := range info.Settings {
		if s.Key == "GOARM" {
			level, _, _ := strings.Cut(s.Value, ",") // "7", or "7,softfloat"
			return p + "/" + level
		}
	}
	return p
}

// Trust says in which file the public keys are whose signatures count. It is read at
// each offer. Without one every offer is refused.
func (s *Slots) Trust(file string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = file
}

// Settle says for how long a version on trial must be healthy without a break:
// [SettleTime], unless this is called.
func (s *Slots) Settle(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle = d
}

// Report returns how things stand.
func (s *Slots) Report() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Report{Installed: s.installed.Version, Failed: s.state.Failed, Fault: errors.Join(s.fault, s.written), Trial: s.onTrialLocked()}
	r.Slot = s.slotLocked()
	return r
}

// slotLocked returns the slot that this is, or nil: the installed file, or one of which
// nothing is known any more.
func (s *Slots) slotLocked() *Slot {
	for _, slot := range []*Slot{s.state.Selected, s.state.Previous} {
		if slot != nil && slot.Digest == s.running {
			return slot
		}
	}
	return nil
}

// versionLocked returns the version that runs: as which it was signed.
func (s *Slots) versionLocked() string {
	if slot := s.slotLocked(); slot != nil {
		return slot.Version
	}
	return s.place.Version
}

// Select has the slot, which [Arrival.Finish] has returned, run from the next start on,
// by the order with which it was offered: it is on trial then, and must be as healthy as
// what is told of this version. [Slots.Run] returns for that start. A [*Refusal] says why it
// cannot be.
func (s *Slots) Select(slot Slot, order int64, was Health) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return refuse(RefusedUnusable, "%v", s.fault)
	}
	if err := slot.check(); err != nil {
		return refuse(RefusedMalformed, "%v", err)
	}
	if slot.Digest == s.running {
		return refuse(RefusedCurrent, "%s is what runs", slot.Version)
	}
	if info, err := os.Stat(s.file(slot)); err != nil || info.Size() != slot.Size {
		return refuse(RefusedMissing, "%s is not here whole", slot.Version)
	}
	if err := s.noteLocked(s.state.choose(slot, order, s.installed.Version, was.well())); err != nil {
		return fmt.Errorf("select %s: %w", slot.Version, err)
	}
	s.restart()
	return nil
}

// Revert has the version before this one run again, if this is the one with the digest,
// be it on trial or confirmed. [Slots.Run] returns for that.
func (s *Slots) Revert(digest string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == "" || s.running != digest || s.state.Selected == nil || s.state.Selected.Digest != digest {
		return nil // another one runs, or is to already
	}
	if err := s.noteLocked(s.state.revert()); err != nil {
		return fmt.Errorf("leave %s: %w", s.place.Version, err)
	}
	s.restart()
	return nil
}

// restart has Run return.
func (s *Slots) restart() {
	select {
	case s.again <- struct{}{}:
	default: // it will
	}
}

// Restart starts the program anew in this process, with what is to run now. It returns
// only if that fails: then the program is to end, for whoever watches over it to start
// it. Whatever the program had to bring to an end must be at an end.
func (s *Slots) Restart() error {
	err := syscall.Exec(s.installed.Path, os.Args, os.Environ())
	return fmt.Errorf("start %s: %w", s.installed.Path, err)
}

// file returns the path of a whole version.
func (s *Slots) file(slot Slot) string { return filepath.Join(s.dir, slot.folder(), s.place.Program) }

func (s *Slots) stateFile() string { return filepath.Join(s.dir, "state.json") }

// noteLocked makes st the state, first on disk. If that fails the state remains.
func (s *Slots) noteLocked(st state) error {
	if s.written = st.write(s.stateFile()); s.written != nil {
		return s.written
	}
	s.state = st
	return nil
}

// open reads the state, if there are versions at all, and keeps other processes out. A
// state that cannot be read is as none: the next one takes its place.
func (s *Slots) open() error {
	if s.place.Dir == "" {
		return errors.New("there is no data directory")
	}
	lock, err := os.Open(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("in use by another process")
		}
		return fmt.Errorf("%s: %w", s.dir, err)
	}
	s.lock = lock // for as long as the process lives
	s.state, s.written = readState(s.stateFile())
	return nil
}

// sweepLocked removes what is in the folder of versions and not needed.
func (s *Slots) sweepLocked() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	needed := map[string]bool{filepath.Base(s.stateFile()): true}
	slots := []*Slot{s.state.Selected, s.state.Previous}
	if s.arriving != nil {
		slots = append(slots, &s.arriving.slot)
	}
	for _, slot := range slots {
		if slot != nil {
			needed[slot.folder()] = true
		}
	}
	var errs []error
	for _, e := range entries {
		mine := s.running != "" && strings.HasSuffix(e.Name(), "-"+s.running[:16])
		if !needed[e.Name()] && !mine {
			errs = append(errs, os.RemoveAll(filepath.Join(s.dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// onTrialLocked reports whether this process is what the trial is of.
func (s *Slots) onTrialLocked() bool {
	return s.state.Trial != nil && s.state.Selected.Digest == s.running
}
