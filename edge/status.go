package edge

import (
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// A Definition is a function as a node is told to run it.
type Definition struct {
	Function functions.Function `json:"function"`
	Enabled  bool               `json:"enabled"`
	Selector string             `json:"selector,omitempty"` // of nodes, beside the manifest's placement: Kubernetes syntax; told by the hub alone
	Origin   string             `json:"origin,omitempty"`   // who tells the node: "" for its own hub, or FromCluster
}

// FromCluster is the origin of functions that are resources of the Kubernetes
// cluster that the node belongs to.
const FromCluster = "cluster"

// A Phase says in one word how a function is.
type Phase string

// The phases of a function on a node.
const (
	Asleep   Phase = "asleep"   // no runner: the first event starts one
	Starting Phase = "starting" // a runner is being readied, the broker has not confirmed what it is to hear, or its owner has yet to give what it lacks
	Running  Phase = "running"  // a runner is ready
	Disabled Phase = "disabled" // by an operator: deliveries wait
	Paused   Phase = "paused"   // by the node, for the reason given
	Standby  Phase = "standby"  // another node runs it, as the reason says
	Failing  Phase = "failing"  // it cannot be started, for the reason given
)

// A FunctionStatus is a function on a node, now.
type FunctionStatus struct {
	Name     string                  `json:"name"`
	Revision functions.Revision      `json:"revision"`
	Runtime  string                  `json:"runtime"`
	Origin   string                  `json:"origin,omitempty"` // as in Definition
	Phase    Phase                   `json:"phase"`
	Reason   string                  `json:"reason,omitempty"` // for paused, standby, failing and starting; or which revision the node has given up for this one
	Triggers []string                `json:"triggers"`         // in words: "mqtt zigbee2mqtt/{device}", "cron 0 22 * * * Europe/Berlin", "http POST /night-light"
	Counts   Counts                  `json:"counts"`
	Waiting  int                     `json:"waiting"` // deliveries in memory and in the inbox
	Running  int                     `json:"running"` // attempts under way
	Dead     int                     `json:"dead"`    // dead letters kept
	State    int64                   `json:"stateBytes"`
	LastRun  time.Time               `json:"lastRun,omitzero"`
	LastErr  *functions.Failure      `json:"lastError,omitempty"`
	P50      float64                 `json:"p50Seconds,omitempty"` // of the time from hearing an event to its effects
	P99      float64                 `json:"p99Seconds,omitempty"`
	Instance []functions.Description `json:"instances,omitempty"`
}

// Counts are a function's deliveries on a node since its agent started.
// Taken + Recovered = Done + Filtered + Dead + Expired + Shed + Discarded + Pending, always.
type Counts struct {
	Taken     int64 `json:"taken"`     // events that matched a trigger
	Recovered int64 `json:"recovered"` // found in the inbox at start
	Done      int64 `json:"done"`
	Filtered  int64 `json:"filtered"` // by when, changed, throttle, a false hold, as a duplicate
	Dead      int64 `json:"dead"`
	Expired   int64 `json:"expired"`   // older than delivery.maxAge
	Shed      int64 `json:"shed"`      // QoS 0 with no room
	Discarded int64 `json:"discarded"` // by an operator, or without dead letters
	Pending   int64 `json:"pending"`   // in memory and in the inbox
}

// Lost returns by how much the books do not balance: 0, always.
func (c Counts) Lost() int64 {
	return c.Taken + c.Recovered - c.Done - c.Filtered - c.Dead - c.Expired - c.Shed - c.Discarded - c.Pending
}

// A Step is one line of the trail: what became of an event at one function.
type Step struct {
	Time       time.Time      `json:"time"`
	Function   string         `json:"function"`
	Event      string         `json:"event"` // its id
	Source     devices.Source `json:"source"`
	Topic      string         `json:"topic,omitempty"`
	What       StepKind       `json:"what"`
	Why        string         `json:"why,omitempty"` // the expression that was false, the failure, what it waits for
	Attempt    int            `json:"attempt,omitempty"`
	Took       float64        `json:"tookSeconds,omitempty"` // since the event was heard
	Published  []string       `json:"published,omitempty"`   // topics
	StateKeys  []string       `json:"stateKeys,omitempty"`   // that were written
	Invocation string         `json:"invocation,omitempty"`
}

// A StepKind says what happened. The strings are stored and sent.
type StepKind string

// The kinds of steps.
const (
	StepFiltered  StepKind = "filtered"
	StepDuplicate StepKind = "duplicate"
	StepDebounced StepKind = "debounced" // waits until the device is quiet
	StepHeld      StepKind = "held"      // waits until it has been true for long enough
	StepQueued    StepKind = "queued"    // waits for its lane or a runner
	StepStored    StepKind = "stored"    // waits in the inbox
	StepFailed    StepKind = "failed"    // an attempt failed and will be retried
	StepDone      StepKind = "done"
	StepDead      StepKind = "dead"
	StepExpired   StepKind = "expired"
	StepShed      StepKind = "shed"
	StepDiscarded StepKind = "discarded"
	StepHanded    StepKind = "handed over" // another node of the cluster gets it
)

// A LogLine is one line that a function wrote.
type LogLine struct {
	Time       time.Time       `json:"time"`
	Function   string          `json:"function"`
	Invocation string          `json:"invocation,omitempty"`
	Level      functions.Level `json:"level"`
	Text       string          `json:"text"`
}

// A DeadLetter is a delivery whose attempts are used up.
type DeadLetter struct {
	ID       int64              `json:"id"`
	Function string             `json:"function"`
	Revision functions.Revision `json:"revision"`
	Attempts int                `json:"attempts"`
	Time     time.Time          `json:"time"`
	Failure  functions.Failure  `json:"failure"`
	Event    devices.Event      `json:"event"`
}

// A StateEntry is one key of a function's state.
type StateEntry struct {
	Key     string    `json:"key"`
	Value   string    `json:"value"`   // JSON text
	Version int64     `json:"version"` // for compare-and-set; as HTTP: the ETag
	Expires time.Time `json:"expires,omitzero"`
}

// An Invoke asks for one run by hand.
type Invoke struct {
	Topic   string `json:"topic,omitempty"`
	Payload []byte `json:"payload,omitempty"`
}

// An Invoked is how it went. Its effects were carried out unless Error is set.
type Invoked struct {
	Invocation string             `json:"invocation"`
	Returned   string             `json:"returned,omitempty"` // JSON text
	Published  []string           `json:"published,omitempty"`
	Error      *functions.Failure `json:"error,omitempty"`
	Took       float64            `json:"tookSeconds,omitempty"` // 0 if it did not get to an end
}

// A Query chooses lines of a log or a trail, or dead letters.
type Query struct {
	Function string // "" for all
	Last     int    // how many of the past; 0 for none, negative for all that are kept
	Follow   bool   // and what comes, until the context is done
	After    int64  // dead letters: only ids above it
}

// A Revision is one line of a function's history.
type Revision struct {
	Number   int64              `json:"number"` // the position at which it was made
	Revision functions.Revision `json:"revision"`
	Time     time.Time          `json:"time"`
	By       string             `json:"by"`
	Action   string             `json:"action"` // deploy, rollback, enable, disable, delete
	Current  bool               `json:"current"`
}

// A Check is one line of a node's readiness.
type Check struct {
	Name string `json:"name"` // broker, store, config
	OK   bool   `json:"ok"`
	Why  string `json:"why,omitempty"` // what is wrong; of one that is OK, what somebody should see to all the same
}
