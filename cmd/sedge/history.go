package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

func newHistory(sh *shell) *cobra.Command {
	return sh.hubVerb(&cobra.Command{
		Use:   "history FUNCTION",
		Short: "Show what was done to a function, when and by whom",
		Example: `  sedge history night-light
  sedge diff night-light 3 7     # what changed between two of its lines`,
		RunE: func(cmd *cobra.Command, args []string) error { return sh.history(cmd.Context(), args[0]) },
	})
}

func (sh *shell) history(ctx context.Context, name string) error {
	var all []edge.Revision
	err := sh.ask(ctx, name, func(c *client.Client) (err error) {
		all, err = c.History(ctx, name)
		return err
	})
	if err != nil {
		return err
	}
	if done, err := sh.structured(all); done {
		return err
	}
	if sh.output == "name" {
		for _, r := range all {
			fmt.Fprintln(sh.out, r.Number)
		}
		return nil
	}
	t := table{columns: []string{"NUMBER", "ACTION", "REVISION", "WHEN", "BY", "CURRENT"}}
	for _, r := range all {
		mark := cell{}
		if r.Current {
			mark = cell{"yes", green}
		}
		t.add(r.Number, r.Action, r.Revision.Short(), day(r.Time), r.By, mark)
	}
	sh.table(t)
	return nil
}
