package upgrade

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// markVariable tells the program that it was started by Enter, and is not to look
// for another one. No child of it sees that.
const markVariable = "SEDGE_ENTERED"

// A mark is what the installed file tells the version that it becomes.
type mark struct {
	PID       int       `json:"pid"` // which an exec does not change: a mark that was inherited is none
	Digest    string    `json:"digest"`
	Installed installed `json:"installed"`
}

// Enter becomes the version that is selected, if that is not this one: then it does not
// return, and the program begins anew, in the same process, with the same arguments and
// environment. Call it before anything else, of signals above all, and only where the
// program does its work: each call counts as a start of a version on trial.
//
// It never fails. A version that is missing, damaged, not to be executed or at the end of
// its trial is given up for the one before it; and where nothing else can be had, or
// the data directory cannot be used, it returns, for this file to run.
func Enter(p Place) *Slots {
	s := &Slots{place: p, dir: filepath.Join(p.Dir, "versions"), again: make(chan struct{}, 1), settle: SettleTime}
	m, entered := takeMark()
	s.running, s.installed = m.Digest, m.Installed
	if !entered {
		self, err := os.Executable()
		s.installed, s.fault = installed{Path: self, Version: p.Version}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = errors.Join(s.fault, s.open())
	if !entered && s.fault == nil {
		s.enterLocked()
	}
	return s
}

// enterLocked goes on to the selected version; failing that to the one before it, and
// then back to the caller. What cannot be written down is known at least until then.
func (s *Slots) enterLocked() {
	for s.state.Selected != nil {
		slot := *s.state.Selected
		next, start := s.state.boot(s.installed.Version, time.Now())
		if start && next.Trial != nil {
			if err := s.noteLocked(next); err != nil { // it might be started for ever, uncounted
				s.state = next.giveUp("its start could not be counted: "+err.Error(), time.Now())
				continue
			}
		}
		if start {
			err := s.become(slot)
			next = next.giveUp(err.Error(), time.Now())
		}
		s.noteLocked(next) // told by Report if it fails, and decided alike at the next start
		s.state = next
	}
}

// become is the slot from here on. It returns only if that fails.
func (s *Slots) become(slot Slot) error {
	path := s.file(slot)
	if err := verify(path, slot); err != nil {
		return err
	}
	text, err := json.Marshal(mark{PID: os.Getpid(), Digest: slot.Digest, Installed: s.installed})
	if err != nil {
		return err
	}
	err = syscall.Exec(path, os.Args, append(os.Environ(), markVariable+"="+string(text)))
	if errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("execute %s: %w; is the file system mounted noexec?", path, err)
	}
	return fmt.Errorf("execute %s: %w", path, err)
}

// takeMark returns the mark of this process, and takes it out of the environment.
func takeMark() (m mark, ok bool) {
	text, ok := os.LookupEnv(markVariable)
	if !ok {
		return mark{}, false
	}
	os.Unsetenv(markVariable) // fails for no name that has been found
	if json.Unmarshal([]byte(text), &m) != nil || m.PID != os.Getpid() {
		return mark{}, false
	}
	if b, err := hex.DecodeString(m.Digest); err != nil || len(b) != 32 {
		return mark{}, false
	}
	return m, true
}
