package main

import (
	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/cmd/node"
)

// newRunner is the hidden verb that makes this program a runner: the process
// sandbox starts it, and no person does.
func newRunner() *cobra.Command {
	return &cobra.Command{
		Use:                node.RunnerCommand,
		Hidden:             true,
		DisableFlagParsing: true,
		RunE:               func(cmd *cobra.Command, args []string) error { return node.Runner(cmd.Context(), args) },
	}
}
