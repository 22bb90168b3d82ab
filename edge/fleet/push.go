package fleet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

// retryTime is how long the fleet waits before it reads the ledger again that it could
// not read.
const retryTime = time.Second

// maxOthers is how many epochs of other hubs are given up at once.
const maxOthers = 50

// share is how much longer the fleet leaves the ledger alone than it took to read it and to
// tell all nodes: while many join, each of whom is a change, that would be all it does.
const share = 4

// follow brings the nodes in step whenever the ledger has changed.
func (f *Fleet) follow(ctx context.Context) {
	for {
		select {
		case <-f.news:
		case <-ctx.Done():
			return
		}
		begun := time.Now()
		err := f.refresh(ctx)
		wait := min(share*time.Since(begun), retryTime)
		if err != nil && ctx.Err() == nil {
			f.Logger.Error("nodes are not brought in step", "err", err)
			wait = retryTime
			f.Changed()
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// refresh reads the ledger and tells every node what follows.
func (f *Fleet) refresh(ctx context.Context) error {
	f.mu.Lock()
	was := f.hubAtLocked()
	f.reads++
	f.mu.Unlock()
	read, err := f.Ledger.Plan(ctx, was.Revision)
	if err != nil {
		return err
	}
	next := f.plan // written by nobody else
	if read.At == was {
		f.renew(read)
	} else {
		look := func(name string, revision functions.Revision) (card, error) {
			return f.library.look(ctx, name, revision)
		}
		if next, err = newPlan(read, look); err != nil {
			return err
		}
	}
	f.library.keep(next)
	for _, s := range f.put(next, read.Nodes) {
		s.tell(nil)
	}
	return nil
}

// renew takes over what may change without moving a node: how rollouts are.
func (f *Fleet) renew(read ledger.Plan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, placed := range read.Functions { // the position is the same, so these are too
		f.plan.places[i].rollout = placed.Rollout
	}
}

// put makes next the plan. It closes sessions of nodes that are no members, and returns
// the others.
func (f *Fleet) put(next *plan, changed []edge.Node) (sessions []*session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plan != nil && f.plan.at.Epoch != next.at.Epoch {
		for _, n := range f.nodes {
			n.settled = 0
		}
	}
	f.rememberLocked(next)
	next.follow(f.plan)
	f.plan = next
	for _, is := range changed {
		n := f.nodes[is.ID]
		if n == nil {
			n = &node{saved: time.Now()}
			f.nodes[is.ID] = n
		}
		n.take(is)
	}
	for id, n := range f.nodes {
		switch {
		case n.session == nil || n.member():
		case n.session.seated < f.reads:
			n.session.conn.Close(outcast(&n.is))
		default: // it may have been approved since the ledger was read
			f.Changed()
		}
		if !n.online() && (n.is.Standing == "" || n.is.Standing == edge.Departed) {
			delete(f.nodes, id)
			continue
		}
		f.compareLocked(n)
		before := n.set
		f.aimLocked(n)
		if n.session != nil && n.member() && n.set != before {
			sessions = append(sessions, n.session)
		}
	}
	f.changedLocked()
	return sessions
}

// compareLocked finds out whether a node has followed the epoch further than the ledger
// has. It may only have done so since the ledger was read, so that is read again first.
func (f *Fleet) compareLocked(n *node) {
	at := n.is.At
	beyond := at.Epoch == f.plan.at.Epoch && at.Revision > f.plan.at.Revision
	switch {
	case beyond && n.beyond:
		n.ahead = at.Epoch
	case beyond:
		f.Changed()
	}
	n.beyond = beyond
}

// outcast says to a node why its session ends.
func outcast(n *edge.Node) string {
	switch n.Standing {
	case edge.Fenced:
		return "two machines have this node's key: an operator of the hub has to approve it"
	case edge.Waiting:
		return "an operator of the hub has to approve this node"
	}
	return "this node is not admitted any more"
}

// aimLocked sets what a node is to have. One that cannot be told what it should is left
// as it is, and so is one that the hub has just caught up with after it was restored.
func (f *Fleet) aimLocked(n *node) {
	switch {
	case f.plan == nil || !n.fed():
		n.set = nil
		return
	case n.ahead == f.plan.at.Epoch && n.is.At.Revision <= f.plan.at.Revision:
		return
	}
	set, err := f.plan.set(n)
	if err != nil {
		f.Logger.Error("node cannot be told what to run", "node", n.is.Name, "err", err)
		return
	}
	if n.set = set; n.inStep() {
		n.settled = f.plan.at.Revision
	}
}

// setOf returns what the node of a session is to have by now.
func (f *Fleet) setOf(s *session) *edge.Set {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.nodes[s.id]; n != nil && n.session == s {
		return n.set
	}
	return nil
}

// Behind returns nil, or, once a node has said that it has followed the hub's epoch
// further than the hub has come, an *[edge.Error] that is a Conflict. Then the hub's memory is an old
// one, and nothing may be changed before an operator gives that epoch up: otherwise
// changes would be taken for those that the nodes have seen already.
func (f *Fleet) Behind() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	count, name := 0, ""
	for _, n := range f.nodes {
		if n.ahead != "" && n.ahead == f.hubAtLocked().Epoch && n.member() {
			count++
			if name == "" || n.is.Name < name {
				name = n.is.Name
			}
		}
	}
	if count == 0 {
		return nil
	}
	return &edge.Error{
		Code:    edge.Conflict,
		Message: fmt.Sprintf("%d nodes, like %s, know of changes that the hub does not: it was restored from an old backup", count, name),
		Hint:    "restore a newer backup, or give up what is missing: sedge node accept-epoch",
	}
}

// AcceptEpoch gives up the hub's epoch, and the others that nodes refuse to leave: what
// they know of those and the hub does not is undone on them.
func (f *Fleet) AcceptEpoch(who ledger.Who) (edge.Position, error) {
	others := map[string]bool{}
	f.mu.Lock()
	for _, n := range f.nodes {
		if n.member() && n.refusal != nil && n.refusal.Reason == edge.RefusedEpoch && n.is.At.Epoch != "" && n.is.At.Epoch != f.hubAtLocked().Epoch {
			others[n.is.At.Epoch] = true
		}
	}
	f.mu.Unlock()
	list := slices.Sorted(maps.Keys(others))
	at, err := f.Ledger.AcceptEpoch(who, list[:min(len(list), maxOthers)]...)
	if err == nil {
		f.Changed()
	}
	return at, err
}
