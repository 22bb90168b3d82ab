package fleet_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/rollout"
)

const arm64 = "linux/arm64"

// upgrade keeps a version, and begins an upgrade of all nodes to it.
func (h *hub) upgrade(version string, ask edge.UpgradeAsk) edge.UpgradeRollout {
	h.t.Helper()
	h.release(version)
	ask.Version = version
	u, err := rollout.BeginUpgrade(ask)
	if err == nil {
		u, err = h.ledger.BeginUpgrade(ada, u)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return u
}

func (h *hub) release(version string) edge.Release {
	h.t.Helper()
	r := edge.Release{Version: version, Platform: arm64, Digest: "digest of " + version, Size: edge.ChunkSize + 3}
	if err := h.ledger.PutRelease(ada, r, bytes.NewReader(make([]byte, r.Size))); err != nil {
		h.t.Fatal(err)
	}
	return r
}

// newest returns the newest upgrade.
func (h *hub) newest() edge.UpgradeRollout {
	h.t.Helper()
	v, _, err := h.ledger.Versions(h.t.Context(), -1)
	if err != nil {
		h.t.Fatal(err)
	}
	return v.Upgrades[0]
}

// becomes waits until the newest upgrade is in a state for a reason.
func (h *hub) becomes(state edge.RolloutState, why string) {
	h.t.Helper()
	h.until(fmt.Sprintf("it is %s, %q", state, why), func() bool {
		u := h.newest()
		return u.State == state && strings.Contains(u.Why, why)
	})
}

// program has a machine say what it runs.
func (m *machine) program(p edge.UpgradeReport) {
	p.Platform = arm64
	m.tell(&edge.Report{Upgrade: &p})
}

// orders returns what a machine was told of versions.
func (m *machine) orders() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return orders(m.said)
}

// orders returns what was said of versions: each, or with a - before it if it is to be left.
func orders(said []edge.Message) (list []string) {
	for _, m := range said {
		if u, ok := m.(*edge.Upgrade); ok && u.Leave {
			list = append(list, "-"+u.Version)
		} else if ok {
			list = append(list, u.Version)
		}
	}
	return list
}

// ordered waits until a machine was told exactly these.
func (m *machine) ordered(want ...string) {
	m.t.Helper()
	m.until(fmt.Sprintf("it is told %q", want), func() bool { return slices.Equal(orders(m.said), want) })
}

func TestAVersionReachesNodesStageByStage(t *testing.T) {
	t.Parallel() // most of it waits
	h := newHub(t)
	nodes := map[string]*machine{}
	for _, name := range []string{"hall", "yard"} {
		m, _ := h.joined(name, nil)
		m.program(edge.UpgradeReport{Version: "v1.0.0"})
		nodes[m.id()] = m
	}
	u := h.upgrade("v2.0.0", edge.UpgradeAsk{Stages: []edge.Stage{{Count: 1}}})
	h.until("the canary is chosen", func() bool { return len(h.newest().Nodes) == 1 })
	canary := nodes[h.newest().Nodes[0]]
	canary.ordered("v2.0.0")
	canary.program(edge.UpgradeReport{Version: "v2.0.0", Digest: "digest of v2.0.0", Trial: true})
	h.becomes(edge.Rolling, "on trial")
	for id, m := range nodes {
		if id != canary.id() && len(m.orders()) > 0 {
			t.Errorf("the second node was told %q while the canary is on trial", m.orders())
		}
	}
	canary.program(edge.UpgradeReport{Version: "v2.0.0", Digest: "digest of v2.0.0"})
	for id, m := range nodes {
		if id != canary.id() {
			m.ordered("v2.0.0")
			m.program(edge.UpgradeReport{Version: "v2.0.0", Digest: "digest of v2.0.0"})
		}
	}
	h.becomes(edge.Completed, "")
	want(t, "steps in the audit", len(h.audited("upgrade.stage")), 1)
	late, _ := h.joined("late", nil)
	late.program(edge.UpgradeReport{Version: "v1.0.0"})
	late.ordered("v2.0.0") // who comes later gets it, too
	newer, _ := h.joined("newer", nil)
	newer.program(edge.UpgradeReport{Version: "v3.0.0"})
	h.upgrade("v2.0.1", edge.UpgradeAsk{})
	late.ordered("v2.0.0", "v2.0.1")
	if got := newer.orders(); len(got) > 0 {
		t.Errorf("a node with a newer version was told %q", got)
	}
	want(t, "number", u.ID, int64(1))
}

