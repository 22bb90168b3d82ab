package fleet

import (
	"slices"
	"time"

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

// memoryTime is how long what was taken away counts together with what is about to be: who
// deletes one function after the other is asked as well as who deletes all at once.
const memoryTime = 10 * time.Minute

// maxTaken is how many places that were taken away are remembered.
const maxTaken = 1000

// A taken place is one where a function was to run, and is not any more.
type taken struct {
	place
	at time.Time
}

// Impact returns how much a change would take from nodes, also from those that are
// away, together with what they lost lately. If it says Confirm, an operator has to confirm
// the change. The ledger is to be told that a change is confirmed if an operator has done
// so or if it needs none: nodes refuse to lose much by what was not.
func (f *Fleet) Impact(c Change) edge.Impact {
	f.mu.Lock()
	defer f.mu.Unlock()
	var sum edge.Impact
	if f.plan == nil {
		return sum
	}
	lately := f.takenLocked(time.Now())
	if len(c.Delete) > 0 {
		sum.Deleted, sum.Functions = len(c.Delete), len(f.plan.places)
		for name := range lately {
			if !f.plan.has(name) {
				sum.Deleted++
				sum.Functions++
			}
		}
		sum.Confirm = edge.TooMuch(sum.Deleted, sum.Functions)
	}
	for _, n := range f.nodes {
		if !n.member() {
			continue
		}
		has := f.plan.group(n).refs
		loses := c.loses(f.plan, n, has)
		if loses == 0 {
			continue
		}
		before := lost(n, has, lately)
		loses, had := loses+before, len(has)+before
		sum.Nodes++
		sum.Removed += loses
		sum.Confirm = sum.Confirm || edge.TooMuch(loses, had)
		if sum.Has == 0 || loses*sum.Has > sum.Loses*had || loses*sum.Has == sum.Loses*had && n.is.Name < sum.Worst {
			sum.Worst, sum.Loses, sum.Has = n.is.Name, loses, had
		}
	}
	return sum
}

// Confirmed says that an operator knows what was taken away so far.
func (f *Fleet) Confirmed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taken = nil
}

// rememberLocked notes what next, which becomes the plan, has no more where it was.
func (f *Fleet) rememberLocked(next *plan) {
	if f.plan == nil || f.plan == next {
		return
	}
	where := map[string]string{}
	for _, one := range next.places {
		where[one.now.Name] = one.fits.String()
	}
	for _, was := range f.plan.places {
		if now, there := where[was.now.Name]; !there || now != was.fits.String() {
			f.taken = append(f.taken, taken{was, time.Now()})
		}
	}
	f.taken = slices.Clone(f.taken[max(0, len(f.taken)-maxTaken):])
}

// takenLocked returns what was taken away lately, by the name of the function.
func (f *Fleet) takenLocked(now time.Time) map[string]place {
	f.taken = slices.DeleteFunc(f.taken, func(t taken) bool { return now.Sub(t.at) > memoryTime })
	lately := map[string]place{}
	for _, t := range slices.Backward(f.taken) {
		lately[t.now.Name] = t.place // where it was first
	}
	return lately
}

// lost returns how many functions a node has lost of those that were taken away.
func lost(n *node, has []edge.Ref, lately map[string]place) (count int) {
	if len(lately) == 0 {
		return 0
	}
	labels := n.is.PlacedBy()
	for name, was := range lately {
		if was.fits.Matches(labels) && !slices.ContainsFunc(has, func(r edge.Ref) bool { return r.Name == name }) {
			count++
		}
	}
	return count
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
		if !fits.Matches(n.is.PlacedBy()) {
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
