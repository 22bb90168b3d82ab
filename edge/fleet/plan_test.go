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
	p, err := newPlan(l, nil, func(name string, _ functions.Revision) (card, error) {
		if hosts && name == "f000" {
			return card{at: functions.Placement{Nodes: map[string]string{functions.HostLabel: "node-7"}}}, nil
		}
		return card{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
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
