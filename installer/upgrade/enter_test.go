package upgrade_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/installer/upgrade"
)

// upgraded returns a machine whose program has come to be v1.1.0, confirmed.
func upgraded(t *testing.T, v vendor) (machine, upgrade.Slot) {
	t.Helper()
	skipEmulated(t)
	m := newMachine(t, v)
	offer, slot := v.release(t, "v1.1.0", wares[0].make(t, 0))
	var y tally
	m.revive(t, offer, &y).leave(t)
	if y.healthy.version != "v1.1.0" || y.starts != 1 {
		t.Fatalf("%v is healthy after %d starts, want v1.1.0 after one: %q", y.healthy, y.starts, y.said)
	}
	return m, slot
}

// runs checks which version runs when the machine's program is started.
func (m machine) runs(t *testing.T, want string) {
	t.Helper()
	var y tally
	m.revive(t, "", &y).leave(t)
	if y.healthy.version != want || y.starts != 1 || y.boots != 0 {
		t.Errorf("%v is healthy after %d starts, want %s after one: %q", y.healthy, y.starts, want, y.said)
	}
}

func TestTheProcessRemainsTheSame(t *testing.T) {
	m, slot := upgraded(t, newVendor(t))
	var y tally
	p := m.revive(t, "", &y)
	proc := fmt.Sprintf("/proc/%d/", p.cmd.Process.Pid)
	if got, err := os.Readlink(proc + "exe"); err != nil || got != m.file(slot) {
		t.Errorf("the process that was started is %s, %v, want %s", got, err, m.file(slot))
	}
	if got, err := os.ReadFile(proc + "cmdline"); err != nil || string(got) != m.installed+"\x00" {
		t.Errorf("its arguments are %q, %v, want those of %s", got, err, m.installed)
	}
	p.leave(t)
}

func TestAConfirmedVersionCostsNoWrite(t *testing.T) {
	m, _ := upgraded(t, newVendor(t))
	state := filepath.Join(m.data, "versions", "state.json")
	before, err := os.Stat(state)
	if err != nil {
		t.Fatal(err)
	}
	m.runs(t, "v1.1.0")
	after, err := os.Stat(state)
	if err != nil || !os.SameFile(before, after) || before.ModTime() != after.ModTime() {
		t.Errorf("the state was written: %v, %v, want %v", after, err, before)
	}
}

func TestANewerInstalledFileWins(t *testing.T) {
	v := newVendor(t)
	m, _ := upgraded(t, v)
	m.install(t, build{"v1.2.0", "good"})
	m.runs(t, "v1.2.0")
	m.install(t, build{"v1.0.0", "good"}) // taken back: what was there before is forgotten
	m.runs(t, "v1.0.0")
}

func TestADowngradeLastsUntilANewerFileIsInstalled(t *testing.T) {
	skipEmulated(t)
	v := newVendor(t)
	m := newMachine(t, v)
	m.install(t, build{"v1.2.0", "good"})
	offer, _ := v.release(t, "v1.1.0", wares[0].make(t, 0))
	var y tally
	m.revive(t, offer, &y).leave(t)
	m.runs(t, "v1.1.0")
	m.install(t, build{"v1.4.0", "good"})
	m.runs(t, "v1.4.0")
}

func TestAVersionWhoseStartCannotBeCountedIsNotStarted(t *testing.T) {
	skipEmulated(t)
	v := newVendor(t)
	m := newMachine(t, v)
	offer, _ := v.release(t, "v1.3.0", wares[2].make(t, 0))
	p := m.start(t, offer)
	for w, ok := p.next(); ok && w.what != "selected"; w, ok = p.next() {
	}
	p.kill()
	if err := os.MkdirAll(filepath.Join(m.data, "versions", "state.json.new", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range upgrade.MaxBoots + 1 {
		m.runs(t, "v1.0.0")
	}
}

func TestWhatWasGivenUpIsTold(t *testing.T) {
	v := newVendor(t)
	m, slot := upgraded(t, v)
	for _, c := range []struct {
		ware ware
		want string
	}{
		{wares[2], "started 3 times and never healthy"},
		{wares[4], "it says so"},
		{wares[5], "exec format error"},
	} {
		offer, failed := v.release(t, "v1.3.0", c.ware.make(t, 1))
		var y tally
		m.revive(t, offer, &y).leave(t)
		got := fmt.Sprint(m.report(t)["failed"])
		if y.healthy.version != slot.Version || !strings.Contains(got, c.want) || !strings.Contains(got, failed.Digest) {
			t.Errorf("%s: %v runs, and told is %s, want %q", c.ware.name, y.healthy, got, c.want)
		}
	}
}

// install puts another file where the machine's program is installed.
func (m *machine) install(t *testing.T, b build) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	text, err := os.ReadFile(built(t, b))
	if err == nil {
		err = os.WriteFile(file, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	m.installed, m.command = file, []string{file}
}
