package upgrade_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/installer/upgrade"
)

// straced returns the machine with a program that is started under strace.
func straced(t *testing.T, m machine, args ...string) machine {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace is missing: make test installs it")
	}
	m.command = append(append([]string{strace, "-f", "-qq"}, args...), m.installed)
	return m
}

// TestChaosAnUpgradeKilledAtAnyOfItsCallsNeverLeavesNothingThatWorks ends the program
// just before each call by which it changes something, one after another.
func TestChaosAnUpgradeKilledAtAnyOfItsCallsNeverLeavesNothingThatWorks(t *testing.T) {
	skipEmulated(t)
	calls, offered := []string{"fsync", "renameat", "execve"}, wares[:1]
	if *cycles > 20 {
		calls, offered = append(calls, "openat", "mkdirat", "pwrite64", "fchmod", "flock", "write"), []ware{wares[0], wares[2]}
	}
	v := newVendor(t)
	for i, w := range offered {
		offer, _ := v.release(t, w.build.version, w.make(t, 1000+i))
		for _, call := range calls {
			n := 1
			for ; killedAt(t, v, w, offer, call, n); n++ {
				if n > 100 {
					t.Fatalf("%s: the program does not come to an end of its %s calls", w.name, call)
				}
			}
			if n == 1 {
				t.Errorf("%s: never killed at %s", w.name, call)
			}
			t.Logf("%s: killed at each of %d calls of %s", w.name, n-1, call)
		}
	}
}

// killedAt has a new machine take the offer, killed at the nth call; false: there were
// fewer. In either case a version that works runs in the end.
func killedAt(t *testing.T, v vendor, w ware, offer, call string, n int) bool {
	t.Helper()
	m := newMachine(t, v)
	traced := straced(t, m, "-o", os.DevNull, "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n))
	var y tally
	done := false
	for ended := 3; ended == 3 && !done; { // as a version that crashes does
		p := traced.start(t, offer)
		if done = y.hear(p); done {
			p.leave(t)
		}
		ended = p.cmd.ProcessState.ExitCode()
	}
	m.revive(t, "", &y).leave(t)
	if got := y.healthy; got.behaviour != "good" || got.version != "v1.0.0" && got.version != w.build.version {
		t.Errorf("%s, killed at %s %d: %v is healthy: %q", w.name, call, n, got, y.said)
	}
	m.revive(t, offer, &y).leave(t)
	want := "v1.0.0"
	if w.works {
		want = w.build.version
	}
	if y.healthy.version != want || y.boots > upgrade.MaxBoots {
		t.Errorf("%s, killed at %s %d: %v is healthy after %d boots of it, want %s: %q", w.name, call, n, y.healthy, y.boots, want, y.said)
	}
	return !done
}

// A power cut takes what was not synced. What is renamed into place must be synced before,
// and its folder before anything builds on it: the next start above all.
func TestNothingBuildsOnWhatAPowerCutWouldTake(t *testing.T) {
	skipEmulated(t)
	v := newVendor(t)
	trace := filepath.Join(t.TempDir(), "trace")
	m := straced(t, newMachine(t, v), "-y", "-o", trace, "-e", "trace=write,pwrite64,fchmod,fsync,renameat,execve")
	offer, slot := v.release(t, "v1.1.0", wares[0].make(t, 2000))
	var y tally
	p := m.start(t, offer)
	if !y.hear(p) {
		t.Fatalf("the program ended: %q, %s", y.said, &p.err)
	}
	p.leave(t)
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var renamed []string
	unsynced := map[string]bool{} // files and folders
	for _, line := range strings.Split(string(text), "\n") {
		switch call := callOf.FindStringSubmatch(line); {
		case call == nil:
		case call[1] == "fsync":
			delete(unsynced, call[2])
		case call[1] == "execve":
			for path := range unsynced {
				t.Errorf("not synced before the exec: %s", path)
			}
		case strings.HasPrefix(call[2], m.data):
			unsynced[call[2]] = true
		}
		if names := renameOf.FindStringSubmatch(line); names != nil {
			if unsynced[names[1]] {
				t.Errorf("renamed before it was synced: %s", names[1])
			}
			unsynced[filepath.Dir(names[2])] = true
			renamed = append(renamed, names[2])
		}
	}
	state := filepath.Join(m.data, "versions", "state.json")
	want := fmt.Sprint([]string{m.file(slot), state, state, state}) // it has come, is selected, counted, confirmed
	if got := fmt.Sprint(renamed); got != want {
		t.Errorf("renamed %s, want %s", got, want)
	}
}

var (
	callOf   = regexp.MustCompile(`(write|pwrite64|fchmod|fsync|execve)\((?:\d+<([^>]*)>)?`)
	renameOf = regexp.MustCompile(`renameat\([^"]*"([^"]*)", [^"]*"([^"]*)"`)
)
