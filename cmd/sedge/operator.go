package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

func newOperator(sh *shell) *cobra.Command {
	cmd := sh.hubVerb(&cobra.Command{
		Use:     "operator [COMMAND]",
		Aliases: []string{"operators"},
		Short:   "Say who may use the hub, and for what",
		Example: `  sedge operator create ada --role deployer --scope site=home
  sedge operator list`,
		RunE: group,
	})
	cmd.AddCommand(newOperatorCreate(sh), newOperatorList(sh), newOperatorDelete(sh))
	return cmd
}

type operatorOptions struct {
	role  string
	scope string
	ttl   time.Duration
}

func newOperatorCreate(sh *shell) *cobra.Command {
	var o operatorOptions
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a token for somebody, or for a program",
		Long: `Make a token for somebody, or for a program. It is printed this once. A viewer looks,
a deployer also changes and runs functions, an admin also lets nodes and operators
in. With a scope, a viewer or deployer sees and reaches only nodes with such labels.`,
		Example: `  sedge operator create ada --role deployer --scope site=home
  sedge operator create ci --role deployer --ttl 720h -o name > ci.token`,
		RunE: func(cmd *cobra.Command, args []string) error { return sh.makeOperator(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.role, "role", string(edge.Viewer), "`ROLE`: viewer, deployer or admin")
	f.StringVar(&o.scope, "scope", "", "`SELECTOR` of the nodes")
	f.DurationVar(&o.ttl, "ttl", 0, "`TIME` for which the token is good; 0: until it is deleted")
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(
		[]string{string(edge.Viewer), string(edge.Deployer), string(edge.Admin)}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (sh *shell) makeOperator(ctx context.Context, name string, o operatorOptions) error {
	want := edge.Operator{Name: name, Role: edge.Role(o.role), Scope: o.scope}
	if o.ttl > 0 {
		want.Expires = time.Now().Add(o.ttl)
	}
	var made edge.OperatorMade
	err := sh.ask(ctx, "", func(c *client.Client) (err error) {
		made, err = c.MakeOperator(ctx, want)
		return err
	})
	if err != nil {
		return err
	}
	if done, err := sh.structured(made); done {
		return err
	}
	sh.say("The token of %s, who may: %s. It is not shown again.", name, made.Role)
	_, err = fmt.Fprintln(sh.out, made.Text)
	return err
}

func newOperatorList(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls", "get"},
		Short:   "List who may use the hub",
		Example: `  sedge operator list`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := []edge.Operator{}
			err := sh.ask(cmd.Context(), "", func(c *client.Client) error {
				got, err := c.Operators(cmd.Context())
				all = append(all, got...)
				return err
			})
			if err != nil {
				return err
			}
			return sh.printOperators(all)
		},
	}
}

func (sh *shell) printOperators(all []edge.Operator) error {
	if done, err := sh.structured(all); done {
		return err
	}
	if sh.output == "name" {
		for _, o := range all {
			fmt.Fprintln(sh.out, o.Name)
		}
		return nil
	}
	t := table{columns: []string{"NAME", "ROLE", "SCOPE", "USED", "EXPIRES", "MADE", "BY"}}
	for _, o := range all {
		expires := "-"
		if !o.Expires.IsZero() {
			expires = day(o.Expires)
		}
		t.add(o.Name, string(o.Role), dash(o.Scope), ago(o.Used), expires, day(o.Made), dash(o.By))
	}
	sh.table(t)
	return nil
}

func newOperatorDelete(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME...",
		Aliases: []string{"rm", "revoke"},
		Short:   "Shut operators out",
		Example: `  sedge operator delete ada`,
		RunE: func(cmd *cobra.Command, names []string) error {
			for _, name := range names {
				err := sh.ask(cmd.Context(), "", func(c *client.Client) error { return c.DeleteOperator(cmd.Context(), name) })
				if err != nil {
					return err
				}
				sh.say("%s deleted", name)
			}
			return nil
		},
	}
}

func newAudit(sh *shell) *cobra.Command {
	var object string
	var last int
	var verify bool
	cmd := sh.hubVerb(&cobra.Command{
		Use:   "audit",
		Short: "Show who did what at the hub, when and from where",
		Long: `Show who did what at the hub, when and from where, the newest last. Each line is
chained to the one before by its hash. With --verify the hub follows the whole chain
instead: a line that was changed or is missing is named, and the exit code is 1.`,
		Example: `  sedge audit
  sedge audit --object node/pi-7
  sedge audit --verify                     # is the log as it was written?`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if verify {
				return sh.verifyAudit(cmd.Context())
			}
			return sh.audit(cmd.Context(), object, last)
		},
	})
	cmd.Flags().BoolVar(&verify, "verify", false, "show nothing but whether the whole log is as it was written")
	cmd.Flags().StringVar(&object, "object", "", "of this `OBJECT`, like function/night-light or node/pi-7")
	cmd.Flags().IntVar(&last, "last", 100, "`LINES` of the past")
	return cmd
}

func (sh *shell) audit(ctx context.Context, object string, last int) error {
	all := []edge.AuditEntry{}
	err := sh.ask(ctx, "", func(c *client.Client) error {
		for before := int64(0); len(all) < last; {
			page, err := c.Audit(ctx, object, before)
			if err != nil || len(page) == 0 {
				return err
			}
			all = append(all, page...)
			before = page[len(page)-1].Number
		}
		return nil
	})
	if err != nil {
		return err
	}
	all = all[:min(len(all), last)]
	if done, err := sh.structured(all); done {
		return err
	}
	t := table{columns: []string{"NUMBER", "WHEN", "BY", "FROM", "ACTION", "OBJECT", "DETAIL", "+HASH"}}
	for i := len(all) - 1; i >= 0; i-- {
		e := all[i]
		t.add(e.Number, day(e.Time), e.By, dash(e.Address), e.Action, e.Object, e.Detail, e.Hash)
	}
	sh.table(t)
	return nil
}

func (sh *shell) verifyAudit(ctx context.Context) error {
	var v edge.AuditVerdict
	err := sh.ask(ctx, "", func(c *client.Client) (err error) {
		v, err = c.VerifyAudit(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if done, err := sh.structured(v); done {
		if err == nil && !v.Intact {
			return exitError(exitFailure)
		}
		return err
	}
	if !v.Intact {
		return &edge.Error{
			Code: edge.Conflict, Message: "the audit log is not as it was written: " + v.Why,
			Hint: "compare it with a backup of the hub's database; whoever may write that file, or the database, can have done it",
		}
	}
	fmt.Fprintln(sh.out, "the audit log is as it was written")
	return nil
}
