package fleet_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/fleet"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

// ten deploys functions f0 to f9; those that are even only on nodes at home.
func (h *hub) ten() {
	h.t.Helper()
	for i := range 10 {
		nodes := map[string]string{"site": "home"}
		if i%2 == 1 {
			nodes = nil
		}
		h.deploy(function(h.t, fmt.Sprintf("f%d", i), "1", nodes))
	}
}

func TestTheImpactOfAChangeIsToldBeforeItIsMade(t *testing.T) {
	h := newHub(t)
	h.ten()
	hall, s := h.joined("hall", map[string]string{"site": "home"})
	h.joined("shop", map[string]string{"site": "shop"})
	h.inStep(hall, h.position())
	s.leave() // who is away counts too
	moved := function(t, "f1", "2", map[string]string{"site": "nowhere"})
	for _, tt := range []struct {
		what   string
		change fleet.Change
		want   edge.Impact
	}{
		{"one function", fleet.Change{Delete: []string{"f0"}}, edge.Impact{Nodes: 1, Removed: 1, Worst: "hall", Loses: 1, Has: 10, Deleted: 1, Functions: 10}},
		{"three of ten", fleet.Change{Delete: []string{"f0", "f2", "f4"}}, edge.Impact{Nodes: 1, Removed: 3, Worst: "hall", Loses: 3, Has: 10, Deleted: 3, Functions: 10}},
		{"three of five", fleet.Change{Delete: []string{"f1", "f3", "f5"}}, edge.Impact{Nodes: 2, Removed: 6, Worst: "shop", Loses: 3, Has: 5, Confirm: true, Deleted: 3, Functions: 10}},
		{"four of the hub's ten", fleet.Change{Delete: []string{"x1", "x2", "x3", "x4"}}, edge.Impact{Confirm: true, Deleted: 4, Functions: 10}},
		{"placed elsewhere", fleet.Change{Place: &moved}, edge.Impact{Nodes: 2, Removed: 2, Worst: "shop", Loses: 1, Has: 5}},
		{"other labels", fleet.Change{Node: hall.id()}, edge.Impact{Nodes: 1, Removed: 5, Worst: "hall", Loses: 5, Has: 10, Confirm: true}},
		{"the same labels", fleet.Change{Node: hall.id(), Labels: map[string]string{"site": "home"}}, edge.Impact{}},
	} {
		want(t, "impact of "+tt.what, h.Impact(tt.change), tt.want)
	}
}

func TestANodeLosesAllByItsLabelsOnlyIfThatIsConfirmed(t *testing.T) {
	h := newHub(t)
	for name, site := range map[string]string{"lamp": "yard", "bell": "yard", "pump": "shed"} {
		h.deploy(function(t, name, "1", map[string]string{"site": site}))
	}
	yard, _ := h.joined("yard", map[string]string{"site": "yard"})
	shed, _ := h.joined("shed", map[string]string{"site": "shed"})
	h.inStep(yard, h.position())
	h.inStep(shed, h.position())
	want(t, "impact of a label that goes", h.Impact(fleet.Change{Node: yard.id()}), edge.Impact{Nodes: 1, Removed: 2, Worst: "yard", Loses: 2, Has: 2, Confirm: true})
	want(t, "impact of one with a single function", h.Impact(fleet.Change{Node: shed.id()}), edge.Impact{Nodes: 1, Removed: 1, Worst: "shed", Loses: 1, Has: 1})
	if _, err := h.ledger.SetLabels(yard.id(), nil, false, ada); err != nil {
		t.Fatal(err)
	}
	if err := h.WaitAt(t.Context(), yard.id(), h.position()); code(err) != edge.Conflict || !strings.Contains(err.Error(), "2 of 2") {
		t.Errorf("WaitAt = %v, want that the node refuses", err)
	}
	want(t, "functions that the node has kept", len(yard.has), 2)
}

func TestANodeLosesMuchOnlyByWhatWasConfirmed(t *testing.T) {
	h := newHub(t)
	h.ten()
	m, s := h.joined("hall", map[string]string{"site": "home"})
	h.inStep(m, h.position())
	relabel := func(site string, confirmed bool) edge.Position {
		if _, err := h.ledger.SetLabels(m.id(), map[string]string{"site": site}, confirmed, ada); err != nil {
			t.Fatal(err)
		}
		return h.position()
	}
	at := relabel("shop", false)
	if err := h.WaitAt(t.Context(), m.id(), at); code(err) != edge.Conflict || !strings.Contains(err.Error(), "5 of 10") {
		t.Errorf("WaitAt = %v, want that the node refuses", err)
	}
	want(t, "functions that the node has kept", len(m.has), 10)
	h.inStep(m, relabel("home", true))
	h.inStep(m, relabel("shop", true))
	want(t, "functions that the node has", len(m.has), 5)

	s.leave() // what happens while it is away counts as a whole
	relabel("home", true)
	for i := range 5 {
		if _, err := h.ledger.Delete(fmt.Sprintf("f%d", 2*i+1), ledger.Intent{By: "ada", Confirmed: i != 2}); err != nil {
			t.Fatal(err)
		}
	}
	m.connect(h)
	h.until("the node refuses", func() bool { return h.node("hall").Refusal != nil })
	want(t, "reason", h.node("hall").Refusal.Reason, edge.RefusedEmptying)
}

