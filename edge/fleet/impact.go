package fleet

import (
	"slices"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/selector"
	"github.com/sedge-iot/sedge/functions"
)

// A Change is one that may take functions from nodes.
type Change struct {
	Delete []string            // functions that are to be no more
	Place  *functions.Function // a function that is to be current, with its placement; or nil
	Where  selector.Selector   // of Place
	Node   string              // the id of a node that is to have other labels; "" for none
	Labels map[string]string   // these
}

// Impact returns how much a change would take from nodes, also from those that are
// away. If it says Confirm, an operator has to confirm the change. The ledger is to be
// told that a change is confirmed if an operator has done so or if it needs none: nodes
// refuse to lose much by what was not.
func (f *Fleet) Impact(c Change) edge.Impact {
	f.mu.Lock()
	defer f.mu.Unlock()
	var sum edge.Impact
	if f.plan == nil {
		return sum
	}
	sum.Confirm = edge.TooMuch(len(c.Delete), len(f.plan.places))
	for _, n := range f.nodes {
		if !n.member() {
			continue
		}
		has := f.plan.group(n).refs
		loses := c.loses(f.plan, n, has)
		if loses == 0 {
			continue
		}
		sum.Nodes++
		sum.Removed += loses
		sum.Confirm = sum.Confirm || edge.TooMuch(loses, len(has))
		if sum.Has == 0 || loses*sum.Has > sum.Loses*len(has) || loses*sum.Has == sum.Loses*len(has) && n.is.Name < sum.Worst {
			sum.Worst, sum.Loses, sum.Has = n.is.Name, loses, len(has)
		}
	}
	return sum
}

// loses returns how many of the functions that a node has go by the change.
func (c Change) loses(p *plan, n *node, has []edge.Ref) int {
	if n.is.ID == c.Node {
		after := n.is
		after.Labels = c.Labels
		stay := p.refs(p.choices(p.matching(after.Labels), &after))
		return count(has, func(r edge.Ref) bool {
			return !slices.ContainsFunc(stay, func(s edge.Ref) bool { return s.Name == r.Name })
		})
	}
	moves := ""
	if c.Place != nil {
		fits := selector.And(selector.Of(c.Place.Manifest.Spec.Placement.Nodes), c.Where)
		if !fits.Matches(labelsOf(&n.is)) {
			moves = c.Place.Name()
		}
	}
	return count(has, func(r edge.Ref) bool { return r.Name == moves || slices.Contains(c.Delete, r.Name) })
}

func count(refs []edge.Ref, which func(edge.Ref) bool) (n int) {
	for _, r := range refs {
		if which(r) {
			n++
		}
	}
	return n
}
