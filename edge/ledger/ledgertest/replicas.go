package ledgertest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
)

// RunReplicas runs what several ledgers pass that are open in one place.
func RunReplicas(t *testing.T, place func(*testing.T) Place) {
	for name, run := range replicas {
		t.Run(name, func(t *testing.T) {
			p := place(t)
			run(t, []*ledger.Ledger{p.open(t), p.open(t), p.open(t)})
		})
	}
}

var replicas = map[string]func(*testing.T, []*ledger.Ledger){
	"Positions rise by one, in the order of commits":     testReplicaPositions,
	"A token for one is good for one, whoever is asked":  testReplicaToken,
	"Of two machines one verdict is spoken by all":       testReplicaClone,
	"One rollout begins, and each of its steps is taken": testReplicaRollout,
}

func testReplicaPositions(t *testing.T, all []*ledger.Ledger) {
	const each = 20
	var mu sync.Mutex
	var got []int64
	together(len(all)*each, func(i int) {
		r, err := all[i%len(all)].Deploy(function(fmt.Sprint("f", i), "a1"), asAda)
		if err != nil {
			t.Error(err)
			return
		}
		// The position is that of a state which has the change, in every replica.
		d, at, err := all[(i+1)%len(all)].Functions(t.Context())
		if err != nil || at.Revision < r.At.Revision || int64(len(d)) != at.Revision {
			t.Errorf("at %v another replica has %d functions at %v, %v", r.At, len(d), at, err)
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.At.Revision)
	})
	slices.Sort(got)
	for i, revision := range got {
		if revision != int64(i+1) {
			t.Fatalf("positions are %v, want 1 to %d", got, len(all)*each)
		}
	}
	verify(t, all)
}

// verify looks whether the audit log is whole, seen from each replica.
func verify(t *testing.T, all []*ledger.Ledger) {
	t.Helper()
	for _, l := range all {
		if err := l.VerifyAudit(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func testReplicaToken(t *testing.T, all []*ledger.Ledger) {
	token(t, all[0], edge.Token{ID: "k", Uses: 1})
	var joined atomic.Int64
	together(51, func(i int) {
		_, err := all[i%len(all)].Join(proof(fmt.Sprint("n", i), "k"), "192.0.2.1")
		if err == nil {
			joined.Add(1)
		} else if !errors.Is(err, ledger.ErrUsedUp) {
			t.Error(err)
		}
	})
	if joined.Load() != 1 {
		t.Errorf("%d joined with a token for one", joined.Load())
	}
	verify(t, all)
}

func testReplicaClone(t *testing.T, all []*ledger.Ledger) {
	join(t, all[0], "hall")
	p := proof("hall", "")
	p.Counter = 2
	var member atomic.Int64
	together(30, func(i int) {
		n, err := all[i%len(all)].Dialled(p, fmt.Sprint("192.0.2.", i))
		if err != nil {
			t.Error(err)
		}
		if n.Standing == edge.Member {
			member.Add(1)
		}
	})
	list, err := all[1].Audit(t.Context(), ledger.AuditQuery{Object: "node/hall"})
	if member.Load() != 1 || err != nil || len(list) != 2 || list[0].Action != "node.cloned" {
		t.Errorf("%d of one counter were believed, the audit log has %+v, %v; want 1, and one clone", member.Load(), list, err)
	}
	verify(t, all)
}

func testReplicaRollout(t *testing.T, all []*ledger.Ledger) {
	deploy(t, all[0], "f", "a1")
	var begun atomic.Int64
	together(9, func(i int) {
		in := asAda
		in.Rollout = &edge.Rollout{Stages: []edge.Stage{{Percent: 100}}}
		_, err := all[i%len(all)].Deploy(function("f", fmt.Sprint("b", i)), in)
		if err == nil {
			begun.Add(1)
		} else if !errors.Is(err, ledger.ErrConflict) {
			t.Error(err)
		}
	})
	list, err := all[1].Rollouts(t.Context(), ledger.RolloutQuery{})
	if begun.Load() != 1 || err != nil || len(list) != 1 {
		t.Fatalf("%d rollouts began, there are %d, %v; want 1", begun.Load(), len(list), err)
	}
	together(30, func(i int) {
		_, _, err := all[i%len(all)].Steer(list[0].ID, ada, func(r edge.Rollout) (edge.Rollout, bool) {
			r.Nodes = append(r.Nodes, fmt.Sprint("n", len(r.Nodes)))
			return r, true
		})
		if err != nil {
			t.Error(err)
		}
	})
	r, err := all[2].Rollout(t.Context(), list[0].ID)
	if err != nil || len(r.Nodes) != 30 || r.Nodes[29] != "n29" {
		t.Errorf("after 30 steps it has reached %v, %v", r.Nodes, err)
	}
	verify(t, all)
}