func TestWhatANodeGaveUpIsTakenBackFromTheOthers(t *testing.T) {
	t.Parallel() // most of it waits
	h := newHub(t)
	hall, _ := h.joined("hall", nil)
	yard, _ := h.joined("yard", nil)
	for _, m := range []*machine{hall, yard} {
		m.program(edge.UpgradeReport{Version: "v1.0.0"})
	}
	u := h.upgrade("v2.0.0", edge.UpgradeAsk{})
	hall.ordered("v2.0.0")
	yard.ordered("v2.0.0")
	hall.program(edge.UpgradeReport{Version: "v2.0.0", Digest: "digest of v2.0.0"})
	yard.program(edge.UpgradeReport{Version: "v1.0.0", Failed: &edge.UpgradeFailure{Order: u.ID - 1, Version: "v2.0.0", Why: "of another time"}})
	h.becomes(edge.Rolling, "waits for 1 of 2 nodes")
	yard.program(edge.UpgradeReport{Version: "v1.0.0", Failed: &edge.UpgradeFailure{Order: u.ID, Version: "v2.0.0", Why: "it crashed"}})
	h.becomes(edge.RolledBack, "yard gave it up: it crashed")
	hall.ordered("v2.0.0", "-v2.0.0")
	yard.ordered("v2.0.0", "-v2.0.0") // which may be fetching it again
	hall.program(edge.UpgradeReport{Version: "v1.0.0"})
	h.upgrade("v2.0.1", edge.UpgradeAsk{Selector: "kubernetes.io/hostname=hall"})
	hall.ordered("v2.0.0", "-v2.0.0", "v2.0.1")
	yard.ordered("v2.0.0", "-v2.0.0")
}

func TestAnUpgradeWaitsForNodesThatCannotAndNotForThoseThatAreAway(t *testing.T) {
	t.Parallel() // most of it waits
	h := newHub(t)
	hall, _ := h.joined("hall", nil)
	_, away := h.joined("yard", nil)
	away.leave()
	h.until("yard is away", func() bool { return !h.node("yard").Connected })
	hall.program(edge.UpgradeReport{Version: "v1.0.0"})
	u := h.upgrade("v2.0.0", edge.UpgradeAsk{})
	hall.ordered("v2.0.0")
	hall.program(edge.UpgradeReport{Version: "v1.0.0", Refused: &edge.UpgradeRefusal{Order: u.ID, Version: "v2.0.0", Why: "no trusted key"}})
	h.becomes(edge.Rolling, "hall (no trusted key)")
	if p := h.node("hall").Program; p == nil || p.Refused == nil || p.Refused.Why != "no trusted key" {
		t.Errorf("the node says %+v", p)
	}
	if _, err := h.SteerUpgrade(u.ID, ada, func(r edge.Rollout, by string, _ time.Time) (edge.Rollout, error) { return rollout.Pause(r, by) }); err != nil {
		t.Fatal(err)
	}
	hall.program(edge.UpgradeReport{Version: "v2.0.0"})
	if _, err := h.SteerUpgrade(u.ID, ada, rollout.Resume); err != nil {
		t.Fatal(err)
	}
	h.becomes(edge.Completed, "")
	if _, err := h.SteerUpgrade(u.ID, ada, rollout.Abort); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("abort what is over = %v", err)
	}
}

func TestACordonedNodeKeepsItsVersion(t *testing.T) {
	h := newHub(t)
	hall, _ := h.joined("hall", nil)
	yard, _ := h.joined("yard", nil)
	for _, m := range []*machine{hall, yard} {
		m.program(edge.UpgradeReport{Version: "v1.0.0"})
	}
	if _, err := h.ledger.Cordon(yard.id(), true, ada); err != nil {
		t.Fatal(err)
	}
	h.Changed()
	h.until("yard is cordoned", func() bool { return h.node("yard").Cordoned })
	h.upgrade("v2.0.0", edge.UpgradeAsk{})
	hall.ordered("v2.0.0")
	hall.program(edge.UpgradeReport{Version: "v2.0.0"})
	h.becomes(edge.Completed, "")
	if got := yard.orders(); len(got) > 0 {
		t.Errorf("a cordoned node was told %q", got)
	}
}

func TestAReleaseIsFetchedInPieces(t *testing.T) {
	h := newHub(t)
	m, _ := h.joined("hall", nil)
	r := h.release("v2.0.0")
	for _, c := range []struct {
		digest  string
		at, len int64
	}{{r.Digest, 0, edge.ChunkSize}, {r.Digest, edge.ChunkSize, 3}, {r.Digest, 5, edge.ChunkSize - 5}, {r.Digest, r.Size, 0}, {r.Digest, -1, 0}, {"another", 0, 0}} {
		m.tell(&edge.UpgradeFetch{Digest: c.digest, Offset: c.at})
		m.until(fmt.Sprintf("the piece of %q at %d comes", c.digest, c.at), func() bool {
			return slices.ContainsFunc(m.said, func(said edge.Message) bool {
				piece, ok := said.(*edge.UpgradeChunk)
				return ok && piece.Digest == c.digest && piece.Offset == c.at && int64(len(piece.Data)) == c.len
			})
		})
	}
}

func TestAnUpgradeGoesOnOverReplicas(t *testing.T) {
	t.Parallel() // most of it waits
	hubs := replicas(t, 2)
	hall, _ := hubs[0].joined("hall", nil)
	yard, _ := hubs[1].joined("yard", nil)
	for _, m := range []*machine{hall, yard} {
		m.program(edge.UpgradeReport{Version: "v1.0.0"})
	}
	hubs[0].knows("yard", true)
	hubs[1].knows("hall", true)
	hubs[1].upgrade("v2.0.0", edge.UpgradeAsk{})
	for _, m := range []*machine{hall, yard} {
		m.ordered("v2.0.0")
		m.program(edge.UpgradeReport{Version: "v2.0.0", Digest: "digest of v2.0.0"})
	}
	hubs[0].becomes(edge.Completed, "")
	hubs[1].becomes(edge.Completed, "")
}
