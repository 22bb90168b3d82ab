package edge

import (
	"strconv"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// A Rollout is the staged move of nodes from one revision of a function to the next.
// Package rollout decides what becomes of it.
type Rollout struct {
	ID       int64                  `json:"id"`
	Function string                 `json:"function"`
	From     functions.Revision     `json:"from"` // "" if the function was new
	To       functions.Revision     `json:"to"`
	Selector string                 `json:"selector,omitempty"` // of nodes, Kubernetes syntax
	Stages   []Stage                `json:"stages"`             // the last one is all
	Gate     Gate                   `json:"gate"`
	State    RolloutState           `json:"state"`
	Stage    int                    `json:"stage"`             // the one under way, from 0
	Since    time.Time              `json:"since"`             // when that began, or was resumed
	Skipped  []int                  `json:"skipped,omitempty"` // stages that an operator ended without their gate
	Why      string                 `json:"why,omitempty"`     // it waits, is paused, went back or was aborted
	By       string                 `json:"by"`
	Begun    time.Time              `json:"begun"`
	Ended    time.Time              `json:"ended,omitzero"`
	Nodes    []string               `json:"nodes,omitempty"` // ids of those that have the new revision by now, in the order in which they came
	Seen     map[string]RolloutSeen `json:"seen,omitempty"`  // what they did, by id; of those in Nodes
	Before   RolloutMeasure         `json:"before,omitzero"` // what the old revision did on the nodes in Nodes, before they got the new one
}

// A RolloutSeen is what was seen of a rollout on a node.
type RolloutSeen struct {
	Stage int            `json:"stage"`           // that brought the node
	Now   RolloutMeasure `json:"now,omitzero"`    // the new revision, as the node last reported it
	Past  RolloutMeasure `json:"past,omitzero"`   // the same, before the node's counts began anew
	Was   RolloutMeasure `json:"was,omitzero"`    // the old revision, before the node got the new one
	Stale bool           `json:"stale,omitempty"` // the node had given the new revision up, or found it unfit, before it got it this time
}

// A RolloutMeasure is what a revision did.
type RolloutMeasure struct {
	Runs   int64   `json:"runs"`
	Failed int64   `json:"failed,omitempty"`     // of them
	P95    float64 `json:"p95Seconds,omitempty"` // of a run; 0 if unknown
}

// A Stage is how many of the nodes have the new revision: a count, or a share.
type Stage struct {
	Count   int     `json:"count,omitempty"`
	Percent float64 `json:"percent,omitempty"` // of the nodes, rounded up; 100: all, the ones that come later too
}

// All reports whether the stage is the last one, of every node.
func (s Stage) All() bool { return s.Percent == 100 }

func (s Stage) String() string {
	switch {
	case s.All():
		return "all"
	case s.Count > 0:
		return strconv.Itoa(s.Count)
	}
	return strconv.FormatFloat(s.Percent, 'g', -1, 64) + "%"
}

// A Gate says what must be seen on the nodes of a stage before the next one begins.
type Gate struct {
	MinRuns   int           `json:"minRuns"`   // of the new revision, on the nodes that the stage added, together
	MaxErrors float64       `json:"maxErrors"` // share of the runs that may fail, 0 to 1; as many as of the old revision always may
	MaxP95    float64       `json:"maxP95"`    // how many times that of the old revision the 95th percentile may be; 0: any
	Bake      time.Duration `json:"bake"`      // nanoseconds that a stage lasts at least
	Patience  time.Duration `json:"patience"`  // nanoseconds after which a stage that cannot be passed pauses
}

// A RolloutState is how a rollout is. The strings are stored and the API's.
type RolloutState string

// The states of a rollout.
const (
	Rolling    RolloutState = "rolling"
	Halted     RolloutState = "paused"    // by an operator, or because a stage could not be judged
	Completed  RolloutState = "completed" // every node gets the new revision
	RolledBack RolloutState = "rolled back"
	Aborted    RolloutState = "aborted" // by an operator: the nodes go back
)

// Over reports whether nothing more becomes of it.
func (s RolloutState) Over() bool { return s == Completed || s == RolledBack || s == Aborted }

// A RolloutAsk starts a rollout with a deploy.
type RolloutAsk struct {
	Selector string  `json:"selector,omitempty"` // "" for every node that the manifest's placement allows
	Stages   []Stage `json:"stages,omitempty"`   // none, and no gate: every node at once, without a rollout
	Gate     *Gate   `json:"gate,omitempty"`     // nil for the usual one
}
