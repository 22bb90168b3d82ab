package rollout

import (
	"math"
	"slices"
	"strings"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A Seen is a node that the placement and the selector name, as the hub knows it now.
// What it says of other revisions than the rollout's is passed over.
type Seen struct {
	ID       string
	Name     string
	Online   bool
	Cordoned bool                 // it keeps what it runs and gets nothing new
	Report   *edge.FunctionReport // of the rollout's function; nil if the node has told nothing of it
	Unfit    *edge.Unfit          // of the rollout's function, or nil
	Refusal  *edge.Refusal        // that still stands, or nil
}

// runs reports whether the node runs the revision, as far as it has told.
func (n Seen) runs(r functions.Revision) bool { return n.Report != nil && n.Report.Revision == r }

// gaveUp reports whether the node has gone back from the revision by itself.
func (n Seen) gaveUp(r functions.Revision) bool {
	return n.Report != nil && n.Report.Bad == r && n.Report.Revision != r
}

// unfit reports whether the node says that it cannot run the revision.
func (n Seen) unfit(r functions.Revision) bool { return n.Unfit != nil && n.Unfit.Revision == r }

// held reports whether the node's owner lets nothing in now.
func (n Seen) held() bool { return n.Refusal != nil && n.Refusal.Reason == edge.RefusedHeld }

// away reports whether a node that has not the new revision cannot get it now.
func (n Seen) away() bool { return !n.Online || n.held() }

// A scene is a rollout and all that bears on it at one moment.
type scene struct {
	r     *edge.Rollout
	nodes []Seen              // by id
	index map[string]int      // id → place in nodes
	was   edge.RolloutMeasure // the old revision: on nodes that run it, and on the others before they got the new one
}

// look brings what the rollout knows up to date: who left, and what the others did.
func look(r *edge.Rollout, nodes []Seen) *scene {
	s := &scene{r: r, nodes: slices.Clone(nodes), index: make(map[string]int, len(nodes))}
	slices.SortFunc(s.nodes, func(a, b Seen) int { return strings.Compare(a.ID, b.ID) }) // sums of floats depend on their order
	for i, n := range s.nodes {
		s.index[n.ID] = i
	}
	kept, seen := []string(nil), make(map[string]edge.RolloutSeen, len(r.Seen))
	for _, id := range r.Nodes {
		if i, ok := s.index[id]; ok {
			kept, seen[id] = append(kept, id), count(r.Seen[id], s.nodes[i], *r)
		}
	}
	r.Nodes, r.Seen = kept, seen
	for _, n := range s.nodes {
		if was, has := seen[n.ID]; has {
			s.was = plus(s.was, was.Was)
		} else if r.From != "" && n.runs(r.From) {
			s.was = plus(s.was, measure(n.Report))
		}
	}
	return s
}

// count takes over what a node reports. A node may count anew: then what it counted
// until then is kept, so that sums never go backward.
func count(seen edge.RolloutSeen, n Seen, r edge.Rollout) edge.RolloutSeen {
	switch {
	case n.runs(r.To):
		next := measure(n.Report)
		if next.Runs < seen.Now.Runs || next.Failed < seen.Now.Failed {
			seen.Past = plus(seen.Past, seen.Now)
		}
		seen.Now, seen.Stale = next, false
	case r.From != "" && n.runs(r.From):
		if was := measure(n.Report); was.Runs >= seen.Was.Runs { // else it counts anew
			seen.Was = was
		}
	}
	if !n.gaveUp(r.To) && !n.unfit(r.To) {
		seen.Stale = false
	}
	return seen
}

// most is the highest count that is believed: what a node says may not make sums overflow.
const most = 1 << 40

// measure returns what a report says, made sane: it comes from outside.
func measure(f *edge.FunctionReport) edge.RolloutMeasure {
	m := edge.RolloutMeasure{Runs: min(max(f.Runs, 0), most)}
	m.Failed = min(max(f.Failed, 0), m.Runs)
	if f.P95 > 0 && !math.IsInf(f.P95, 0) {
		m.P95 = f.P95
	}
	return m
}

// plus sums up two measures. The 95th percentile of the sum is the mean of theirs by
// runs, of those that know one: near enough for a gate that asks for twice as much.
func plus(a, b edge.RolloutMeasure) edge.RolloutMeasure {
	sum := edge.RolloutMeasure{Runs: min(a.Runs+b.Runs, 1<<20*most), Failed: min(a.Failed+b.Failed, 1<<20*most), P95: max(a.P95, b.P95)}
	if a.P95 > 0 && b.P95 > 0 {
		sum.P95 = (a.P95*float64(a.Runs) + b.P95*float64(b.Runs)) / max(float64(a.Runs+b.Runs), 1)
	}
	return sum
}
