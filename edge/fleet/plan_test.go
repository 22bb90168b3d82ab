package fleet

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

// revision returns a revision that is the same for the same number.
func revision(n int) functions.Revision { return functions.Revision(fmt.Sprintf("%064x", n)) }

// planned returns a plan of functions f000 and so on, each placed by a label of its own
// number modulo ten, and of which some are named by host if hosts is set.
func planned(t testing.TB, at int64, count int, hosts bool, change func(*ledger.Plan)) *plan {
	t.Helper()
	return following(t, nil, at, count, hosts, change)
}

// following is planned, after another plan.
func following(t testing.TB, before *plan, at int64, count int, hosts bool, change func(*ledger.Plan)) *plan {
	t.Helper()
	l := ledger.Plan{At: edge.Position{Epoch: "E", Revision: at}}
	for i := range count {
		l.Functions = append(l.Functions, ledger.Placed{
			Ref:      edge.Ref{Name: fmt.Sprintf("f%03d", i), Revision: revision(i), Enabled: true},
			Selector: fmt.Sprintf("part%d=yes", i%10),
		})
	}
	if change != nil {
		change(&l)
	}
	p, err := newPlan(l, func(name string, _ functions.Revision) (card, error) {
		if hosts && name == "f000" {
			return card{at: functions.Placement{Nodes: map[string]string{functions.HostLabel: "node-7"}}}, nil
		}
		return card{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	p.follow(before)
	return p
}

// crowd returns nodes that each have one half of the labels or the other.
func crowd(count int) []*node {
	nodes := make([]*node, count)
	for i := range nodes {
		n := &node{}
		labels := map[string]string{"room": fmt.Sprint(i % 50)}
		for part := i % 2; part < 10; part += 2 {
			labels[fmt.Sprintf("part%d", part)] = "yes"
		}
		n.take(edge.Node{ID: fmt.Sprintf("id-%d", i), Name: fmt.Sprintf("node-%d", i), Labels: labels, Standing: edge.Member})
		nodes[i] = n
	}
	return nodes
}

func TestNodesThatRunTheSameShareOneSet(t *testing.T) {
	for _, hosts := range []bool{false, true} {
		p := planned(t, 1, 100, hosts, nil)
		sets := map[*edge.Set]int{}
		for _, n := range crowd(1000) {
			s, err := p.set(n)
			if err != nil {
				t.Fatal(err)
			}
			sets[s]++
		}
		if len(sets) != 2 {
			t.Errorf("1000 nodes of two kinds have %d sets", len(sets))
		}
	}
}

func TestNodesThatComeOneByOneShareOneSet(t *testing.T) {
	set := func(p *plan, n *node) *edge.Set {
		s, err := p.set(n)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	nodes := crowd(6)
	p := planned(t, 1, 100, false, nil)
	all := set(p, nodes[0])
	for i, n := range nodes {
		p = following(t, p, int64(2+i), 100, false, nil)
		for _, before := range nodes[:i+1] {
			before.set = set(p, before)
		}
		if got := n.set; got != all && i%2 == 0 {
			t.Errorf("node %d has a set at %d, want that of the first at 1", i, got.At().Revision)
		}
	}
	other := nodes[1].set

	// One that was at the other set, or on its way there, is not led backward.
	moved := nodes[0]
	for _, how := range []func(){
		func() { moved.is.At, moved.set = other.At(), nil },
		func() { moved.is.At, moved.set = edge.Position{}, other },
		func() {
			moved.is.At, moved.set = edge.Position{Epoch: "E", Revision: 1, Digest: other.At().Digest}, nil
		},
	} {
		how()
		if got := set(p, moved); got == all || got.At() != (edge.Position{Epoch: "E", Revision: 7, Digest: all.At().Digest}) {
			t.Errorf("a node that was at %+v gets a set at %+v", moved.is.At, got.At())
		}
	}
	moved.set = all // those that are where they should be share one too, as of when there was one that was
	for _, n := range nodes {
		n.is.At = n.set.At()
	}
	for at := range int64(3) {
		p = following(t, p, 8+at, 100, false, nil)
		for i, n := range nodes {
			if n.set = set(p, n); i%2 == 0 && n.set.At() != (edge.Position{Epoch: "E", Revision: 7, Digest: all.At().Digest}) {
				t.Errorf("node %d, which is where it should be, has a set at %+v", i, n.set.At())
			}
		}
	}

	// What else the set says has changed.
	newcomer := nodes[2]
	newcomer.is.At, newcomer.set = edge.Position{}, nil
	for what, change := range map[string]func(*ledger.Plan){
		"a function": func(l *ledger.Plan) { l.Functions[0].Revision = revision(1000) },
		"a purge": func(l *ledger.Plan) {
			l.Removals.List = []ledger.Removed{{Position: 11, Removal: edge.Removal{Name: "old", Purge: true}, Confirmed: true}}
		},
		"an epoch":          func(l *ledger.Plan) { l.At.Epoch = "F" },
		"an epoch given up": func(l *ledger.Plan) { l.GivenUp = []string{"D"} },
	} {
		if got := set(following(t, p, 11, 100, false, change), newcomer); got.At().Revision != 11 {
			t.Errorf("after %s a node gets a set at %d, want one at 11", what, got.At().Revision)
		}
	}

	// What is no more wanted is forgotten.
	p = following(t, p, 11, 100, false, func(l *ledger.Plan) { l.Functions[0].Revision = revision(1000) })
	set(p, newcomer)
	p = following(t, p, 12, 100, false, nil)
	if got := set(p, newcomer); got == all || len(p.former) != 1 {
		t.Errorf("%d sets of earlier plans are kept, want the last one's", len(p.former))
	}
}

func TestARolloutIsForTheNodesThatItHasReached(t *testing.T) {
	nodes := crowd(100)
	p := planned(t, 1, 100, false, func(l *ledger.Plan) {
		for i := range 2 { // of f000 from an earlier revision, and f002 that is new
			f := &l.Functions[2*i]
			f.Rollout = &edge.Rollout{ID: int64(i + 1), Function: f.Name, To: f.Revision, State: edge.Rolling, Nodes: []string{nodes[2*i].is.ID}}
		}
		l.Functions[0].Before = edge.Ref{Name: "f000", Revision: revision(1000), Enabled: true}
		l.Functions[0].Rollout.From = revision(1000)
	})
	for i, n := range nodes {
		var got []string
		for _, r := range p.group(n).refs {
			if r.Name == "f000" || r.Name == "f002" {
				got = append(got, r.Name+" "+strings.TrimLeft(string(r.Revision), "0"))
			}
		}
		want := []string(nil)
		switch {
		case i == 0:
			want = []string{"f000 "}
		case i == 2:
			want = []string{"f000 3e8", "f002 2"}
		case i%2 == 0:
			want = []string{"f000 3e8"}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("node %d gets %q, want %q", i, got, want)
		}
	}
}

func TestTooManyFunctionsForANodeAreAFault(t *testing.T) {
	p := planned(t, 1, 1200, false, nil)
	n := &node{}
	n.take(edge.Node{ID: "id", Name: "hall", Labels: map[string]string{"part1": "yes", "part2": "yes", "part3": "yes", "part4": "yes", "part5": "yes"}})
	if _, err := p.set(n); err == nil || !strings.Contains(err.Error(), "hall") || !strings.Contains(err.Error(), "600 functions") {
		t.Errorf("set = %v, want that the node cannot be told", err)
	}
}

// BenchmarkPut is one changed function of a hundred, placed on 10,000 nodes.
func BenchmarkPut(b *testing.B) {
	for _, hosts := range []bool{false, true} {
		b.Run(fmt.Sprintf("hosts=%t", hosts), func(b *testing.B) {
			f := New(Config{})
			for _, n := range crowd(10_000) {
				f.nodes[n.is.ID] = n
			}
			at := int64(0)
			for b.Loop() {
				at++
				f.put(planned(b, at, 100, hosts, func(l *ledger.Plan) { l.Functions[0].Revision = revision(int(at) + 1000) }), nil)
			}
		})
	}
}
