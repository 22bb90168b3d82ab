package rollout

import (
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// Begin returns the rollout that ask starts, of a function's revision from, which is
// "" if it is new, to another. It has no ID yet: the first [Step] wants one, since it
// decides which nodes come first. No stages in ask mean one of all nodes at once. The
// error is an [*edge.Error] that is Invalid; the selector is the caller's to check.
func Begin(ask edge.RolloutAsk, function string, from, to functions.Revision, by string, now time.Time) (edge.Rollout, error) {
	r := edge.Rollout{
		Function: function, From: from, To: to, Selector: ask.Selector, Stages: ask.Stages, Gate: Usual(),
		State: edge.Rolling, Since: now, By: by, Begun: now,
	}
	if ask.Gate != nil {
		r.Gate = *ask.Gate
	}
	if n := len(r.Stages); n == 0 || !r.Stages[n-1].All() {
		r.Stages = append(r.Stages[:n:n], edge.Stage{Percent: 100})
	}
	if err := checkStages(r.Stages); err != nil {
		return edge.Rollout{}, err
	}
	if err := CheckGate(r.Gate); err != nil {
		return edge.Rollout{}, err
	}
	if from == to {
		return edge.Rollout{}, invalid("", "%s runs revision %s already", function, to)
	}
	return r, nil
}

// Pause holds a rollout where it is. What is wrong still takes it back.
// The error is an [*edge.Error] that is a Conflict: the rollout is over or paused.
func Pause(r edge.Rollout, by string) (edge.Rollout, error) {
	if r.State != edge.Rolling {
		return r, conflict(r, "pause")
	}
	r.State, r.Why = edge.Halted, "paused by "+by
	return r, nil
}

// Resume lets a paused rollout go on: its stage begins anew with its bake time and its
// patience, and keeps what it has seen. The error is an [*edge.Error] that is a Conflict.
func Resume(r edge.Rollout, by string, now time.Time) (edge.Rollout, error) {
	if r.State != edge.Halted {
		return r, conflict(r, "resume")
	}
	r.State, r.Since, r.Why = edge.Rolling, now, "resumed by "+by
	return r, nil
}

// Promote ends the stage under way without its gate, paused or not: the next one
// begins, or the rollout is completed. The error is an [*edge.Error] that is a Conflict.
func Promote(r edge.Rollout, by string, now time.Time) (edge.Rollout, error) {
	if r.State.Over() {
		return r, conflict(r, "promote")
	}
	why := fmt.Sprintf("%s ended stage %d without its gate", by, r.Stage+1)
	r.Skipped = append(r.Skipped[:len(r.Skipped):len(r.Skipped)], r.Stage)
	if r.Stage == len(r.Stages)-1 {
		return end(r, edge.Completed, why, now), nil
	}
	r.State, r.Stage, r.Since, r.Why = edge.Rolling, r.Stage+1, now, why
	return r, nil
}

// Abort ends a rollout and takes its nodes back. The error is an [*edge.Error] that is
// a Conflict: the rollout is over.
func Abort(r edge.Rollout, by string, now time.Time) (edge.Rollout, error) {
	if r.State.Over() {
		return r, conflict(r, "abort")
	}
	return end(r, edge.Aborted, "aborted by "+by, now), nil
}

// end ends a rollout. Nodes stays, to say how far it came.
func end(r edge.Rollout, as edge.RolloutState, why string, now time.Time) edge.Rollout {
	r.State, r.Why, r.Ended, r.Seen = as, why, now, nil
	return r
}

func conflict(r edge.Rollout, what string) error {
	return &edge.Error{
		Code:    edge.Conflict,
		Message: fmt.Sprintf("cannot %s rollout %d of %s: it is %s", what, r.ID, r.Function, r.State),
	}
}

// Revisions returns which revision each node, by its id, is to run as things are; ""
// for none. Ask it of nodes that the placement and the selector name.
func Revisions(r edge.Rollout) func(node string) functions.Revision {
	switch r.State {
	case edge.Completed:
		return func(string) functions.Revision { return r.To }
	case edge.RolledBack, edge.Aborted:
		return func(string) functions.Revision { return r.From }
	}
	reached := make(map[string]bool, len(r.Nodes))
	for _, id := range r.Nodes {
		reached[id] = true
	}
	return func(node string) functions.Revision {
		if reached[node] {
			return r.To
		}
		return r.From
	}
}
