package fleet_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/link"
)

// refused dials and returns what the hub says.
func refused(t *testing.T, h *hub, m *machine) edge.Verdict {
	t.Helper()
	conn, v, err := m.dial(h)
	if err == nil {
		conn.Close("")
		t.Fatalf("%s is admitted", m.name)
	}
	if _, ok := errors.AsType[*link.Refused](err); !ok {
		t.Fatalf("Dial = %v, want a refusal", err)
	}
	return v
}

func TestOfManyNodesWithOneTokenOneJoins(t *testing.T) {
	h := newHub(t)
	join := h.token(edge.Token{Labels: map[string]string{"site": "home"}})
	var in atomic.Int32
	var coming sync.WaitGroup
	for range 50 {
		m := newMachine(t, "node-"+strings.ToLower(rand.Text()), nil)
		m.join = join
		coming.Go(func() {
			if conn, _, err := m.dial(h); err == nil {
				in.Add(1)
				m.stay(conn)
			}
		})
	}
	coming.Wait()
	want(t, "nodes that joined", in.Load(), 1)
	h.until("it is known", func() bool { return len(h.Nodes(all)) == 1 })
	want(t, "its labels", h.Nodes(all)[0].Labels, map[string]string{"site": "home"})
}

func TestWhyANodeIsRefusedIsInTheAuditAlone(t *testing.T) {
	h := newHub(t)
	h.joined("hall", nil)
	used := h.token(edge.Token{})
	once := newMachine(t, "once", nil)
	once.join = used
	once.connect(h)

	stranger, wrong, late, twin, odd := newMachine(t, "a", nil), newMachine(t, "b", nil), newMachine(t, "c", nil), newMachine(t, "hall", nil), newMachine(t, "../x", nil)
	wrong.join = &edge.Join{Token: h.token(edge.Token{}).Token, Secret: []byte("guess")}
	late.join = used
	twin.join, odd.join = h.token(edge.Token{}), h.token(edge.Token{})
	var told []string
	for _, m := range []*machine{stranger, wrong, late, twin, odd} {
		v := refused(t, h, m)
		told = append(told, string(v.Code)+" "+v.Message)
	}
	if slices.Sort(told); len(slices.Compact(told)) != 1 {
		t.Errorf("nodes are told different things: %q", told)
	}
	why := strings.Join(h.audited("join.refused"), "\n")
	for _, part := range []string{"no join token", "secret is wrong", "used up", "hall is the name of node", "no name of a node"} {
		if !strings.Contains(why, part) {
			t.Errorf("the audit does not say %q:\n%s", part, why)
		}
	}
}

func TestAStrangerCannotFillTheAudit(t *testing.T) {
	h := newHub(t)
	m := newMachine(t, "stranger", nil)
	for range 60 {
		refused(t, h, m)
	}
	if n := len(h.audited("join.refused")); n < 1 || n > 50 {
		t.Errorf("60 dials led to %d notes", n)
	}
}

func TestANodeThatWaitsGetsNothingUntilItIsApproved(t *testing.T) {
	h := newHub(t)
	f := function(t, "lamp", "1", nil)
	h.deploy(f)
	m := newMachine(t, "hall", nil)
	m.join = h.token(edge.Token{Approval: true})
	for range 2 { // it comes again with the same token
		if v := refused(t, h, m); !v.Waiting || v.Retry <= 0 {
			t.Fatalf("verdict = %+v, want that it waits and comes again", v)
		}
	}
	if _, err := h.ledger.Approve(m.id(), ada); err != nil {
		t.Fatal(err)
	}
	m.connect(h) // at once, before the hub may have read of it
	h.inStep(m, h.position())
	m.runs(f)
}

func TestARevokedNodeIsOutAtOnce(t *testing.T) {
	h := newHub(t)
	m, s := h.joined("hall", nil)
	if _, err := h.ledger.Revoke(m.id(), "stolen", ada); err != nil {
		t.Fatal(err)
	}
	if why := s.ended(t); !strings.Contains(why, "not admitted") {
		t.Errorf("the session ended with %q", why)
	}
	if v := refused(t, h, m); v.Waiting {
		t.Error("the node may come again")
	}
	if _, err := h.On("hall"); err == nil {
		t.Error("a revoked node can be asked")
	}
	want(t, "standing", h.node("hall").Standing, edge.Revoked)
}

func TestTwoMachinesWithOneKeyAreFencedAndBothAreNamed(t *testing.T) {
	h := newHub(t)
	m, s := h.joined("hall", nil)
	clone := newMachine(t, "hall", nil)
	clone.key, clone.counter = m.key, m.counter-1 // the card was copied before the last dial
	if v := refused(t, h, clone); !v.Waiting {
		t.Errorf("the second machine is told %+v, want that an operator has to approve it", v)
	}
	if why := s.ended(t); !strings.Contains(why, "two machines") {
		t.Errorf("the session that stood ended with %q", why)
	}
	refused(t, h, m)
	h.until("it is fenced", func() bool { return h.node("hall").Standing == edge.Fenced })
	if why := h.node("hall").Why; strings.Count(why, "127.0.0.1") != 2 {
		t.Errorf("Why = %q, want where both came from", why)
	}
	if _, err := h.ledger.Approve(m.id(), ada); err != nil {
		t.Fatal(err)
	}
	m.connect(h)
}

func TestALaterSessionTakesThePlaceOfAnEarlierOne(t *testing.T) {
	h := newHub(t)
	f := function(t, "lamp", "1", nil)
	h.deploy(f)
	m, first := h.joined("hall", nil)
	second := m.connect(h)
	if why := first.ended(t); !strings.Contains(why, "another session") {
		t.Errorf("the earlier session ended with %q", why)
	}
	h.inStep(m, h.position())
	m.runs(f)
	want(t, "connected", h.node("hall").Connected, true)
	second.leave()
	h.until("it is away", func() bool { return !h.node("hall").Connected })
}
