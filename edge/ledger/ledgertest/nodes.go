package ledgertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
)

var nodes = map[string]func(*testing.T, Place){
	"A node that has joined is found by id, name and key":       testFindNode,
	"Nodes are listed page by page":                             testListNodes,
	"What changes a node raises the position":                   testChangeNode,
	"A name is that of one node in the fleet":                   testNodeNames,
	"A node that was removed may join again, a revoked not":     testLeave,
	"Where nodes are is saved together and tells nobody":        testSeen,
	"What is done to a node that is not there is not found":     testNoNode,
	"A ledger tells who watches it of changes, its own as well": testWatch,
}

func testFindNode(t *testing.T, place Place) {
	l := place.open(t)
	token(t, l, edge.Token{ID: "k", Uses: 1, Labels: map[string]string{"site": "home"}})
	p := proof("hall", "k")
	p.Labels = map[string]string{"site": "elsewhere", "floor": "1"}
	joined, err := l.Join(p, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	want := edge.Node{
		ID: edge.NodeID(p.Key), Name: "hall", Key: p.Key, Labels: map[string]string{"site": "home", "floor": "1"}, Standing: edge.Member,
		Joined: joined.Joined, Token: "k", Counter: 1, Address: "192.0.2.1", Version: "v1.0.0", Platform: "linux/arm/6",
	}
	byKey, keyErr := l.NodeOf(t.Context(), p.Key)
	byID, idErr := l.Node(t.Context(), want.ID)
	byName, nameErr := l.Node(t.Context(), "hall")
	if err := errors.Join(keyErr, idErr, nameErr); err != nil {
		t.Fatal(err)
	}
	for how, got := range map[string]edge.Node{"joined": joined, "by key": byKey, "by id": byID, "by name": byName} {
		if !sameNode(got, want) {
			t.Errorf("%s: %+v\nwant %+v", how, got, want)
		}
	}
}

func sameNode(x, y edge.Node) bool {
	return fmt.Sprintf("%+v", timeless(x)) == fmt.Sprintf("%+v", timeless(y)) && x.Joined.Equal(y.Joined) && x.Seen.Equal(y.Seen)
}

func timeless(n edge.Node) edge.Node {
	n.Joined, n.Seen = time.Time{}, time.Time{}
	return n
}

func testListNodes(t *testing.T, place Place) {
	l := place.open(t)
	var names []string
	for i := range 25 {
		names = append(names, fmt.Sprintf("n%02d", i))
	}
	list := join(t, l, names...)
	if _, err := l.RemoveNode(list[3].ID, ada); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Fence(list[4].ID, "smells", ada); err != nil {
		t.Fatal(err)
	}
	var got []string
	q := ledger.NodeQuery{Limit: 10}
	for {
		page, err := l.Nodes(t.Context(), q)
		if err != nil || len(page) > 10 {
			t.Fatalf("Nodes(%+v) = %d nodes, %v", q, len(page), err)
		}
		if len(page) == 0 {
			break
		}
		for _, n := range page {
			got = append(got, n.Name)
		}
		q.After = page[len(page)-1].ID
	}
	if want := slices.Delete(slices.Clone(names), 3, 4); !slices.Equal(got, want) {
		t.Errorf("pages have %v\nwant %v", got, want)
	}
	for standing, want := range map[edge.Standing]string{edge.Departed: "n03", edge.Fenced: "n04"} {
		if page, err := l.Nodes(t.Context(), ledger.NodeQuery{Standing: standing}); err != nil || len(page) != 1 || page[0].Name != want {
			t.Errorf("%s: %+v, %v, want %s", standing, page, err, want)
		}
	}
}

func testChangeNode(t *testing.T, place Place) {
	l := place.open(t)
	id := join(t, l, "hall")[0].ID
	kitchen := map[string]string{"room": "kitchen"}
	steps := []struct {
		does   func() (edge.Node, error)
		want   func(edge.Node) bool
		raises int64
		action string
	}{
		{func() (edge.Node, error) { return l.SetLabels(id, kitchen, false, ada) },
			func(n edge.Node) bool { return maps.Equal(n.Labels, kitchen) }, 1, "node.label"},
		{func() (edge.Node, error) { return l.SetLabels(id, kitchen, false, ada) },
			func(n edge.Node) bool { return maps.Equal(n.Labels, kitchen) }, 0, "node.label"},
		{func() (edge.Node, error) { return l.Rename(id, "kitchen", ada) },
			func(n edge.Node) bool { return n.Name == "kitchen" }, 1, "node.rename"},
		{func() (edge.Node, error) { return l.Cordon(id, true, ada) }, func(n edge.Node) bool { return n.Cordoned }, 1, "node.cordon"},
		{func() (edge.Node, error) { return l.Cordon(id, false, ada) }, func(n edge.Node) bool { return !n.Cordoned }, 1, "node.uncordon"},
		{func() (edge.Node, error) { return l.Fence(id, "two of it", ada) },
			func(n edge.Node) bool { return n.Standing == edge.Fenced && n.Why == "two of it" }, 1, "node.fence"},
		{func() (edge.Node, error) { return l.Approve(id, ada) },
			func(n edge.Node) bool { return n.Standing == edge.Member && n.Why == "" }, 1, "node.approve"},
		{func() (edge.Node, error) { return l.Approve(id, ada) },
			func(n edge.Node) bool { return n.Standing == edge.Member }, 0, "node.approve"},
		{func() (edge.Node, error) { return l.Revoke(id, "stolen", ada) },
			func(n edge.Node) bool { return n.Standing == edge.Revoked && n.Why == "stolen" }, 1, "node.revoke"},
	}
	for i, step := range steps {
		before := position(t, l)
		answered, err := step.does()
		kept, keptErr := l.Node(t.Context(), id)
		if err := errors.Join(err, keptErr); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if !step.want(answered) || !sameNode(answered, kept) {
			t.Errorf("step %d: %+v, kept as %+v", i, answered, kept)
		}
		if raised := position(t, l).Revision - before.Revision; raised != step.raises {
			t.Errorf("step %d raises the position by %d, want %d", i, raised, step.raises)
		}
		newest, err := l.Audit(t.Context(), ledger.AuditQuery{Limit: 1})
		if err != nil || newest[0].Action != step.action || newest[0].By != "ada" || newest[0].Address != ada.Address {
			t.Errorf("step %d: the audit log ends with %+v, %v, want %s by ada", i, newest, err, step.action)
		}
	}
}

func position(t *testing.T, l *ledger.Ledger) edge.Position {
	t.Helper()
	at, err := l.Position(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func testNodeNames(t *testing.T, place Place) {
	l := place.open(t)
	list := join(t, l, "hall", "attic")
	if _, err := l.Rename(list[1].ID, "", ada); !errors.Is(err, ledger.ErrInvalid) {
		t.Errorf("no name: %v, want %v", err, ledger.ErrInvalid)
	}
	if _, err := l.Rename(list[1].ID, "hall", ada); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("a second hall: %v, want %v", err, ledger.ErrConflict)
	}
	token(t, l, edge.Token{ID: "k", Uses: 1})
	other := proof("another machine", "k")
	other.Name = "hall"
	if _, err := l.Join(other, "192.0.2.2"); !errors.Is(err, ledger.ErrConflict) {
		t.Errorf("joining as hall: %v, want %v", err, ledger.ErrConflict)
	}
	if _, err := l.Revoke(list[0].ID, "stolen", ada); err != nil {
		t.Fatal(err)
	}
	// The refusal has cost no use of the token, and the name is free by now.
	n, err := l.Join(other, "192.0.2.2")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := l.Node(t.Context(), "hall"); err != nil || got.ID != n.ID {
		t.Errorf("hall is %s, %v, want %s", got.ID, err, n.ID)
	}
	if got, err := l.Node(t.Context(), list[0].ID); err != nil || got.Standing != edge.Revoked {
		t.Errorf("the first hall is %s, %v, want %s", got.Standing, err, edge.Revoked)
	}
}

func testLeave(t *testing.T, place Place) {
	l := place.open(t)
	list := join(t, l, "hall", "attic")
	if _, err := l.RemoveNode(list[0].ID, ada); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Revoke(list[1].ID, "stolen", ada); err != nil {
		t.Fatal(err)
	}
	token(t, l, edge.Token{ID: "again", Uses: 1, Approval: true})
	if _, err := l.Dialled(proof("hall", ""), "192.0.2.1"); !errors.Is(err, ledger.ErrNotFound) {
		t.Errorf("a departed node dials: %v, want %v", err, ledger.ErrNotFound)
	}
	if n, err := l.Join(proof("hall", "again"), "192.0.2.1"); err != nil || n.ID != list[0].ID || n.Standing != edge.Waiting {
		t.Errorf("a departed node joins: %+v, %v", n, err)
	}
	if _, err := l.Join(proof("attic", "again"), "192.0.2.1"); !errors.Is(err, ledger.ErrRevoked) {
		t.Errorf("a revoked node joins: %v, want %v", err, ledger.ErrRevoked)
	}
	if _, err := l.Dialled(proof("attic", ""), "192.0.2.1"); !errors.Is(err, ledger.ErrRevoked) {
		t.Errorf("a revoked node dials: %v, want %v", err, ledger.ErrRevoked)
	}
	if _, err := l.Approve(list[1].ID, ada); !errors.Is(err, ledger.ErrRevoked) {
		t.Errorf("approving a revoked node: %v, want %v", err, ledger.ErrRevoked)
	}
}

func testSeen(t *testing.T, place Place) {
	l := place.open(t)
	list := join(t, l, "hall", "attic")
	before := position(t, l)
	at := edge.Position{Epoch: "e", Revision: 7, Digest: "d"}
	now := time.Now().Truncate(time.Minute)
	if err := l.SaveSeen([]ledger.Seen{{ID: list[0].ID, Time: now, At: at}, {ID: "nobody"}, {ID: list[1].ID, Time: now, At: at}}); err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		if got, err := l.Node(t.Context(), n.ID); err != nil || got.At != at || !got.Seen.Equal(now) {
			t.Errorf("%s was seen at %v, %v, %v; want %v, %v", n.Name, got.Seen, got.At, err, now, at)
		}
	}
	if after := position(t, l); after != before {
		t.Errorf("the position went from %v to %v", before, after)
	}
}

func testNoNode(t *testing.T, place Place) {
	l := place.open(t)
	calls := map[string]func() error{
		"read":   func() error { _, err := l.Node(t.Context(), "hall"); return err },
		"label":  func() error { _, err := l.SetLabels("hall", nil, false, ada); return err },
		"rename": func() error { _, err := l.Rename("hall", "attic", ada); return err },
		"remove": func() error { _, err := l.RemoveNode("hall", ada); return err },
		"dial":   func() error { _, err := l.Dialled(proof("hall", ""), ""); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("%s: %v, want %v", name, err, ledger.ErrNotFound)
		}
	}
}

func testWatch(t *testing.T, place Place) {
	l := place.open(t)
	ctx, stop := context.WithCancel(t.Context())
	told := make(chan edge.Position)
	var watching sync.WaitGroup
	watching.Go(func() {
		l.Watch(ctx, func() {
			select {
			case told <- position(t, l):
			case <-ctx.Done():
			}
		})
	})
	await := func(want edge.Position) {
		for at := range told {
			if at == want {
				return
			}
		}
	}
	await(position(t, l))
	await(deploy(t, l, "f", "a1").At)
	join(t, l, "hall")
	await(position(t, l))
	stop()
	watching.Wait()
	if err := errors.Join(l.Note(ada, "a", "o", ""), l.Close()); err != nil {
		t.Error(err)
	}
}
