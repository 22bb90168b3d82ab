package rollout

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// Step returns what becomes of a rollout, given all nodes that the placement and the
// selector name, in any order. It reports whether the result is worth storing and
// telling: counts alone are not, for nodes say them again; keep the returned rollout
// in any case. It changes nothing of what it is given.
//
// Who has the new revision. A stage takes as many nodes as it says, connected ones
// first, for one that is away teaches nothing; among equals the order is by a digest of
// the rollout's and the node's ids. A node keeps the revision until the rollout goes
// back or it leaves the selection; a new node then fills its place. Cordoned nodes
// get nothing new and are not counted.
//
// A stage passes when, of the nodes that have the new revision, all that are connected
// run it and are well, and of the nodes that the stage added one at least is connected,
// they have run it MinRuns times together, no more failed than the gate allows or than
// failed before, the 95th percentile holds, and the stage has lasted Bake. A stage that
// added no node passes with the one before it. The last stage passes alike, and the
// rollout is completed.
//
// It goes back, paused or not, when a node gives the revision up, cannot run or cannot
// start it, or when clearly more runs fail than the gate allows and than did before:
// three at least, or MinRuns if that is less, and more than chance explains.
//
// Otherwise the stage waits, and says in Why for what; after Patience it pauses.
func Step(r edge.Rollout, nodes []Seen, now time.Time) (edge.Rollout, bool) {
	if r.State.Over() {
		return r, false
	}
	old := r
	s := look(&r, nodes)
	if now.Before(r.Since) { // the hub's clock was set back
		r.Since = now
	}
	if why := s.bad(); why != "" {
		r = end(r, edge.RolledBack, why, now)
	} else if r.State == edge.Rolling {
		s.roll(now)
	}
	return r, differs(old, r)
}

// roll goes on as far as the stages pass.
func (s *scene) roll(now time.Time) {
	for r := s.r; ; r.Stage, r.Since, r.Why = r.Stage+1, now, "" {
		s.fill()
		why := s.missing(now)
		switch {
		case why == "" && r.Stage == len(r.Stages)-1:
			*r = end(*r, edge.Completed, skipped(*r), now)
			return
		case why != "" && now.Sub(r.Since) >= max(r.Gate.Patience, r.Gate.Bake):
			r.State = edge.Halted
			r.Why = fmt.Sprintf("paused after %v: %s; resume it to wait again, or promote it to go on without the gate", now.Sub(r.Since).Round(time.Second), why)
			return
		case why != "":
			r.Why = why
			return
		}
	}
}

// fill gives the new revision to as many nodes as the stage says.
func (s *scene) fill() {
	r := s.r
	var next []Seen // that could get it
	for _, n := range s.nodes {
		if _, has := r.Seen[n.ID]; !has && !n.Cordoned {
			next = append(next, n)
		}
	}
	n := size(r.Stages[:r.Stage+1], len(r.Nodes)+len(next)) - len(r.Nodes)
	if n <= 0 {
		return
	}
	rank := make(map[string][sha256.Size]byte, len(next))
	for _, n := range next {
		rank[n.ID] = sha256.Sum256(fmt.Appendf(nil, "%d/%s", r.ID, n.ID))
	}
	slices.SortFunc(next, func(a, b Seen) int {
		x, y := rank[a.ID], rank[b.ID]
		return cmp.Or(btoi(a.away())-btoi(b.away()), bytes.Compare(x[:], y[:]))
	})
	for _, node := range next[:n] {
		r.Nodes = append(r.Nodes, node.ID)
		seen := edge.RolloutSeen{Stage: r.Stage, Stale: node.gaveUp(r.To) || node.unfit(r.To)}
		r.Seen[node.ID] = count(seen, node, *r)
	}
}

// size returns how many of all nodes are to have the revision in the last of stages.
func size(stages []edge.Stage, all int) int {
	n := 0
	for _, s := range stages {
		n = max(n, s.Count, int(math.Ceil(s.Percent/100*float64(all)-1e-9)))
	}
	return min(n, all)
}

// differs reports whether more than counts has changed.
func differs(a, b edge.Rollout) bool {
	return a.State != b.State || a.Stage != b.Stage || a.Why != b.Why || !a.Since.Equal(b.Since) || !slices.Equal(a.Nodes, b.Nodes)
}

// skipped says of a completed rollout what it has not shown.
func skipped(r edge.Rollout) string {
	if len(r.Skipped) == 0 {
		return ""
	}
	why := "without the gate of stage "
	for i, stage := range r.Skipped {
		if i > 0 {
			why += ", "
		}
		why += fmt.Sprint(stage + 1)
	}
	return why
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
