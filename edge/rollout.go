package edge

import (
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// A Rollout is the staged move of nodes from one revision of a function to the next.
type Rollout struct {
	ID       int64              `json:"id"`
	Function string             `json:"function"`
	From     functions.Revision `json:"from"` // "" if the function was new
	To       functions.Revision `json:"to"`
	Selector string             `json:"selector,omitempty"` // of nodes, Kubernetes syntax
	Stages   []Stage            `json:"stages"`             // the last one is all
	Gate     Gate               `json:"gate"`
	State    RolloutState       `json:"state"`
	Stage    int                `json:"stage"`         // the one under way, from 0
	Since    time.Time          `json:"since"`         // when it began, or was resumed
	Why      string             `json:"why,omitempty"` // it waits, is paused, went back or failed
	By       string             `json:"by"`
	Begun    time.Time          `json:"begun"`
	Ended    time.Time          `json:"ended,omitzero"`
	Nodes    []string           `json:"nodes,omitempty"` // ids of those that have the new revision by now, in the order in which they came
}

// A Stage is how many of the nodes have the new revision: a count, or a share.
type Stage struct {
	Count   int     `json:"count,omitempty"`
	Percent float64 `json:"percent,omitempty"`
}

// A Gate says what must be seen on the nodes of a stage before the next one begins.
type Gate struct {
	MinRuns   int           `json:"minRuns"`   // of the new revision, on real events, on all nodes of the stages so far
	MaxErrors float64       `json:"maxErrors"` // share of the runs that may fail, 0 to 1
	MaxP95    float64       `json:"maxP95"`    // how many times that of the old revision the 95th percentile may be; 0: any
	Bake      time.Duration `json:"bake"`      // nanoseconds that a stage lasts at least
	Patience  time.Duration `json:"patience"`  // nanoseconds after which a stage that cannot be judged pauses
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
	Stages   []Stage `json:"stages,omitempty"`   // none: every node at once, without a gate
	Gate     *Gate   `json:"gate,omitempty"`     // nil for the usual one
}
