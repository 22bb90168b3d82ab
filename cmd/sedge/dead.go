package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

func newDead(sh *shell) *cobra.Command {
	cmd := sh.nodeVerb(&cobra.Command{
		Use:   "dead [COMMAND]",
		Short: "Look at deliveries that failed for good, and send them again",
		Example: `  sedge dead list
  sedge dead show 17
  sedge dead redrive --function night-light
  sedge dead discard 17 18`,
		RunE: group,
	})
	cmd.AddCommand(newDeadList(sh), newDeadShow(sh), newDeadRedrive(sh), newDeadDiscard(sh))
	return cmd
}

func newDeadList(sh *shell) *cobra.Command {
	var where everyNode
	cmd := &cobra.Command{
		Use:     "list [FUNCTION]",
		Aliases: []string{"ls"},
		Short:   "List dead letters, oldest first",
		Example: `  sedge dead list night-light
  sedge dead list --all-nodes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return sh.deadList(cmd.Context(), strings.Join(args, ""), where)
		},
	}
	where.addFlags(cmd)
	return cmd
}

// deadLetters returns those of a function, or all for "".
func (sh *shell) deadLetters(ctx context.Context, function string) ([]edge.DeadLetter, error) {
	all := []edge.DeadLetter{}
	err := sh.ask(ctx, function, func(c *client.Client) error {
		for q := (edge.Query{Function: function}); ; {
			page, err := c.Dead(ctx, q)
			if err != nil || len(page) == 0 {
				return err
			}
			all = append(all, page...)
			q.After = page[len(page)-1].ID
		}
	})
	return all, err
}

func (sh *shell) deadList(ctx context.Context, function string, where everyNode) error {
	all := []edge.DeadLetter{}
	err := sh.eachNode(ctx, where, func() error {
		letters, err := sh.deadLetters(ctx, function)
		all = append(all, letters...)
		return err
	})
	if err != nil {
		return err
	}
	if done, err := sh.structured(all); done {
		return err
	}
	if sh.output == "name" {
		for _, d := range all {
			fmt.Fprintln(sh.out, d.ID)
		}
		return nil
	}
	if len(all) == 0 {
		sh.say("No dead letters.")
		return nil
	}
	t := table{columns: []string{"ID", "FUNCTION", "WHEN", "ATTEMPTS", "TOPIC", "+CODE", "REASON"}}
	for _, d := range all {
		t.add(d.ID, placed(d.Node, d.Function), day(d.Time), d.Attempts, from(d.Event.Topic, d.Event.Source), string(d.Failure.Code), d.Failure.Message)
	}
	sh.table(t)
	return nil
}

func newDeadShow(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show one dead letter: what came and why it failed",
		Example: `  sedge dead show 17`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := deadIDs(args)
			if err != nil {
				return err
			}
			return sh.deadShow(cmd.Context(), ids[0])
		},
	}
}

func (sh *shell) deadShow(ctx context.Context, id int64) error {
	var page []edge.DeadLetter
	err := sh.ask(ctx, "", func(c *client.Client) (err error) {
		page, err = c.Dead(ctx, edge.Query{After: id - 1, Last: 1})
		return err
	})
	if err != nil {
		return err
	}
	if len(page) == 0 || page[0].ID != id {
		return &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("there is no dead letter %d", id), Hint: "sedge dead list shows them"}
	}
	d := page[0]
	if done, err := sh.structured(d); done {
		return err
	}
	r := sh.record()
	r.field("Dead letter", fmt.Sprint(d.ID))
	r.field("Function", d.Function+"  "+d.Revision.Short())
	r.field("Died", fmt.Sprintf("%s after %s", day(d.Time), plural(d.Attempts, "attempt", "attempts")))
	r.painted("Reason", red, d.Failure.Message)
	r.field("Code", string(d.Failure.Code))
	r.block("Stack", d.Failure.Stack)
	r.field("Event", d.Event.ID)
	r.field("Came", fmt.Sprintf("%s by %s", day(d.Event.Time), d.Event.Source))
	r.field("Topic", d.Event.Topic)
	for _, c := range d.Event.Captures {
		r.field("  "+c.Name, c.Value)
	}
	r.block("Payload", string(d.Event.Payload))
	return r.flush()
}

// deadChoice is which dead letters a verb is about.
type deadChoice struct {
	function string
	all      bool
}

func (o *deadChoice) addFlags(sh *shell, cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.function, "function", "", "those of this `FUNCTION`")
	cmd.Flags().BoolVar(&o.all, "all", false, "all there are")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("function", sh.completeNames))
}

func (o deadChoice) choice(args []string) (edge.DeadChoice, error) {
	ids, err := deadIDs(args)
	if err != nil {
		return edge.DeadChoice{}, err
	}
	if len(ids) == 0 && o.function == "" && !o.all {
		return edge.DeadChoice{}, wrongUsage("name their ids, --function NAME or --all", "which dead letters?")
	}
	return edge.DeadChoice{Function: o.function, IDs: ids, All: o.all}, nil
}

func newDeadRedrive(sh *shell) *cobra.Command {
	var o deadChoice
	var where everyNode
	cmd := &cobra.Command{
		Use:   "redrive [ID...]",
		Short: "Send dead letters to their function again",
		Example: `  sedge dead redrive 17 18
  sedge dead redrive --function night-light
  sedge dead redrive --function night-light --all-nodes -l site=home`,
		RunE: func(cmd *cobra.Command, args []string) error {
			which, err := o.choice(args)
			if err != nil {
				return err
			}
			return sh.eachNode(cmd.Context(), where, func() error {
				return sh.settle(cmd.Context(), "redriven", which, (*client.Client).Redrive)
			})
		},
	}
	o.addFlags(sh, cmd)
	where.addFlags(cmd)
	return cmd
}

func newDeadDiscard(sh *shell) *cobra.Command {
	var o deadChoice
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use:   "discard [ID...]",
		Short: "Throw dead letters away",
		Example: `  sedge dead discard 17 18
  sedge dead discard --function night-light -y
  sedge dead discard --all --dry-run     # how many would go?`,
		RunE: func(cmd *cobra.Command, args []string) error {
			which, err := o.choice(args)
			if err != nil {
				return err
			}
			switch {
			case dryRun:
				return sh.dryDiscard(cmd.Context(), which)
			case !yes && len(which.IDs) == 0:
				if err := sh.confirmDiscard(cmd.Context(), which); err != nil {
					return err
				}
			}
			return sh.settle(cmd.Context(), "discarded", which, (*client.Client).Discard)
		},
	}
	o.addFlags(sh, cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say how many would go, discard nothing")
	return cmd
}

// confirmDiscard asks whether what which means is to go, all of a function or all
// there are.
func (sh *shell) confirmDiscard(ctx context.Context, which edge.DeadChoice) error {
	letters, err := sh.deadLetters(ctx, which.Function)
	if err != nil {
		return err
	}
	what := plural(len(letters), "dead letter", "dead letters")
	if which.Function != "" {
		what += " of " + which.Function
	}
	return sh.confirm("Discard " + what + "?")
}

// dryDiscard says how many dead letters there are of those that which means.
func (sh *shell) dryDiscard(ctx context.Context, which edge.DeadChoice) error {
	letters, err := sh.deadLetters(ctx, which.Function)
	if err != nil {
		return err
	}
	n := 0
	for _, d := range letters {
		if len(which.IDs) == 0 || slices.Contains(which.IDs, d.ID) {
			n++
		}
	}
	if done, err := sh.structured(map[string]int{"discarded": n}); done {
		return err
	}
	_, err = fmt.Fprintf(sh.out, "%s discarded (dry run)\n", plural(n, "dead letter", "dead letters"))
	return err
}

// settle has dead letters redriven or discarded and says how many were.
func (sh *shell) settle(ctx context.Context, done string, which edge.DeadChoice, do func(*client.Client, context.Context, edge.DeadChoice) (int, error)) error {
	var n int
	err := sh.ask(ctx, which.Function, func(c *client.Client) (err error) {
		n, err = do(c, ctx, which)
		return err
	})
	if err != nil {
		return err
	}
	if done, err := sh.structured(map[string]int{done: n}); done {
		return err
	}
	_, err = fmt.Fprintf(sh.out, "%s %s\n", plural(n, "dead letter", "dead letters"), done)
	return err
}

func deadIDs(args []string) ([]int64, error) {
	var ids []int64
	for _, a := range args {
		id, err := strconv.ParseInt(strings.TrimPrefix(a, "#"), 10, 64)
		if err != nil || id < 1 {
			return nil, wrongUsage("sedge dead list shows them", "%q is no dead letter's id", a)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
