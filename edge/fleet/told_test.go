package fleet_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sedge-iot/sedge/edge"
)

func TestWhatANodeReportsIsKeptAndToldTogether(t *testing.T) {
	h := newHub(t)
	f := function(t, "lamp", "1", nil)
	h.deploy(f)
	m, _ := h.joined("hall", nil)
	h.inStep(m, h.position())
	m.tell(&edge.Report{
		Functions: []edge.FunctionReport{{Name: "lamp", Revision: f.Revision, Phase: edge.Running, Runs: 3}, {Name: "bell", Phase: edge.Failing}},
		Faults:    []edge.Check{{Name: "broker", Why: "not connected"}},
		Away:      &edge.Away{Since: time.Unix(1, 0).UTC(), Runs: 7, Boots: 2},
	})
	h.until("the first report is kept", func() bool { return len(h.node("hall").Functions) == 2 })
	m.tell(&edge.Report{
		Functions: []edge.FunctionReport{{Name: "lamp", Revision: f.Revision, Phase: edge.Failing, Error: strings.Repeat("x", 100_000)}},
		Gone:      []string{"bell"},
		Faults:    []edge.Check{{Name: "broker", OK: true}},
	})
	h.until("the second report is kept", func() bool { return len(h.node("hall").Functions) == 1 })
	d := h.node("hall")
	if got := d.Functions[0]; got.Phase != edge.Failing || len(got.Error) > 600 {
		t.Errorf("the report kept is %s, with %d bytes of an error", got.Phase, len(got.Error))
	}
	want(t, "faults", d.Faults, "[]")
	want(t, "boots while away", d.Away.Boots, 2)
	want(t, "spread", h.Spread(all)["lamp"], edge.Spread{Placed: 1, Connected: 1, Current: 1, Failing: 1})

	m.tell(&edge.At{At: m.replica.Synced().At, Unfit: []edge.Unfit{{Name: "lamp", Revision: f.Revision, Error: &edge.Error{Message: "no room"}}}})
	h.until("that it is unfit is kept", func() bool { return len(h.node("hall").Unfit) == 1 })
	want(t, "spread", h.Spread(all)["lamp"], edge.Spread{Placed: 1, Connected: 1, Unfit: 1, Failing: 1})

	// As a node says it that has given a revision up, and was started again since.
	m.tell(&edge.Report{Functions: []edge.FunctionReport{{Name: "lamp", Revision: "old", Phase: edge.Running, Bad: f.Revision}}})
	h.until("that it was given up is kept", func() bool { return len(h.node("hall").Unfit) == 0 })
	want(t, "spread", h.Spread(all)["lamp"], edge.Spread{Placed: 1, Connected: 1, Current: 1, GivenUp: 1})
}

func TestANodeThatTellsTooMuchFillsNothing(t *testing.T) {
	h := newHub(t)
	m, _ := h.joined("hall", nil)
	for i := range 40 {
		var r edge.Report
		for j := range 100 {
			r.Functions = append(r.Functions, edge.FunctionReport{Name: fmt.Sprintf("f-%d-%d", i, j)})
			r.Faults = append(r.Faults, edge.Check{Name: fmt.Sprintf("c-%d-%d", i, j), Why: "x"})
		}
		m.tell(&r)
	}
	m.tell(&edge.Report{Away: &edge.Away{Boots: 1}})
	h.until("all is told", func() bool { return h.node("hall").Away != nil })
	if d := h.node("hall"); len(d.Functions) > edge.MaxFunctions || len(d.Faults) > 100 {
		t.Errorf("%d reports and %d faults are kept", len(d.Functions), len(d.Faults))
	}
}

func TestANodeThatDoesNotStopTalkingIsOut(t *testing.T) {
	h := newHub(t)
	m, s := h.joined("hall", nil)
	go func() { // ends with the session
		for s.conn.Send([]byte(`{"kind":"at","body":{}}`)) == nil {
			m.tell(&edge.Report{})
		}
	}()
	if why := s.ended(t); !strings.Contains(why, "messages a second") && !strings.Contains(why, "slowly") {
		t.Errorf("the session ended with %q", why)
	}
}

func TestMessagesThatAreNoneEndTheSessionAndNewKindsDoNot(t *testing.T) {
	h := newHub(t)
	m, s := h.joined("hall", nil)
	s.conn.Send([]byte(`{"kind":"weather","body":{}}`))
	m.tell(&edge.Report{Away: &edge.Away{Boots: 1}})
	h.until("what came after a new kind is heard", func() bool { return h.node("hall").Away != nil })
	s.conn.Send([]byte(`{"kind":`))
	s.ended(t)
	s = m.connect(h)
	m.tell(&edge.Whole{})
	if why := s.ended(t); !strings.Contains(why, "does not say whole") {
		t.Errorf("the session ended with %q", why)
	}
	got := gathered(t, h)
	want(t, "unknown messages", got["sedge_fleet_bad_messages_total unknown"], 1)
	want(t, "malformed messages", got["sedge_fleet_bad_messages_total malformed"], 2)
}

