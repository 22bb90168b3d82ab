package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

func newRollout(sh *shell) *cobra.Command {
	cmd := sh.hubVerb(&cobra.Command{
		Use:     "rollout [COMMAND]",
		Aliases: []string{"rollouts"},
		Short:   "See and steer how new revisions reach the nodes",
		Long: `See and steer how new revisions reach the nodes. A rollout begins with a deploy that
has stages (--canary); it goes on, waits and goes back by itself.`,
		Example: `  sedge deploy -f night-light --canary 1,10% --wait
  sedge rollout status night-light
  sedge rollout promote night-light     # the next stage now, whatever the gate says`,
		RunE: group,
	})
	cmd.AddCommand(newRolloutList(sh), newRolloutStatus(sh),
		newRolloutSteer(sh, "pause", "Stop a rollout where it is"),
		newRolloutSteer(sh, "resume", "Let a paused rollout go on"),
		newRolloutSteer(sh, "promote", "Begin the next stage now, whatever the gate says"),
		newRolloutSteer(sh, "abort", "End a rollout and have its nodes go back"))
	return cmd
}

func newRolloutList(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:     "list [FUNCTION]",
		Aliases: []string{"ls", "get"},
		Short:   "List rollouts, the newest first",
		Example: `  sedge rollout list night-light`,
		RunE: func(cmd *cobra.Command, args []string) error {
			all := []edge.Rollout{}
			err := sh.ask(cmd.Context(), strings.Join(args, ""), func(c *client.Client) error {
				got, err := c.Rollouts(cmd.Context(), strings.Join(args, ""), 0)
				all = append(all, got...)
				return err
			})
			if err != nil {
				return err
			}
			return sh.printRollouts(all)
		},
	}
}

func (sh *shell) printRollouts(all []edge.Rollout) error {
	if done, err := sh.structured(all); done {
		return err
	}
	if sh.output == "name" {
		for _, r := range all {
			fmt.Fprintln(sh.out, r.ID)
		}
		return nil
	}
	if len(all) == 0 {
		sh.say("No rollouts. Begin one with: sedge deploy -f FILE --canary 10%%")
		return nil
	}
	t := table{columns: []string{"ID", "FUNCTION", "STATE", "STAGE", "NODES", "FROM", "TO", "BEGUN", "BY", "REASON"}}
	for _, r := range all {
		t.add(r.ID, r.Function, cell{string(r.State), rolloutColor(r.State)}, stageText(r), len(r.Nodes),
			dash(r.From.Short()), r.To.Short(), day(r.Begun), r.By, r.Why)
	}
	sh.table(t)
	return nil
}

func rolloutColor(s edge.RolloutState) color {
	switch s {
	case edge.Rolling, edge.Completed:
		return green
	case edge.Halted, edge.Aborted:
		return yellow
	}
	return red
}

// stageText writes which stage of how many is under way: 1 of 3 (10%).
func stageText(r edge.Rollout) string {
	if r.Stage >= len(r.Stages) {
		return "-"
	}
	return fmt.Sprintf("%d of %d (%s)", r.Stage+1, len(r.Stages), r.Stages[r.Stage])
}

func newRolloutStatus(sh *shell) *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use:   "status FUNCTION",
		Short: "Show how the last rollout of a function does",
		Example: `  sedge rollout status night-light
  sedge rollout status night-light --watch`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if watch {
				return sh.follow(cmd.Context(), args[0])
			}
			r, err := sh.lastRollout(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return sh.printRollout(r)
		},
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "tell each step until it is over, or ^C")
	return cmd
}

// lastRollout returns the newest rollout of a function.
func (sh *shell) lastRollout(ctx context.Context, function string) (r edge.Rollout, err error) {
	err = sh.ask(ctx, function, func(c *client.Client) error {
		all, err := c.Rollouts(ctx, function, 0)
		switch {
		case err != nil:
			return err
		case len(all) == 0:
			return &edge.Error{Code: edge.NotFound, Message: function + " has had no rollout", Hint: "begin one with: sedge deploy -f FILE --canary 10%"}
		}
		r = all[0]
		return nil
	})
	return r, err
}

func (sh *shell) printRollout(r edge.Rollout) error {
	if done, err := sh.structured(r); done {
		return err
	}
	rec := sh.record()
	rec.painted("Rollout", bold, fmt.Sprintf("%d of %s", r.ID, r.Function))
	rec.painted("State", rolloutColor(r.State), string(r.State))
	rec.field("Reason", r.Why)
	rec.field("Stage", stageText(r))
	rec.field("Revision", dash(r.From.Short())+" → "+r.To.Short())
	rec.field("Reached", plural(len(r.Nodes), "node", "nodes"))
	rec.field("On", r.Selector)
	rec.field("Gate", gateText(r.Gate))
	rec.field("Begun", day(r.Begun)+" by "+r.By)
	if !r.Ended.IsZero() {
		rec.field("Ended", day(r.Ended))
	}
	return rec.flush()
}

func gateText(g edge.Gate) string {
	text := fmt.Sprintf("%s, at most %g%% failed", plural(g.MinRuns, "run", "runs"), 100*g.MaxErrors)
	if g.MaxP95 > 0 {
		text += fmt.Sprintf(", p95 at most %g times that of before", g.MaxP95)
	}
	return fmt.Sprintf("%s, %s a stage, pauses after %s", text, g.Bake, g.Patience)
}

// follow tells each step of a function's rollout until it is over.
func (sh *shell) follow(ctx context.Context, function string) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	told := ""
	for {
		r, err := sh.lastRollout(ctx, function)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if now := progressText(r); now != told {
			if done, err := sh.line(r); err != nil {
				return err
			} else if !done {
				fmt.Fprintln(sh.out, now)
			}
			told = now
		}
		if r.State.Over() {
			return rolloutEnd(r)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func progressText(r edge.Rollout) string {
	text := fmt.Sprintf("%s: %s, stage %s, %s", r.Function, r.State, stageText(r), plural(len(r.Nodes), "node", "nodes"))
	if r.Why != "" {
		text += ": " + r.Why
	}
	return text
}

// rolloutEnd is the error of a rollout that did not come to its end.
func rolloutEnd(r edge.Rollout) error {
	if r.State == edge.Completed {
		return nil
	}
	return &edge.Error{Code: edge.Conflict, Message: fmt.Sprintf("%s was %s in stage %s: %s", r.Function, r.State, stageText(r), r.Why), Hint: "every node runs " + dash(r.From.Short()) + " again; see why: sedge rollout status " + r.Function}
}

func newRolloutSteer(sh *shell, verb, short string) *cobra.Command {
	return &cobra.Command{
		Use:     verb + " FUNCTION",
		Short:   short,
		Example: "  sedge rollout " + verb + " night-light",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			r, err := sh.lastRollout(ctx, args[0])
			if err != nil {
				return err
			}
			err = sh.ask(ctx, args[0], func(c *client.Client) (err error) {
				r, err = c.Steer(ctx, r.ID, verb)
				return err
			})
			if err != nil {
				return err
			}
			return sh.printRollout(r)
		},
	}
}