func TestWhoDeletesOneFunctionAfterTheOtherIsAskedToo(t *testing.T) {
	h := newHub(t)
	h.ten()
	hall, _ := h.joined("hall", map[string]string{"site": "home"})
	h.joined("shop", map[string]string{"site": "shop"})
	h.inStep(hall, h.position())
	impact := func(name string) edge.Impact { return h.Impact(fleet.Change{Delete: []string{name}}) }
	remove := func(name string) {
		if _, err := h.ledger.Delete(name, ledger.Intent{By: "ada", Confirmed: true}); err != nil {
			t.Fatal(err)
		}
		if err := h.WaitFor(t.Context(), h.position()); err != nil {
			t.Fatal(err)
		}
	}
	want(t, "impact of the first", impact("f1"), edge.Impact{Nodes: 2, Removed: 2, Worst: "shop", Loses: 1, Has: 5, Deleted: 1, Functions: 10})
	remove("f1")
	want(t, "impact of the second", impact("f3"), edge.Impact{Nodes: 2, Removed: 4, Worst: "shop", Loses: 2, Has: 5, Deleted: 2, Functions: 10})
	remove("f3")
	third := edge.Impact{Nodes: 2, Removed: 6, Worst: "shop", Loses: 3, Has: 5, Deleted: 3, Functions: 10, Confirm: true}
	want(t, "impact of the third", impact("f5"), third)

	h.deploy(function(t, "f3", "2", map[string]string{"site": "home"})) // moved, as it is seen from the shop
	h.inStep(hall, h.position())
	third.Removed, third.Deleted = 5, 2
	want(t, "impact after one is back elsewhere", impact("f5"), third)

	h.Confirmed()
	want(t, "impact once an operator knows", impact("f5"), edge.Impact{Nodes: 2, Removed: 2, Worst: "shop", Loses: 1, Has: 3, Deleted: 1, Functions: 9})
	remove("f5")
	remove("f7")
	last := edge.Impact{Nodes: 2, Removed: 6, Worst: "shop", Loses: 3, Has: 3, Deleted: 3, Functions: 9, Confirm: true}
	want(t, "impact of the last of a node", impact("f9"), last)
}

// restore ends the hub and starts it from the files in backup.
func (h *hub) restore(backup string) *hub {
	h.t.Helper()
	h.end()
	dir := h.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(backup)); err != nil {
		h.t.Fatal(err)
	}
	return start(h.t, dir, h.key, loopback(h.t))
}

func TestAHubRestoredFromAnOldBackupUndoesNothingUntilAnOperatorSaysSo(t *testing.T) {
	h := newHub(t)
	old := function(t, "lamp", "1", nil)
	h.deploy(old)
	m, _ := h.joined("hall", nil)
	h.inStep(m, h.position())
	h.end()
	backup := t.TempDir()
	if err := os.CopyFS(backup, os.DirFS(h.dir)); err != nil {
		t.Fatal(err)
	}
	h = start(t, h.dir, h.key, loopback(t))
	m.connect(h)
	lost, bell := function(t, "lamp", "2", nil), function(t, "bell", "1", nil)
	h.deploy(lost)
	h.inStep(m, h.deploy(bell).At)

	h = h.restore(backup)
	if err := h.Behind(); err != nil {
		t.Errorf("before anybody has come: %v", err)
	}
	m.counter += 10
	m.connect(h)
	h.until("the hub notices", func() bool { return h.Behind() != nil })
	h.until("the node has refused", func() bool { return h.node("hall").Refusal != nil })
	r := h.node("hall").Refusal
	if r.Reason != edge.RefusedBackward || !strings.Contains(r.Why, "accept-epoch") {
		t.Errorf("refusal = %+v, want what to do about it", r)
	}
	if c := h.Check(); !strings.Contains(c.Why, "old backup") {
		t.Errorf("Check = %+v", c)
	}
	for i := range 5 { // the hub's position passes that of the node
		h.deploy(function(t, "other", fmt.Sprint(i), nil))
	}
	witness, _ := h.joined("attic", nil)
	h.inStep(witness, h.position())
	m.runs(lost, bell)

	at, err := h.AcceptEpoch(ada)
	if err != nil {
		t.Fatal(err)
	}
	h.inStep(m, at)
	m.runs(old, function(t, "other", "4", nil))
	if err := h.Behind(); err != nil {
		t.Errorf("after the epoch was given up: %v", err)
	}
}

func TestANodeOfAnotherHubComesOverOnlyIfAnOperatorSaysSo(t *testing.T) {
	h := newHub(t)
	theirs, ours := function(t, "bell", "1", nil), function(t, "lamp", "1", nil)
	h.deploy(ours)
	m := newMachine(t, "hall", nil)
	m.join = h.token(edge.Token{})
	refs := []edge.Ref{{Name: "bell", Revision: theirs.Revision, Enabled: true}}
	m.replica = edge.NewReplica(edge.Synced{At: edge.Position{Epoch: "elsewhere", Revision: 7, Digest: edge.Digest(refs)}, Functions: refs}, edge.Policy{})
	m.has = map[string]functions.Revision{"bell": theirs.Revision}
	m.connect(h)
	h.until("the node has refused", func() bool { return h.node("hall").Refusal != nil })
	want(t, "reason", h.node("hall").Refusal.Reason, edge.RefusedEpoch)
	m.runs(theirs)
	at, err := h.AcceptEpoch(ada)
	if err != nil {
		t.Fatal(err)
	}
	h.inStep(m, at)
	m.runs(ours)
}

func TestAllTogetherFetchNoFasterThanTheyMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t, t.TempDir(), newKey(t), piped(), func(c *fleet.Config) { c.Bandwidth = edge.ChunkSize })
		m, _ := h.joined("hall", nil)
		began := time.Now()
		large := function(t, "lamp", strings.Repeat("x", 10*edge.ChunkSize), nil)
		h.inStep(m, h.deploy(large).At)
		m.runs(large)
		if took := time.Since(began); took < 8*time.Second || took > 12*time.Second {
			t.Errorf("eleven chunks took %v at one a second", took)
		}
	})
}
