package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

type deleteOptions struct {
	yes, purge, dryRun bool
}

func newDelete(sh *shell) *cobra.Command {
	var o deleteOptions
	cmd := &cobra.Command{
		Use:     "delete FUNCTION...",
		Aliases: []string{"rm"},
		Short:   "Delete functions",
		Long: `Delete functions. Deliveries that wait for them are discarded, and you are told
how many before you agree. State and dead letters stay, unless you say --purge.`,
		Example: `  sedge delete night-light
  sedge delete night-light -y --purge
  sedge delete night-light --dry-run     # what would go?`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if sh.inCluster() {
				return sh.deleteFromCluster(cmd.Context(), names, o)
			}
			return sh.delete(cmd.Context(), names, o)
		},
	}
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&o.purge, "purge", false, "delete state and dead letters too")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would go, delete nothing")
	return sh.clusterVerb(sh.hubVerb(cmd))
}

func (sh *shell) delete(ctx context.Context, names []string, o deleteOptions) error {
	if o.dryRun {
		return sh.dryDelete(ctx, names, o.purge)
	}
	if !o.yes {
		if err := sh.confirmDelete(ctx, names, o.purge); err != nil {
			return err
		}
		o.yes = len(names) > 1 // how many is known
	}
	var all []edge.Deleted
	for _, name := range names {
		err := sh.ask(ctx, name, func(c *client.Client) error {
			return sh.guarded(o.yes, func(confirmed bool) error {
				gone, err := c.Delete(ctx, name, client.DeleteOptions{Purge: o.purge, Confirmed: confirmed})
				if err == nil {
					all = append(all, gone)
				}
				return err
			})
		})
		if err != nil {
			return errors.Join(sh.printDeleted(all), err)
		}
	}
	return sh.printDeleted(all)
}

func (sh *shell) printDeleted(all []edge.Deleted) error {
	if len(all) == 0 {
		return nil
	}
	if done, err := sh.structured(all); done {
		return err
	}
	for _, d := range all {
		switch {
		case sh.output == "name":
			fmt.Fprintln(sh.out, d.Function)
		case d.Discarded > 0:
			fmt.Fprintf(sh.out, "%s deleted, %s discarded\n", d.Function, plural(d.Discarded, "delivery", "deliveries"))
		default:
			fmt.Fprintf(sh.out, "%s deleted\n", d.Function)
		}
	}
	return nil
}

func (sh *shell) confirmDelete(ctx context.Context, names []string, purge bool) error {
	all, err := sh.statuses(ctx, names)
	if err != nil {
		return err
	}
	for _, f := range all {
		fmt.Fprintf(sh.talk, "%s: %s\n", f.Name, loss(f, purge))
	}
	return sh.confirm("Delete " + plural(len(all), "function", "functions") + "?")
}

// dryDelete prints what deleting would do.
func (sh *shell) dryDelete(ctx context.Context, names []string, purge bool) error {
	all, err := sh.statuses(ctx, names)
	if err != nil {
		return err
	}
	would := make([]edge.Deleted, len(all))
	for i, f := range all {
		would[i] = edge.Deleted{Function: f.Name, Discarded: f.Waiting, Purged: purge}
	}
	if done, err := sh.structured(would); done {
		return err
	}
	for _, f := range all {
		if sh.output == "name" {
			fmt.Fprintln(sh.out, f.Name)
			continue
		}
		fmt.Fprintf(sh.out, "%s deleted (dry run): %s\n", f.Name, loss(f, purge))
	}
	return nil
}

// loss says what goes with a function.
func loss(f edge.FunctionStatus, purge bool) string {
	text := plural(f.Waiting, "waiting delivery", "waiting deliveries") + " will be discarded"
	kept := fmt.Sprintf("%s of state and %s", size(f.State), plural(f.Dead, "dead letter", "dead letters"))
	if purge {
		return text + ", " + kept + " too"
	}
	return text + "; " + kept + " stay"
}

// confirm asks a question and returns nil if the answer is yes.
func (sh *shell) confirm(question string) error {
	fmt.Fprintf(sh.talk, "%s [y/N] ", question)
	answer, err := sh.in.ReadString('\n')
	if answer == "" && err != nil {
		fmt.Fprintln(sh.talk)
		return wrongUsage("-y says yes beforehand", "nobody is there to answer")
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	sh.say("Nothing was done.")
	return exitError(exitFailure)
}
