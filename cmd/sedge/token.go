package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/edge/selector"
)

func newToken(sh *shell) *cobra.Command {
	cmd := sh.hubVerb(&cobra.Command{
		Use:     "token [COMMAND]",
		Aliases: []string{"tokens"},
		Short:   "Let nodes join the hub",
		Long: `Let nodes join the hub. A join token is used once, within minutes, and says to the
node which hub is the right one: whoever stands in between learns nothing.`,
		Example: `  sedge token create --labels site=home
  sedge token list`,
		RunE: group,
	})
	cmd.AddCommand(newTokenCreate(sh), newTokenList(sh), newTokenRevoke(sh))
	return cmd
}

type tokenOptions struct {
	ttl      time.Duration
	labels   string
	uses     int
	approval bool
}

func newTokenCreate(sh *shell) *cobra.Command {
	var o tokenOptions
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Print one line to paste on a node",
		Example: `  sedge token create --ttl 15m --labels site=home
  sedge token create --approval      # and look at each node before it gets anything
  ssh pi-7 sudo "$(sedge token create)"`,
		RunE: func(cmd *cobra.Command, _ []string) error { return sh.makeToken(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.DurationVar(&o.ttl, "ttl", 15*time.Minute, "`TIME` for which it is good, at most "+edge.MaxTokenTTL.String())
	f.StringVar(&o.labels, "labels", "", "`LABELS` that the node gets, like site=home,room=hall")
	f.IntVar(&o.uses, "uses", 1, "`NUMBER` of nodes that may join with it")
	f.BoolVar(&o.approval, "approval", false, "nodes wait until they are approved: sedge node approve")
	return cmd
}

func (sh *shell) makeToken(ctx context.Context, o tokenOptions) error {
	labels, err := selector.ParseLabels(o.labels)
	if err != nil {
		return wrongUsage("like --labels site=home,room=hall", "--labels: %s", err)
	}
	var made edge.TokenMade
	err = sh.ask(ctx, "", func(c *client.Client) (err error) {
		made, err = c.MakeToken(ctx, edge.TokenAsk{TTL: o.ttl, Labels: labels, Uses: o.uses, Approval: o.approval})
		return err
	})
	if err != nil {
		return err
	}
	if done, err := sh.structured(made); done {
		return err
	}
	if sh.output == "name" {
		_, err = fmt.Fprintln(sh.out, made.Text)
		return err
	}
	sh.say("On the node, within %s:", o.ttl)
	_, err = fmt.Fprintf(sh.out, "sedge-agent join %s --token %s\n", sh.linkURL(), made.Text)
	return err
}

// linkURL is how a node reaches the hub that this program speaks to.
func (sh *shell) linkURL() string { return strings.TrimRight(sh.hub, "/") }

func newTokenList(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls", "get"},
		Short:   "List join tokens that can still be used",
		Example: `  sedge token list`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := []edge.Token{}
			err := sh.ask(cmd.Context(), "", func(c *client.Client) error {
				got, err := c.Tokens(cmd.Context())
				all = append(all, got...)
				return err
			})
			if err != nil {
				return err
			}
			return sh.printTokens(all)
		},
	}
}

func (sh *shell) printTokens(all []edge.Token) error {
	if done, err := sh.structured(all); done {
		return err
	}
	if sh.output == "name" {
		for _, t := range all {
			fmt.Fprintln(sh.out, t.ID)
		}
		return nil
	}
	if len(all) == 0 {
		sh.say("No join tokens. Make one with: sedge token create")
		return nil
	}
	t := table{columns: []string{"ID", "USES LEFT", "EXPIRES", "APPROVAL", "BY", "LABELS"}}
	for _, k := range all {
		t.add(k.ID, k.Uses, day(k.Expires), yes(k.Approval), k.By, labelText(k.Labels))
	}
	sh.table(t)
	return nil
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "-"
}

func newTokenRevoke(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID...",
		Aliases: []string{"delete", "rm"},
		Short:   "Make join tokens useless",
		Example: `  sedge token revoke 3f9c2a7710b4e5d6`,
		RunE: func(cmd *cobra.Command, ids []string) error {
			for _, id := range ids {
				err := sh.ask(cmd.Context(), "", func(c *client.Client) error { return c.RevokeToken(cmd.Context(), id) })
				if err != nil {
					return err
				}
				sh.say("%s revoked", id)
			}
			return nil
		},
	}
}
