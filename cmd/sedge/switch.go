package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

func newEnable(sh *shell) *cobra.Command {
	return sh.hubVerb(&cobra.Command{
		Use:     "enable FUNCTION...",
		Short:   "Let a function run again",
		Example: `  sedge enable night-light`,
		RunE: func(cmd *cobra.Command, names []string) error {
			return sh.change(cmd.Context(), "enabled", names, (*client.Client).Enable)
		},
	})
}

func newDisable(sh *shell) *cobra.Command {
	return sh.hubVerb(&cobra.Command{
		Use:     "disable FUNCTION...",
		Short:   "Pause a function; its events wait",
		Example: `  sedge disable night-light`,
		RunE: func(cmd *cobra.Command, names []string) error {
			return sh.change(cmd.Context(), "disabled", names, (*client.Client).Disable)
		},
	})
}

// change does one thing to each of the named functions and tells what became
// of them.
func (sh *shell) change(ctx context.Context, done string, names []string, do func(*client.Client, context.Context, string) (edge.Change, error)) error {
	word := func(c edge.Change) string {
		if !c.Changed {
			return "unchanged"
		}
		return done
	}
	var all []edge.Change
	for _, name := range names {
		err := sh.ask(ctx, name, func(c *client.Client) error {
			change, err := do(c, ctx, name)
			if err == nil {
				all = append(all, change)
			}
			return err
		})
		if err != nil {
			return errors.Join(sh.printChanges(all, word), err)
		}
	}
	return sh.printChanges(all, word)
}

// printChanges tells what became of functions, if of any, each with the word
// that word gives.
func (sh *shell) printChanges(all []edge.Change, word func(edge.Change) string) error {
	if len(all) == 0 {
		return nil
	}
	if done, err := sh.structured(all); done {
		return err
	}
	for _, c := range all {
		switch {
		case sh.output == "name":
			fmt.Fprintln(sh.out, c.Function)
		case c.DryRun:
			fmt.Fprintf(sh.out, "%s %s (dry run)\n", c.Function, word(c))
		default:
			fmt.Fprintf(sh.out, "%s %s %s\n", c.Function, word(c), sh.paint(sh.out, dim, "revision "+c.Revision.Short()))
		}
	}
	return nil
}
