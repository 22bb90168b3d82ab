package fleet_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/selector"
	"github.com/sedge-iot/sedge/functions"
)

func TestANodeGetsWhatIsPlacedOnIt(t *testing.T) {
	h := newHub(t)
	home := function(t, "lamp", "home", map[string]string{"site": "home"})
	named := function(t, "bell", "named", map[string]string{functions.HostLabel: "attic"})
	all := function(t, "clock", "all", nil)
	spare := "spare"
	h.deploy(home)
	h.deploy(named)
	h.deploy(all)
	h.deploy(function(t, "test", "spare", nil), ledger.Intent{By: "ada", Selector: &spare})
	hall, _ := h.joined("hall", map[string]string{"site": "home"})
	attic, _ := h.joined("attic", map[string]string{"site": "home"})
	shop, _ := h.joined("shop", map[string]string{"site": "shop"})
	at := h.position()
	for _, m := range []*machine{hall, attic, shop} {
		h.inStep(m, at)
	}
	hall.runs(home, all)
	attic.runs(home, named, all)
	shop.runs(all)
	want(t, "spread of clock", h.Spread(selector.Selector{})["clock"], edge.Spread{Placed: 3, Connected: 3, Current: 3})
	want(t, "spread of lamp", h.Spread(selector.Selector{})["lamp"], edge.Spread{Placed: 2, Connected: 2, Current: 2})
}

func TestAConnectedNodeGetsAChangeAsADelta(t *testing.T) {
	h := newHub(t)
	h.deploy(function(t, "lamp", "1", nil))
	m, _ := h.joined("hall", nil)
	h.inStep(m, h.position())
	next := function(t, "lamp", "2", nil)
	h.inStep(m, h.deploy(next).At)
	m.runs(next)
	gone, err := h.ledger.Delete("lamp", ledger.Intent{By: "ada"})
	if err != nil {
		t.Fatal(err)
	}
	h.inStep(m, gone.At)
	m.runs()
	want(t, "wholes", m.kinds()[edge.KindWhole], 1)
	want(t, "deltas", m.kinds()[edge.KindDelta], 2)
}

func TestNodesThatJoinOneByOneStandAtOnePosition(t *testing.T) {
	h := newHub(t)
	first := h.deploy(function(t, "lamp", "1", nil)).At
	var list []*machine
	for i := range 4 {
		m, _ := h.joined(fmt.Sprint("m", i), map[string]string{"number": fmt.Sprint(i)})
		h.inStep(m, h.position())
		list = append(list, m)
	}
	if at := h.position(); at.Revision <= first.Revision+int64(len(list))-1 {
		t.Fatalf("the ledger is at %d: nodes that join do not move it any more", at.Revision)
	}
	for i, m := range list {
		want(t, fmt.Sprint("position of node ", i), h.node(m.name).At, h.node(list[0].name).At)
	}
	next := function(t, "lamp", "2", nil)
	at := h.deploy(next).At
	for i, m := range list {
		h.inStep(m, at)
		m.runs(next)
		want(t, fmt.Sprint("deltas to node ", i), m.kinds()[edge.KindDelta], 1)
	}
}

func TestALargeFunctionIsFetchedInChunks(t *testing.T) {
	h := newHub(t)
	m, _ := h.joined("hall", nil)
	large := function(t, "lamp", strings.Repeat("// large\n", 20_000), nil)
	h.inStep(m, h.deploy(large).At)
	m.runs(large)
	if n := m.kinds()[edge.KindChunk]; n < 5 {
		t.Errorf("it came in %d chunks, want some", n)
	}
}

func TestANodeFetchesOnlyWhatIsPlacedOnIt(t *testing.T) {
	h := newHub(t)
	other := function(t, "other", strings.Repeat("// large\n", 4_000), map[string]string{"site": "shop"})
	mine := function(t, "mine", strings.Repeat("// large\n", 4_000), nil)
	h.deploy(other)
	h.deploy(mine)
	m, _ := h.joined("hall", nil)
	h.inStep(m, h.position())
	total := func(f functions.Function) (total int, ok bool) {
		for _, msg := range m.said {
			if c, is := msg.(*edge.Chunk); is && c.Revision == f.Revision && c.Offset == 1 {
				return c.Total, true
			}
		}
		return 0, false
	}
	m.tell(&edge.Fetch{Revision: mine.Revision, Offset: 1})
	m.tell(&edge.Fetch{Revision: other.Revision, Offset: 1})
	m.until("both are answered", func() bool { _, a := total(mine); _, b := total(other); return a && b })
	if got, _ := total(other); got != 0 {
		t.Errorf("the node was told %d bytes of a function that is not its own", got)
	}
	if got, _ := total(mine); got == 0 {
		t.Error("the node was not given its own function")
	}
}

