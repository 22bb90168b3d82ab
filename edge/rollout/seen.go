package rollout

import "github.com/sedge-iot/sedge/edge"

// A Seen is a node that the placement and the selector name, as the hub knows it now.
// What it says of other revisions than the rollout's is passed over.
type Seen struct {
	ID       string
	Name     string
	Online   bool
	Cordoned bool                 // it keeps what it runs and gets nothing new
	Report   *edge.FunctionReport // of the rollout's function; nil if the node has told nothing of it, or is gone
	Unfit    *edge.Unfit          // of the rollout's function, or nil
	Refusal  *edge.Refusal        // that still stands, or nil
}
