package edge

import "fmt"

// A Spread is how a function is spread over the nodes of a fleet: how many of them.
type Spread struct {
	Placed    int `json:"placed"`            // are to run it
	Connected int `json:"connected"`         // of them
	Current   int `json:"current"`           // of Placed: have its current revision, as they last said
	Behind    int `json:"behind,omitempty"`  // of Connected: have not, and are neither cordoned nor held by their owner
	Unfit     int `json:"unfit,omitempty"`   // cannot run what they were told to
	Failing   int `json:"failing,omitempty"` // cannot start it
	GivenUp   int `json:"givenUp,omitempty"` // went back to an earlier revision by themselves
}

// An Impact is how much a change takes from nodes, together with what was taken from them in
// the minutes before.
type Impact struct {
	Nodes     int    `json:"nodes"`               // that lose functions
	Removed   int    `json:"removed"`             // functions that go from nodes, each node counted
	Worst     string `json:"worst,omitempty"`     // the name of the node that loses the largest share
	Loses     int    `json:"loses,omitempty"`     // how many it loses
	Has       int    `json:"has,omitempty"`       // of how many
	Deleted   int    `json:"deleted,omitempty"`   // functions that the hub has no more
	Functions int    `json:"functions,omitempty"` // of how many
	Confirm   bool   `json:"confirm"`             // it takes more than 30 %, and at least 3, of the functions of a node or of the hub, or all of several: an operator has to confirm that
}

// String says how much that is, in a sentence.
func (i Impact) String() string {
	switch i.Nodes {
	case 0:
		return fmt.Sprintf("this deletes %d of %d functions", i.Deleted, i.Functions)
	case 1:
		return fmt.Sprintf("this takes %d of %d functions from node %s", i.Loses, i.Has, i.Worst)
	}
	return fmt.Sprintf("this takes %d functions from %d nodes; node %s loses %d of %d", i.Removed, i.Nodes, i.Worst, i.Loses, i.Has)
}

// TooMuch reports whether taking away so many of so many functions is to be confirmed by
// an operator: all there are, but for a single one, or too large a share.
func TooMuch(removed, of int) bool {
	if removed == of {
		return removed > 1
	}
	return removed >= guardCount && float64(removed) > guardShare*float64(of)
}
