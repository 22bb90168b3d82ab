package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

func newState(sh *shell) *cobra.Command {
	cmd := sh.nodeVerb(&cobra.Command{
		Use:   "state [COMMAND]",
		Short: "Look at and change what functions remember",
		Example: `  sedge state ls night-light
  sedge state get night-light hall_motion
  sedge state set night-light hall_motion '{"on":true}' --ttl 1h
  sedge state delete night-light hall_motion`,
		RunE: group,
	})
	cmd.AddCommand(newStateList(sh), newStateGet(sh), newStateSet(sh), newStateDelete(sh))
	return cmd
}

func newStateList(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:     "ls FUNCTION [PREFIX]",
		Aliases: []string{"list"},
		Short:   "List keys and values",
		Example: `  sedge state ls night-light hall_`,
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := ""
			if len(args) > 1 {
				prefix = args[1]
			}
			return sh.stateList(cmd.Context(), args[0], prefix)
		},
	}
}

func (sh *shell) stateList(ctx context.Context, function, prefix string) error {
	all := []edge.StateEntry{}
	err := sh.ask(ctx, function, func(c *client.Client) error {
		for after := ""; ; {
			page, err := c.State(ctx, function, prefix, after, 0)
			if err != nil || len(page) == 0 {
				return err
			}
			all = append(all, page...)
			after = page[len(page)-1].Key
		}
	})
	if err != nil {
		return err
	}
	if done, err := sh.structured(all); done {
		return err
	}
	if sh.output == "name" {
		for _, e := range all {
			fmt.Fprintln(sh.out, e.Key)
		}
		return nil
	}
	if len(all) == 0 {
		sh.say("%s remembers nothing.", function)
		return nil
	}
	t := table{columns: []string{"KEY", "+VERSION", "EXPIRES", "VALUE"}}
	for _, e := range all {
		t.add(e.Key, e.Version, expiry(e.Expires), e.Value)
	}
	sh.table(t)
	return nil
}

func expiry(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return "in " + time.Until(t).Round(time.Second).String()
}

func newStateGet(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:   "get FUNCTION KEY",
		Short: "Print the value of a key",
		Example: `  sedge state get night-light hall_motion
  sedge state get night-light hall_motion -o json     # with version and expiry`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return sh.ask(cmd.Context(), args[0], func(c *client.Client) error {
				e, err := c.StateGet(cmd.Context(), args[0], args[1])
				if err != nil {
					return err
				}
				return sh.printEntry(e, e.Value)
			})
		},
	}
}

func (sh *shell) printEntry(e edge.StateEntry, plain string) error {
	if done, err := sh.structured(e); done {
		return err
	}
	_, err := fmt.Fprintln(sh.out, plain)
	return err
}

type stateSetOptions struct {
	ttl       time.Duration
	ifVersion int64
}

func newStateSet(sh *shell) *cobra.Command {
	var o stateSetOptions
	cmd := &cobra.Command{
		Use:   "set FUNCTION KEY VALUE",
		Short: "Set a key to a JSON value",
		Long:  "Set a key to a JSON value, given as it is, as @FILE, or as - for stdin.",
		Example: `  sedge state set night-light level 80
  sedge state set night-light name '"hall"'
  sedge state set night-light level 70 --if-version 12`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var ifVersion *int64
			if cmd.Flags().Changed("if-version") {
				ifVersion = &o.ifVersion
			}
			return sh.stateSet(cmd.Context(), args[0], args[1], args[2], o.ttl, ifVersion)
		},
	}
	cmd.Flags().DurationVar(&o.ttl, "ttl", 0, "forget it after this `TIME`")
	cmd.Flags().Int64Var(&o.ifVersion, "if-version", 0, "only if the key has this `VERSION`; 0: only if it is not there")
	return cmd
}

func (sh *shell) stateSet(ctx context.Context, function, key, arg string, ttl time.Duration, ifVersion *int64) error {
	value, err := sh.data(arg)
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(value))
	if !json.Valid([]byte(text)) {
		quoted, _ := json.Marshal(text) // text, always encodable
		return wrongUsage(fmt.Sprintf("write a text as '%s'", quoted), "the value is no JSON: %.60q", text)
	}
	if ttl < 0 {
		return wrongUsage("", "--ttl: %s lies in the past", ttl)
	}
	e := edge.StateEntry{Key: key, Value: text}
	if ttl > 0 {
		e.Expires = time.Now().Add(ttl)
	}
	return sh.ask(ctx, function, func(c *client.Client) error {
		e, err := c.StatePut(ctx, function, e, ifVersion)
		if err != nil {
			return err
		}
		return sh.printEntry(e, fmt.Sprintf("%s set, version %d", e.Key, e.Version))
	})
}

func newStateDelete(sh *shell) *cobra.Command {
	var version int64
	cmd := &cobra.Command{
		Use:     "delete FUNCTION KEY",
		Aliases: []string{"rm"},
		Short:   "Forget a key",
		Example: `  sedge state delete night-light hall_motion`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var ifVersion *int64
			if cmd.Flags().Changed("if-version") {
				ifVersion = &version
			}
			return sh.ask(cmd.Context(), args[0], func(c *client.Client) error {
				if err := c.StateDelete(cmd.Context(), args[0], args[1], ifVersion); err != nil {
					return err
				}
				return sh.printEntry(edge.StateEntry{Key: args[1]}, args[1]+" deleted")
			})
		},
	}
	cmd.Flags().Int64Var(&version, "if-version", 0, "only if the key has this `VERSION`")
	return cmd
}
