package fleet

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/selector"
	"github.com/sedge-iot/sedge/functions"
)

// First returns the first of [Fleet.Candidates], or nil.
func (f *Fleet) First(of functions.Function, where selector.Selector) *Remote {
	for _, on := range f.Candidates(of, where) {
		return on
	}
	return nil
}

// Candidates returns the connected nodes on which the function would be placed, where it may
// be tried first. where is the selector that goes with the function. They come by name; those
// that run a function of that name already before others; those that another replica has
// last, for that is a hop more.
func (f *Fleet) Candidates(of functions.Function, where selector.Selector) (all []*Remote) {
	fits := selector.And(selector.Of(of.Manifest.Spec.Placement.Nodes), where)
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*node
	for _, n := range f.nodes {
		if n.online() && n.fed() && fits.Matches(n.is.PlacedBy()) {
			list = append(list, n)
		}
	}
	rank := func(n *node) (rank int) {
		if n.session == nil {
			rank += 2
		}
		if n.report(of.Name()) == nil {
			rank++
		}
		return rank
	}
	slices.SortFunc(list, func(x, y *node) int { return cmp.Or(rank(x)-rank(y), cmp.Compare(x.is.Name, y.is.Name)) })
	for _, n := range list {
		all = append(all, &Remote{f, n.is.ID, n.is.Name})
	}
	return all
}

// WaitAt waits until a node, by its id, has all that it is to have as of that position
// or a later one. The error is that of ctx, or an *[edge.Error] that says why waiting does not help: the
// node is away, is left as it is, or does not take what it is told.
func (f *Fleet) WaitAt(ctx context.Context, id string, at edge.Position) error {
	return f.wait(ctx, func() (bool, error) {
		n := f.nodes[id]
		hub := f.hubAtLocked()
		switch {
		case n == nil || !n.online():
			name := id
			if n != nil {
				name = n.is.Name
			}
			return false, f.goneLocked(n, name)
		case hub.Epoch != at.Epoch || hub.Revision < at.Revision:
			return false, nil
		case !n.fed():
			return false, &edge.Error{Code: edge.Conflict, Message: fmt.Sprintf("node %s gets nothing new: it is cordoned or no member of the fleet", n.is.Name)}
		case n.inStep():
			return true, nil
		case n.refusal != nil && n.set != nil && n.refusal.To == n.set.At():
			r := advised(*n.refusal)
			return false, &edge.Error{Code: edge.Conflict, Message: fmt.Sprintf("node %s does not take it: %s", n.is.Name, r.Why)}
		}
		return false, nil
	})
}

// WaitFor waits until the fleet knows what the ledger held at a position, so that what it
// says of nodes and functions is of then or later. The error is that of ctx.
func (f *Fleet) WaitFor(ctx context.Context, at edge.Position) error {
	return f.wait(ctx, func() (bool, error) {
		hub := f.hubAtLocked()
		return hub.Epoch == at.Epoch && hub.Revision >= at.Revision, nil
	})
}

// wait waits until done, which is called with Fleet.mu held, says true or fails.
func (f *Fleet) wait(ctx context.Context, done func() (bool, error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting++
	defer func() { f.waiting-- }()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		stir := f.stir
		f.mu.Unlock()
		select {
		case <-stir:
		case <-ctx.Done():
		}
		f.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// Spread returns how each function is spread over the nodes whose labels the selector
// matches, by its name. Nodes that are away count as they last said to be.
func (f *Fleet) Spread(where selector.Selector) map[string]edge.Spread {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]edge.Spread{}
	if f.plan == nil {
		return all
	}
	now := map[string]functions.Revision{}
	for _, one := range f.plan.places {
		all[one.now.Name] = edge.Spread{}
		now[one.now.Name] = one.now.Revision
	}
	for _, n := range f.nodes {
		if !n.member() || !where.Matches(n.is.PlacedBy()) {
			continue
		}
		for _, ref := range f.plan.group(n).refs {
			s := all[ref.Name]
			n.spread(&s, ref, now[ref.Name])
			all[ref.Name] = s
		}
	}
	return all
}

// spread counts the node, on which ref is placed, among those of a function.
func (n *node) spread(s *edge.Spread, ref edge.Ref, now functions.Revision) {
	current := n.inStep() && ref.Revision == now
	s.Placed++
	if n.online() {
		s.Connected++
		if !current && n.fed() && !n.holds() {
			s.Behind++
		}
	}
	report := n.report(ref.Name)
	switch {
	case report != nil && report.Phase == edge.Failing:
		s.Failing++
	case report != nil && report.Bad != "":
		s.GivenUp++
	}
	if n.unfitFor(ref.Name) != nil {
		s.Unfit++
	} else if current {
		s.Current++
	}
}