func TestOtherLabelsBringOtherFunctions(t *testing.T) {
	h := newHub(t)
	home := function(t, "lamp", "home", map[string]string{"site": "home"})
	shop := function(t, "sign", "shop", map[string]string{"site": "shop"})
	h.deploy(home)
	h.deploy(shop)
	m, _ := h.joined("hall", map[string]string{"site": "home"})
	h.inStep(m, h.position())
	m.runs(home)
	if _, err := h.ledger.SetLabels(m.id(), map[string]string{"site": "shop"}, true, ada); err != nil {
		t.Fatal(err)
	}
	h.inStep(m, h.position())
	m.runs(shop)
}

func TestACordonedNodeIsLeftAsItIsUntilThatIsLifted(t *testing.T) {
	h := newHub(t)
	old, other := function(t, "lamp", "1", nil), function(t, "bell", "1", nil)
	h.deploy(old)
	h.deploy(other)
	m, _ := h.joined("hall", nil)
	witness, _ := h.joined("attic", nil)
	h.inStep(m, h.position())
	if _, err := h.ledger.Cordon(m.id(), true, ada); err != nil {
		t.Fatal(err)
	}
	next := function(t, "lamp", "2", nil)
	h.deploy(next)
	if _, err := h.ledger.Delete("bell", ledger.Intent{By: "ada"}); err != nil {
		t.Fatal(err)
	}
	h.inStep(witness, h.position())
	m.runs(old, other)
	want(t, "spread, of which nobody waits for the cordoned one", h.Spread(all)["lamp"], edge.Spread{Placed: 2, Connected: 2, Current: 1})
	if err := h.WaitAt(t.Context(), m.id(), h.position()); err == nil || !strings.Contains(err.Error(), "cordoned") {
		t.Errorf("WaitAt = %v, want that it is cordoned", err)
	}

	h = h.restarted() // and that stays so
	m.connect(h)
	witness.connect(h)
	h.inStep(witness, h.position())
	m.runs(old, other)
	if _, err := h.ledger.Cordon(m.id(), false, ada); err != nil {
		t.Fatal(err)
	}
	h.inStep(m, h.position())
	m.runs(next)
}

func TestARestartedHubSaysNothingToNodesThatHaveAll(t *testing.T) {
	h := newHub(t)
	f := function(t, "lamp", "1", nil)
	h.deploy(f)
	m, _ := h.joined("hall", nil)
	h.inStep(m, h.position())
	h.joined("attic", nil) // which raises the position
	before := m.replica.Synced().At
	h = h.restarted()
	m.mu.Lock()
	m.said = nil
	m.mu.Unlock()
	m.connect(h)
	h.inStep(m, h.position())
	m.until("the hub has answered", func() bool { return len(m.said) > 0 })
	if n := m.kinds(); n[edge.KindWhole]+n[edge.KindDelta] > 0 || m.replica.Synced().At != before {
		t.Errorf("the node was told %v", n)
	}
	next := function(t, "lamp", "2", nil)
	h.inStep(m, h.deploy(next).At)
	m.runs(next)
	want(t, "wholes", m.kinds()[edge.KindWhole], 0)
}

func TestANodeThatWasAwayCatchesUp(t *testing.T) {
	h := newHub(t)
	h.deploy(function(t, "a", "1", nil))
	m, s := h.joined("hall", nil)
	h.inStep(m, h.position())
	s.leave()
	h.until("it is away", func() bool { return !h.node("hall").Connected })
	last := function(t, "b", "9", nil)
	for i := range 9 {
		h.deploy(function(t, "b", fmt.Sprint(i+1), nil))
	}
	if _, err := h.ledger.Delete("a", ledger.Intent{By: "ada", Purge: true}); err != nil {
		t.Fatal(err)
	}
	m.connect(h)
	h.inStep(m, h.position())
	m.runs(last)
}

func TestThreeHundredNodesConvergeAtOnce(t *testing.T) {
	h := newHub(t)
	const many = 300
	h.deploy(function(t, "all", "1", nil))
	for i := range 3 {
		h.deploy(function(t, fmt.Sprintf("third-%d", i), "1", map[string]string{"third": fmt.Sprint(i)}))
	}
	join := h.token(edge.Token{Uses: many})
	machines := make([]*machine, many)
	var coming sync.WaitGroup
	for i := range machines {
		m := newMachine(t, fmt.Sprintf("node-%03d", i), map[string]string{"third": fmt.Sprint(i % 3)})
		m.join = join
		machines[i] = m
		coming.Go(func() {
			for range 10 { // as a node does whose hub has too much to do
				conn, _, err := m.dial(h)
				if err == nil {
					m.stay(conn)
					return
				}
				t.Log(err)
			}
			t.Errorf("%s does not get in", m.name)
		})
	}
	coming.Wait()
	h.until("all are seated", func() bool { return h.Spread(all)["all"].Connected == many })
	next := function(t, "all", "2", nil)
	at := h.deploy(next).At
	third := make([]functions.Function, 3)
	for i := range third {
		third[i] = function(t, fmt.Sprintf("third-%d", i), "1", map[string]string{"third": fmt.Sprint(i)})
	}
	for i, m := range machines {
		h.inStep(m, at)
		m.runs(next, third[i%3])
	}
	want(t, "spread", h.Spread(all)["all"], edge.Spread{Placed: many, Connected: many, Current: many})
}
