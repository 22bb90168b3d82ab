package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

func newRollback(sh *shell) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "rollback FUNCTION",
		Short: "Go back to an earlier revision of a function",
		Example: `  sedge rollback night-light           # to the one before
  sedge rollback night-light --to 3    # to a line of sedge history`,
		RunE: func(cmd *cobra.Command, names []string) error {
			back := func(c *client.Client, ctx context.Context, name string) (edge.Change, error) {
				return c.Rollback(ctx, name, to)
			}
			return sh.change(cmd.Context(), "rolled back to", names, back)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "`REVISION`: a number of the history, or a revision, which may be shortened")
	return sh.hubVerb(cmd)
}
