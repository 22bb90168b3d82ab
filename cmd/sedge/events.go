package main

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

func newEvents(sh *shell) *cobra.Command {
	var o streamOptions
	cmd := &cobra.Command{
		Use:   "events [FUNCTION]",
		Short: "Show which events came, and why a function did or did not fire",
		Example: `  sedge events -f
  sedge events night-light --tail 20
  sedge events -o json | jq 'select(.what == "filtered") | .why'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return sh.events(cmd.Context(), o.query(args))
		},
	}
	o.addFlags(cmd)
	return sh.nodeVerb(cmd)
}

func (sh *shell) events(ctx context.Context, q edge.Query) error {
	return sh.ask(ctx, q.Function, func(c *client.Client) error {
		return stream(ctx, c.Events(ctx, q), (&trail{sh: sh}).print)
	})
}

// A trail prints steps below each other. What is to come is not known, so its
// columns become as wide as the widest so far, within reason.
type trail struct {
	sh              *shell
	function, topic int // widths, in runes
}

// widestColumn is how far one long name may push what stands right of it.
const widestColumn = 40

func (t *trail) print(s edge.Step) error {
	sh := t.sh
	if done, err := sh.line(s); done {
		return err
	}
	topic := oneLine(from(s.Topic, s.Source))
	function := placed(s.Node, s.Function)
	t.function = min(max(t.function, utf8.RuneCountInString(function)), widestColumn)
	t.topic = min(max(t.topic, utf8.RuneCountInString(topic)), widestColumn)
	rest := oneLine(particulars(s))
	if rest != "" {
		topic = fmt.Sprintf("%-*s", t.topic, topic)
	}
	_, err := fmt.Fprintf(sh.out, "%s  %-*s  %s  %s%s\n", sh.paint(sh.out, dim, clock(s.Time)), t.function, function,
		sh.paint(sh.out, stepColor(s.What), fmt.Sprintf("%-9s", s.What)), topic, sh.paint(sh.out, dim, rest))
	return err
}

// particulars says what else is known of a step.
func particulars(s edge.Step) string {
	var all []string
	if s.Attempt > 1 || s.What == edge.StepFailed {
		all = append(all, fmt.Sprintf("attempt %d", s.Attempt))
	}
	if s.Why != "" {
		all = append(all, s.Why)
	}
	if len(s.Published) > 0 {
		all = append(all, "→ "+strings.Join(s.Published, ", "))
	}
	if len(s.StateKeys) > 0 {
		all = append(all, "state "+strings.Join(s.StateKeys, ", "))
	}
	if s.What == edge.StepDone && s.Took > 0 {
		all = append(all, span(s.Took))
	}
	if len(all) == 0 {
		return ""
	}
	return "  " + strings.Join(all, "  ")
}

func stepColor(k edge.StepKind) color {
	switch k {
	case edge.StepDone:
		return green
	case edge.StepDead, edge.StepShed, edge.StepDiscarded:
		return red
	case edge.StepFailed, edge.StepExpired:
		return yellow
	}
	return dim
}
