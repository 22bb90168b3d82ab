package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/functions"
)

// streamOptions choose the lines of a log or a trail.
type streamOptions struct {
	follow bool
	tail   int
}

func (o *streamOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "and what comes, until ^C")
	cmd.Flags().IntVar(&o.tail, "tail", 100, "`LINES` of the past; -1 for all that are kept")
}

func (o streamOptions) query(args []string) edge.Query {
	q := edge.Query{Last: o.tail, Follow: o.follow}
	if len(args) > 0 {
		q.Function = args[0]
	}
	return q
}

func newLogs(sh *shell) *cobra.Command {
	var o streamOptions
	cmd := &cobra.Command{
		Use:   "logs [FUNCTION]",
		Short: "Show what functions wrote",
		Example: `  sedge logs night-light
  sedge logs -f --tail 0`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return sh.logs(cmd.Context(), o.query(args))
		},
	}
	o.addFlags(cmd)
	return sh.nodeVerb(cmd)
}

func (sh *shell) logs(ctx context.Context, q edge.Query) error {
	return sh.ask(ctx, q.Function, func(c *client.Client) error {
		return stream(ctx, c.Logs(ctx, q), sh.printLog)
	})
}

// stream prints what comes until it ends. That the user has seen enough is no
// error.
func stream[T any](ctx context.Context, lines iter.Seq2[T, error], print func(T) error) error {
	for l, err := range lines {
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := print(l); err != nil {
			return err
		}
	}
	return nil
}

func (sh *shell) printLog(l edge.LogLine) error {
	if done, err := sh.line(l); done {
		return err
	}
	first, rest, _ := strings.Cut(strings.TrimRight(l.Text, "\n"), "\n")
	text := fmt.Sprintf("%s  %s  %s  %s\n", sh.paint(sh.out, dim, clock(l.Time)), placed(l.Node, l.Function),
		sh.paint(sh.out, levelColor(l.Level), fmt.Sprintf("%-5s", l.Level)), oneLine(first))
	for line := range strings.Lines(rest) {
		text += "    " + oneLine(strings.TrimSuffix(line, "\n")) + "\n"
	}
	_, err := io.WriteString(sh.out, text)
	return err
}

// placed writes a function with the node that it is on, where the hub names one.
func placed(node, function string) string {
	if node == "" {
		return function
	}
	return node + "/" + function
}

func levelColor(l functions.Level) color {
	switch l {
	case functions.LevelError:
		return red
	case functions.LevelWarn:
		return yellow
	}
	return dim
}
