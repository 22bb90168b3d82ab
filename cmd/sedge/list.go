package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

func newList(sh *shell) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:     "list [FUNCTION...]",
		Aliases: []string{"ls", "get"},
		Short:   "List functions and how they are",
		Example: `  sedge list
  sedge list --watch
  sedge list -o name | xargs -n1 sedge describe`,
		RunE: func(cmd *cobra.Command, names []string) error {
			if sh.inCluster() {
				return sh.listCluster(cmd.Context(), names, watch)
			}
			if watch {
				return sh.watchList(cmd.Context(), names)
			}
			return sh.list(cmd.Context(), names)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "again whenever something changed, until ^C")
	return sh.clusterVerb(sh.nodeVerb(cmd))
}

func (sh *shell) list(ctx context.Context, names []string) error {
	all, err := sh.statuses(ctx, names)
	if err != nil {
		return err
	}
	if len(all) == 0 && (sh.output == "table" || sh.output == "wide") {
		sh.say("No functions yet. Begin with: sedge new night-light")
		return nil
	}
	return sh.printList(all)
}

// watchList prints the list whenever it has changed, on a terminal in place.
func (sh *shell) watchList(ctx context.Context, names []string) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var shown string
	for {
		all, err := sh.statuses(ctx, names)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if now := fmt.Sprintf("%+v", all); now != shown {
			if shown = now; terminal(sh.out) && sh.output != "json" && sh.output != "yaml" {
				fmt.Fprint(sh.out, "\x1b[H\x1b[2J")
			}
			if err := sh.printList(all); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// statuses returns the functions of those names, or all.
func (sh *shell) statuses(ctx context.Context, names []string) ([]edge.FunctionStatus, error) {
	all := []edge.FunctionStatus{}
	if len(names) == 0 {
		err := sh.ask(ctx, "", func(c *client.Client) error {
			got, err := c.Functions(ctx)
			all = append(all, got...)
			return err
		})
		return all, err
	}
	for _, name := range names {
		err := sh.ask(ctx, name, func(c *client.Client) error {
			f, err := c.Function(ctx, name)
			all = append(all, f.Status)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (sh *shell) printList(all []edge.FunctionStatus) error {
	if done, err := sh.structured(all); done {
		return err
	}
	if sh.output == "name" {
		for _, f := range all {
			fmt.Fprintln(sh.out, f.Name)
		}
		return nil
	}
	t := table{columns: []string{"NAME", "STATUS", "DONE", "WAITING", "DEAD", "P50", "LAST RUN", "+P99", "+FILTERED", "+STATE", "+REVISION", "TRIGGERS"}}
	for _, f := range all {
		t.add(f.Name, cell{string(f.Phase), phaseColor(f.Phase)}, f.Counts.Done, f.Waiting+f.Running, deadCell(f.Dead),
			span(f.P50), ago(f.LastRun), span(f.P99), f.Counts.Filtered, size(f.State), f.Revision.Short(), sh.triggers(f.Triggers))
	}
	sh.table(t)
	return nil
}

// triggers names what a function runs on; the conditions only in the wide form.
func (sh *shell) triggers(all []string) string {
	short := slices.Clone(all)
	for i := range short {
		if sh.output != "wide" {
			short[i], _, _ = strings.Cut(short[i], " when ")
		}
	}
	return strings.Join(short, ", ")
}

func phaseColor(p edge.Phase) color {
	switch p {
	case edge.Running, edge.Starting:
		return green
	case edge.Disabled, edge.Paused:
		return yellow
	case edge.Failing:
		return red
	}
	return ""
}

func deadCell(n int) cell {
	if n > 0 {
		return cell{fmt.Sprint(n), red}
	}
	return cell{text: "0"}
}