func TestARefusalIsKeptAndAuditedUntilTheNodeTakesIt(t *testing.T) {
	h := newHub(t)
	m := newMachine(t, "hall", nil)
	m.join = h.token(edge.Token{})
	held := "it is winter"
	m.replica = edge.NewReplica(edge.Synced{}, edge.Policy{Held: func() string { return held }})
	at := h.deploy(function(t, "lamp", "1", nil)).At
	m.connect(h)
	h.until("it is kept", func() bool { return h.node("hall").Refusal != nil })
	want(t, "reason", h.node("hall").Refusal.Reason, edge.RefusedHeld)
	want(t, "spread, of which nobody waits for the held one", h.Spread(all)["lamp"], edge.Spread{Placed: 1, Connected: 1})
	if err := h.WaitAt(t.Context(), m.id(), at); code(err) != edge.Conflict || !strings.Contains(err.Error(), "winter") {
		t.Errorf("WaitAt = %v, want the reason", err)
	}
	h.until("it is in the audit", func() bool { return len(h.audited("sync.refused")) > 0 })
	why := fmt.Sprint(h.audited("sync.refused"))
	if !strings.Contains(why, "held") || !strings.Contains(why, "winter") {
		t.Errorf("the audit says %s", why)
	}
	m.mu.Lock()
	held = ""
	m.mu.Unlock()
	next := function(t, "lamp", "2", nil)
	h.inStep(m, h.deploy(next).At)
	if r := h.node("hall").Refusal; r != nil {
		t.Errorf("the refusal stays: %+v", r)
	}
}

func TestWhereNodesAreOutlivesTheHub(t *testing.T) {
	h := newHub(t)
	h.deploy(function(t, "lamp", "1", nil))
	m, _ := h.joined("hall", nil)
	h.inStep(m, h.position())
	h = h.restarted()
	d := h.node("hall")
	if d.Connected || d.At != m.replica.Synced().At || time.Since(d.Seen) > time.Hour {
		t.Errorf("after a restart the hub knows %+v", d.Node)
	}
	want(t, "spread", h.Spread(all)["lamp"], edge.Spread{Placed: 1, Current: 1})
}

func TestTheFirstToTryOnIsConnectedAndFits(t *testing.T) {
	h := newHub(t)
	f := function(t, "lamp", "1", map[string]string{"site": "home"})
	if r := h.First(f, all); r != nil {
		t.Errorf("First = %s of no nodes", r.Name())
	}
	h.joined("a", map[string]string{"site": "shop"})
	_, away := h.joined("b", map[string]string{"site": "home"})
	cordoned, _ := h.joined("c", map[string]string{"site": "home"})
	h.joined("d", map[string]string{"site": "home"})
	away.leave()
	if _, err := h.ledger.Cordon(cordoned.id(), true, ada); err != nil {
		t.Fatal(err)
	}
	h.until("b is away and c cordoned", func() bool { return !h.node("b").Connected && h.node("c").Cordoned })
	r := h.First(f, all)
	if r == nil || r.Name() != "d" {
		t.Errorf("First = %+v, want d", r)
	}
}

// gathered returns the fleet's metrics, by name and labels.
func gathered(t *testing.T, h *hub) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(h.Fleet)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return got
}

func TestTheFleetIsMeasured(t *testing.T) {
	h := newHub(t)
	h.deploy(function(t, "lamp", "1", nil))
	m, _ := h.joined("hall", nil)
	h.inStep(m, h.position())
	waits := newMachine(t, "attic", nil)
	waits.join = h.token(edge.Token{Approval: true})
	refused(t, h, waits)
	h.until("who waits is known", func() bool { _, err := h.Node("attic"); return err == nil })
	got := gathered(t, h)
	for name, n := range map[string]float64{
		"sedge_fleet_connected_nodes": 1, "sedge_fleet_nodes member": 1, "sedge_fleet_nodes waiting": 1,
		"sedge_fleet_nodes_in_step": 1, "sedge_fleet_position": float64(h.position().Revision),
	} {
		want(t, name, got[name], n)
	}
	if got["sedge_fleet_messages_total in"] < 2 || got["sedge_fleet_messages_total out"] < 1 {
		t.Errorf("messages are not counted: %v", got)
	}
}
