package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
)

// everyNode chooses all nodes, or those with some labels, for a verb that is about
// one node otherwise.
type everyNode struct {
	all      bool
	selector string
}

func (o *everyNode) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.all, "all-nodes", false, "on every node that is connected")
	selectorFlag(cmd, &o.selector, "on connected nodes with such labels, a `SELECTOR`")
}

// each has do run once for the node that --node names, or for each that o chooses. A
// node that is away is told and passed over.
func (sh *shell) eachNode(ctx context.Context, o everyNode, do func() error) error {
	if !o.all && o.selector == "" {
		return do()
	}
	if sh.node != "" {
		return wrongUsage("leave one of them away", "--node names one node, --all-nodes and --selector choose several")
	}
	all, err := sh.nodes(ctx, o.selector)
	if err != nil {
		return err
	}
	var faults []error
	for _, n := range all {
		if n.Standing != edge.Member {
			continue
		}
		if !n.Connected {
			sh.say("%s is away", n.Name)
			continue
		}
		sh.node = n.Name
		if err := do(); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", n.Name, err))
		}
	}
	return errors.Join(faults...)
}
