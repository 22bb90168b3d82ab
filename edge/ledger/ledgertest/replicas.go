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
	"All have one secret, that of who came first":        testReplicaSecret,
	"Sightings are each heard once, and of the dead":     testReplicaSightings,
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

func testReplicaSecret(t *testing.T, all []*ledger.Ledger) {
	var made atomic.Int64
	got := make([]string, 9)
	together(len(got), func(i int) {
		secret, err := all[i%len(all)].Secret("key", func() ([]byte, error) { return fmt.Append(nil, "secret ", made.Add(1)), nil })
		if err != nil {
			t.Error(err)
		}
		got[i] = string(secret)
	})
	if slices.ContainsFunc(got, func(s string) bool { return s != "secret 1" }) {
		t.Errorf("the replicas have %q, want one secret", got)
	}
}

func testReplicaSightings(t *testing.T, all []*ledger.Ledger) {
	tell := func(by int, n ledger.News) ledger.Heard {
		t.Helper()
		n.Of.ID = fmt.Sprint("r", by)
		h, err := all[by].Exchange(n)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	wantSeen := func(what string, got []ledger.Sighting, want ...ledger.Sighting) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	seen := func(node, replica string, counter int64, body string) ledger.Sighting {
		return ledger.Sighting{Node: node, Replica: replica, Counter: counter, Body: []byte(body)}
	}
	begun := func(s ledger.Sighting) ledger.Sighting { s.Begun = true; return s }

	if h := tell(0, ledger.News{Seen: []ledger.Sighting{begun(seen("n", "r0", 5, "a"))}}); !h.New {
		t.Error("who comes for the first time is not new")
	}
	h := tell(1, ledger.News{})
	wantSeen("to who comes", h.Seen, seen("n", "r0", 5, "a"))
	wantSeen("again", tell(1, ledger.News{Since: h.At}).Seen)

	tell(1, ledger.News{Seen: []ledger.Sighting{begun(seen("n", "r1", 6, "b"))}})
	tell(0, ledger.News{Seen: []ledger.Sighting{seen("n", "", 5, "late"), begun(seen("n", "r0", 5, "late"))}})
	h = tell(2, ledger.News{})
	wantSeen("after it moved", h.Seen, seen("n", "r1", 6, "b"))

	dead := h.Replicas[1]
	tell(1, ledger.News{})
	if h = tell(0, ledger.News{Dead: []ledger.Replica{dead}}); len(h.Replicas) != 3 {
		t.Errorf("of the replicas %v remain, want all: the dead one has beaten since", h.Replicas)
	}
	h = tell(0, ledger.News{Dead: h.Replicas[1:2]})
	wantSeen("of who died", h.Seen, seen("n", "", 6, "b"))
	if h = tell(1, ledger.News{}); !h.New || h.Replicas[2].ID != "r1" {
		t.Errorf("who was dead is among %v, new: %v; want it to be new, and the last", h.Replicas, h.New)
	}
}
