package ledgertest

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
)

var dials = map[string]func(*testing.T, Place){
	"A node that dials again and again stays a member": testDials,
	"A second machine with the same key is noticed":    testClone,
	"Of two machines one verdict is spoken":            testCloneRace,
	"Two thousand dials at once are noted":             testManyDials,
}

func testDials(t *testing.T, place Place) {
	l := place.open(t)
	join(t, l, "hall")
	before := position(t, l)
	p := proof("hall", "")
	for p.Counter = 2; p.Counter < 6; p.Counter++ {
		p.Version, p.Platform = fmt.Sprintf("v1.0.%d", p.Counter), "linux\x00\xff"
		if n, err := l.Dialled(p, "192.0.2.9"); err != nil || n.Standing != edge.Member {
			t.Fatalf("dial %d: %+v, %v", p.Counter, n, err)
		}
	}
	got, err := l.Node(t.Context(), "hall")
	if err != nil || got.Counter != 5 || got.Address != "192.0.2.9" || got.Version != "v1.0.5" || got.Platform != "linux\uFFFD\uFFFD" {
		t.Errorf("after the last dial: %+v, %v", got, err)
	}
	if after := position(t, l); after != before {
		t.Errorf("dialling raised the position from %v to %v", before, after)
	}
	// A node whose answer was lost joins again, and is the one it was.
	p.Counter = 6
	p.Join = &edge.Join{Token: "for-hall", Secret: secret}
	if n, err := l.Join(p, "192.0.2.9"); err != nil || n.ID != got.ID || n.Counter != 6 {
		t.Errorf("joining once more: %+v, %v", n, err)
	}
}

func testClone(t *testing.T, place Place) {
	l := place.open(t)
	join(t, l, "hall")
	dial := func(counter int64, address string) edge.Node {
		t.Helper()
		p := proof("hall", "")
		p.Counter = counter
		n, err := l.Dialled(p, address)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	dial(5, "192.0.2.1")
	before := position(t, l)
	n := dial(5, "198.51.100.2")
	if n.Standing != edge.Fenced || !strings.Contains(n.Why, "192.0.2.1") || !strings.Contains(n.Why, "198.51.100.2") {
		t.Errorf("the second machine: %s because %q; want it fenced and both named", n.Standing, n.Why)
	}
	if after := position(t, l); after.Revision != before.Revision+1 {
		t.Errorf("the position went from %v to %v", before, after)
	}
	if again := dial(6, "192.0.2.1"); again.Standing != edge.Fenced || again.Why != n.Why {
		t.Errorf("the first machine: %s because %q; want it fenced for the same reason", again.Standing, again.Why)
	}
	if list, err := l.Audit(t.Context(), ledger.AuditQuery{Object: "node/hall", Limit: 1}); err != nil || list[0].Action != "node.cloned" {
		t.Errorf("the audit log: %+v, %v; want node.cloned last", list, err)
	}
	if _, err := l.Approve(n.ID, ada); err != nil {
		t.Fatal(err)
	}
	if n := dial(3, "192.0.2.1"); n.Standing != edge.Member {
		t.Errorf("the machine that comes first after approval is %s, want %s", n.Standing, edge.Member)
	}
	if n := dial(3, "198.51.100.2"); n.Standing != edge.Fenced {
		t.Errorf("the other is %s, want %s", n.Standing, edge.Fenced)
	}
}

func testCloneRace(t *testing.T, place Place) {
	l := place.open(t)
	join(t, l, "hall")
	p := proof("hall", "")
	p.Counter = 2
	var member atomic.Int64
	together(20, func(i int) {
		n, err := l.Dialled(p, fmt.Sprint("192.0.2.", i))
		if err != nil {
			t.Error(err)
		}
		if n.Standing == edge.Member {
			member.Add(1)
		}
	})
	if member.Load() != 1 {
		t.Errorf("%d machines with one counter were believed, want 1", member.Load())
	}
	list, err := l.Audit(t.Context(), ledger.AuditQuery{Object: "node/hall"})
	if err != nil || len(list) != 2 {
		t.Errorf("the audit log: %+v, %v; want one join and one clone", list, err)
	}
}

// together calls fn n times at once.
func together(n int, fn func(int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { fn(i) })
	}
	all.Wait()
}

func testManyDials(t *testing.T, place Place) {
	const many = 2000
	l := place.open(t)
	token(t, l, edge.Token{ID: "k", Uses: many})
	together(many, func(i int) {
		if _, err := l.Join(proof(fmt.Sprint("n", i), "k"), "192.0.2.1"); err != nil {
			t.Error(err)
		}
	})
	together(many, func(i int) {
		p := proof(fmt.Sprint("n", i), "")
		p.Counter = 7
		if n, err := l.Dialled(p, "192.0.2.1"); err != nil || n.Name != p.Name || n.Counter != 7 {
			t.Errorf("dial of %s: %+v, %v", p.Name, n, err)
		}
	})
	plan, err := l.Plan(t.Context(), 0)
	if err != nil || len(plan.Nodes) != many {
		t.Fatalf("there are %d nodes, %v", len(plan.Nodes), err)
	}
	for _, n := range plan.Nodes {
		if n.Counter != 7 {
			t.Errorf("%s has dialled %d times, want 7", n.Name, n.Counter)
		}
	}
	if err := l.VerifyAudit(t.Context()); err != nil {
		t.Error(err)
	}
}
