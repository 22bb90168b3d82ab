package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/edge/selector"
)

// newNodeSteer makes a verb that does one thing to each of some nodes.
func newNodeSteer(sh *shell, verb, short, done string, do func(*client.Client, context.Context, string) (edge.Node, error)) *cobra.Command {
	return sh.nodeArgs(&cobra.Command{
		Use:     verb + " NODE...",
		Short:   short,
		Example: "  sedge node " + verb + " pi-7",
		RunE: func(cmd *cobra.Command, names []string) error {
			return sh.steerNodes(cmd.Context(), names, done, do)
		},
	})
}

func (sh *shell) steerNodes(ctx context.Context, names []string, done string, do func(*client.Client, context.Context, string) (edge.Node, error)) error {
	var all []edge.Node
	for _, name := range names {
		err := sh.askNode(ctx, name, func(c *client.Client) error {
			n, err := do(c, ctx, name)
			all = append(all, n)
			return err
		})
		if err != nil {
			return errors.Join(sh.printSteered(all[:len(all)-1], done), err)
		}
	}
	return sh.printSteered(all, done)
}

func (sh *shell) printSteered(all []edge.Node, done string) error {
	if structured, err := sh.structured(all); structured {
		return err
	}
	for _, n := range all {
		if sh.output == "name" {
			fmt.Fprintln(sh.out, n.Name)
			continue
		}
		fmt.Fprintf(sh.out, "%s %s\n", n.Name, done)
	}
	return nil
}

func newNodeRevoke(sh *shell) *cobra.Command {
	var yes bool
	cmd := sh.nodeArgs(&cobra.Command{
		Use:   "revoke NODE...",
		Short: "Shut nodes out for ever, such as stolen ones",
		Long: `Shut nodes out for ever, such as stolen ones: at once where they are connected.
What they run they go on running, and what they know they know: change the
secrets that were on them.`,
		Example: `  sedge node revoke pi-7`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if !yes {
				if err := sh.confirm("Shut out " + strings.Join(names, ", ") + " for ever?"); err != nil {
					return err
				}
			}
			return sh.steerNodes(cmd.Context(), names, "revoked", (*client.Client).Revoke)
		},
	})
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func newNodeAcceptEpoch(sh *shell) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "accept-epoch",
		Short: "Give up what nodes know and the hub does not",
		Long: `Give up what nodes know and the hub does not, after it was restored from an old
backup, or after its data was lost. Until then nodes that know more refuse to go
back, and the hub refuses changes. What the backup has not is undone on every node:
restore a newer one if there is any.`,
		Example: `  sedge node list -o wide     # which nodes refuse, and why
  sedge node accept-epoch`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				if err := sh.confirm("Undo on every node what the hub does not know?"); err != nil {
					return err
				}
			}
			return sh.acceptEpoch(cmd.Context())
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (sh *shell) acceptEpoch(ctx context.Context) error {
	var at edge.Position
	err := sh.ask(ctx, "", func(c *client.Client) (err error) {
		at, err = c.AcceptEpoch(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if done, err := sh.structured(at); done {
		return err
	}
	fmt.Fprintf(sh.out, "nodes follow the hub again, from revision %d\n", at.Revision)
	return nil
}

func newNodeRemove(sh *shell) *cobra.Command {
	var yes bool
	cmd := sh.nodeArgs(&cobra.Command{
		Use:     "remove NODE...",
		Aliases: []string{"rm", "delete"},
		Short:   "Take nodes out of the fleet; they may join again",
		Example: `  sedge node remove pi-7`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if !yes {
				if err := sh.confirm("Take " + strings.Join(names, ", ") + " out of the fleet?"); err != nil {
					return err
				}
			}
			return sh.steerNodes(cmd.Context(), names, "removed", func(c *client.Client, ctx context.Context, name string) (edge.Node, error) {
				return edge.Node{Name: name, Standing: edge.Departed}, c.RemoveNode(ctx, name)
			})
		},
	})
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func newNodeLabel(sh *shell) *cobra.Command {
	var yes bool
	cmd := sh.nodeArgs(&cobra.Command{
		Use:   "label NODE KEY=VALUE...",
		Short: "Change the labels of a node; KEY- removes one",
		Example: `  sedge node label pi-7 site=home room=hall
  sedge node label pi-7 room-`,
		RunE: func(cmd *cobra.Command, args []string) error {
			change, err := selector.ParseChanges(strings.Join(args[1:], ","))
			if err != nil {
				return wrongUsage("like room=hall to set, room- to remove", "%s", err)
			}
			return sh.label(cmd.Context(), args[0], change, yes)
		},
	})
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask, though it takes many functions away")
	return cmd
}

func (sh *shell) label(ctx context.Context, name string, change selector.Changes, confirmed bool) error {
	return sh.guarded(confirmed, func(confirmed bool) error {
		return sh.steerNodes(ctx, []string{name}, "labelled", func(c *client.Client, ctx context.Context, name string) (edge.Node, error) {
			return c.Label(ctx, name, change, confirmed)
		})
	})
}

// guarded does what may take many functions away from nodes. If the hub wants that to
// be confirmed, the user is asked, and it is done again.
func (sh *shell) guarded(confirmed bool, do func(confirmed bool) error) error {
	err := do(confirmed)
	e, ok := errors.AsType[*edge.Error](err)
	if !ok || e.Code != edge.Unconfirmed || confirmed {
		return err
	}
	fmt.Fprintln(sh.talk, e.Message)
	if err := sh.confirm("Do it all the same?"); err != nil {
		return err
	}
	return do(true)
}
