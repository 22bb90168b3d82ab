package edge

import (
	"encoding/json"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// A Deploy is a function on its way to the hub: either Function, or Manifest
// and Code.
type Deploy struct {
	Manifest json.RawMessage     `json:"manifest,omitempty"` // an object, or a string of YAML
	Code     string              `json:"code,omitempty"`     // what the manifest's source.path holds
	Function *functions.Function `json:"function,omitempty"`

	Rollout   *RolloutAsk `json:"rollout,omitempty"`   // on which nodes, and in which stages; nil: all that its placement allows, at once
	Signature string      `json:"signature,omitempty"` // an operator's, of the revision: as [Ref]
}

// A Change is what became of a function by deploy, rollback, enable or disable.
type Change struct {
	Function string             `json:"function"`
	Revision functions.Revision `json:"revision"`           // the current one now
	Previous functions.Revision `json:"previous,omitempty"` // the current one before, if that was another
	Enabled  bool               `json:"enabled"`
	Created  bool               `json:"created"`
	Changed  bool               `json:"changed"` // false: it was so already
	DryRun   bool               `json:"dryRun,omitempty"`
	Rollout  *Rollout           `json:"rollout,omitempty"` // that it has begun
	Untried  string             `json:"untried,omitempty"` // why no node has loaded it before it was recorded
	Spread   Spread             `json:"nodes"`
}

// A Deleted is what became of a function by delete.
type Deleted struct {
	Function  string `json:"function"`
	Discarded int    `json:"discarded"` // deliveries that waited for it
	Purged    bool   `json:"purged"`    // its state and dead letters went too
}

// A FunctionDetail is a function as it is defined and as it is.
type FunctionDetail struct {
	Definition
	Selector string         `json:"selector,omitempty"` // of the nodes it is on, beside the manifest's placement
	Status   FunctionStatus `json:"status"`             // of the node that was asked about, or of all together
	Spread   Spread         `json:"nodes"`
	Rollout  *Rollout       `json:"rollout,omitempty"` // under way
}

// A Rollback names the revision to go back to.
type Rollback struct {
	To string `json:"to,omitempty"` // a number of the history or a revision, which may be shortened; "" for the one before
}

// A DeadChoice chooses dead letters to redrive or discard: by id, all of one
// function, or all there are.
type DeadChoice struct {
	Function string  `json:"function,omitempty"`
	IDs      []int64 `json:"ids,omitempty"`
	All      bool    `json:"all,omitempty"` // must be set when Function and IDs are empty
}

// A StateValue is what a key of a function's state is set to.
type StateValue struct {
	Value   string    `json:"value"` // JSON text
	Expires time.Time `json:"expires,omitzero"`
}

// A Version says which program answers.
type Version struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	Node    string `json:"node"`
	API     string `json:"api,omitempty"` // v1, where there is one
}
