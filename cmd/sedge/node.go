package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/edge/selector"
)

func newNode(sh *shell) *cobra.Command {
	var selects string
	list := func(cmd *cobra.Command) error {
		if sh.inCluster() {
			return sh.listMachines(cmd.Context())
		}
		return sh.listNodes(cmd.Context(), selects)
	}
	cmd := &cobra.Command{
		Use:     "node [COMMAND]",
		Aliases: []string{"nodes"},
		Short:   "See and steer the nodes of the hub",
		Long: `See and steer the nodes of the hub. With --kubeconfig, the nodes of a k3s cluster
are listed.`,
		Example: `  sedge node
  sedge node list -l site=home -o wide
  sedge node describe pi-7
  sedge node approve pi-7
  sedge node list --kubeconfig /etc/rancher/k3s/k3s.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return group(cmd, args)
			}
			return list(cmd)
		},
	}
	ls := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls", "get"},
		Short:   "List nodes and how they are",
		Example: `  sedge node list -l 'site in (home, barn)'
  sedge node list -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error { return list(cmd) },
	}
	selectorFlag(ls, &selects, "those with such labels, a `SELECTOR`")
	cmd.AddCommand(ls, newNodeDescribe(sh), newNodeLabel(sh), newNodeLogs(sh), newNodeDiagnostics(sh),
		newNodeSteer(sh, "approve", "Let nodes in that wait, or that are fenced", "approved", (*client.Client).Approve),
		newNodeSteer(sh, "cordon", "Have nodes keep what they run and get nothing new", "cordoned", (*client.Client).Cordon),
		newNodeSteer(sh, "uncordon", "Have cordoned nodes get what is new again", "uncordoned", (*client.Client).Uncordon),
		newNodeRevoke(sh), newNodeRemove(sh))
	return sh.clusterVerb(sh.hubVerb(cmd))
}

// selectorFlag adds -l.
func selectorFlag(cmd *cobra.Command, into *string, usage string) {
	cmd.Flags().StringVarP(into, "selector", "l", "", usage+", as Kubernetes writes them")
}

// nodeArgs completes arguments that are nodes.
func (sh *shell) nodeArgs(cmd *cobra.Command) *cobra.Command {
	cmd.ValidArgsFunction = sh.completeNodes
	return cmd
}

func (sh *shell) completeNodes(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if err := settings.FromEnvironment(cmd.Flags(), sh.lookup); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	all, err := sh.nodes(cmd.Context(), "")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, len(all))
	for i, n := range all {
		names[i] = n.Name
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// nodes returns the nodes that a selector fits.
func (sh *shell) nodes(ctx context.Context, selects string) ([]edge.NodeDetail, error) {
	all := []edge.NodeDetail{}
	err := sh.ask(ctx, "", func(c *client.Client) error {
		for after := ""; ; {
			page, err := c.Nodes(ctx, selects, after)
			if err != nil || len(page) == 0 {
				return err
			}
			all = append(all, page...)
			after = page[len(page)-1].Name
		}
	})
	return all, err
}

func (sh *shell) listNodes(ctx context.Context, selects string) error {
	all, err := sh.nodes(ctx, selects)
	if err != nil {
		return err
	}
	if done, err := sh.structured(all); done {
		return err
	}
	if sh.output == "name" {
		for _, n := range all {
			fmt.Fprintln(sh.out, n.Name)
		}
		return nil
	}
	if len(all) == 0 {
		sh.say("No nodes. Let one join with: sedge token create")
		return nil
	}
	t := table{columns: []string{"NAME", "STATUS", "FUNCTIONS", "SEEN", "VERSION", "+PLATFORM", "+ADDRESS", "+ID", "LABELS", "REASON"}}
	for _, n := range all {
		status, paint := nodeStatus(n)
		t.add(n.Name, cell{status, paint}, len(n.Functions), seen(n.Node), dash(n.Version), dash(n.Platform), dash(n.Address), n.ID,
			labelText(n.Labels), nodeReason(n))
	}
	sh.table(t)
	return nil
}

// nodeStatus says in a word how a node is.
func nodeStatus(n edge.NodeDetail) (string, color) {
	switch {
	case n.Standing == edge.Fenced || n.Standing == edge.Revoked:
		return string(n.Standing), red
	case n.Standing != edge.Member:
		return string(n.Standing), yellow
	case !n.Connected:
		return "away", yellow
	case n.Cordoned:
		return "cordoned", yellow
	case n.Refusal != nil:
		return "refuses", red
	}
	return "ready", green
}

// nodeReason says what a person should know about a node, or "".
func nodeReason(n edge.NodeDetail) string {
	var faults []string
	for _, f := range n.Faults {
		faults = append(faults, f.Name+": "+f.Why)
	}
	switch {
	case n.Why != "":
		return n.Why
	case n.Refusal != nil:
		return n.Refusal.Why
	case len(n.Unfit) > 0:
		return plural(len(n.Unfit), "function", "functions") + " unfit"
	}
	return strings.Join(faults, "; ")
}

func seen(n edge.Node) string {
	if n.Connected {
		return "now"
	}
	return ago(n.Seen)
}

// labelText writes labels as they are given on the command line.
func labelText(labels map[string]string) string {
	var all []string
	for name, value := range labels {
		all = append(all, name+"="+value)
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

func newNodeDescribe(sh *shell) *cobra.Command {
	return sh.nodeArgs(&cobra.Command{
		Use:     "describe NODE",
		Short:   "Show all about one node",
		Example: `  sedge node describe pi-7`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var n edge.NodeDetail
			err := sh.ask(cmd.Context(), "", func(c *client.Client) (err error) {
				n, err = c.Node(cmd.Context(), args[0])
				return err
			})
			if err != nil {
				return err
			}
			return sh.printNode(n)
		},
	})
}

func (sh *shell) printNode(n edge.NodeDetail) error {
	if done, err := sh.structured(n); done {
		return err
	}
	status, paint := nodeStatus(n)
	r := sh.record()
	r.painted("Name", bold, n.Name)
	r.field("Id", n.ID)
	r.painted("Status", paint, status)
	r.field("Reason", nodeReason(n))
	r.field("Labels", labelText(n.Labels))
	r.field("Seen", seen(n.Node))
	r.field("Joined", day(n.Joined))
	r.field("Address", n.Address)
	r.field("Version", strings.TrimSpace(n.Version+"  "+n.Platform))
	r.field("Position", fmt.Sprint(n.At.Revision))
	if n.Away != nil {
		r.field("Was away", fmt.Sprintf("since %s: %s, %s", day(n.Away.Since), plural(int(n.Away.Runs), "run", "runs"), plural(int(n.Away.Dead), "dead letter", "dead letters")))
	}
	for _, u := range n.Unfit {
		r.painted("Unfit", red, fmt.Sprintf("%s %s: %v", u.Name, u.Revision.Short(), u.Error))
	}
	if err := r.flush(); err != nil || len(n.Functions) == 0 {
		return err
	}
	fmt.Fprintln(sh.out)
	t := table{columns: []string{"FUNCTION", "STATUS", "REVISION", "RUNS", "FAILED", "P95", "WAITING", "DEAD", "REASON"}}
	for _, f := range n.Functions {
		reason := f.Reason
		if f.Bad != "" {
			reason = "went back from " + f.Bad.Short() + ", which failed: " + f.Error
		}
		t.add(f.Name, cell{string(f.Phase), phaseColor(f.Phase)}, f.Revision.Short(), f.Runs, f.Failed, span(f.P95), f.Waiting, deadCell(f.Dead), reason)
	}
	sh.table(t)
	return nil
}

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
		err := sh.ask(ctx, "", func(c *client.Client) error {
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

func newNodeLogs(sh *shell) *cobra.Command {
	var o streamOptions
	cmd := sh.nodeArgs(&cobra.Command{
		Use:     "logs NODE",
		Short:   "Show what functions wrote on a node",
		Example: `  sedge node logs -f pi-7`,
		RunE: func(cmd *cobra.Command, args []string) error {
			sh.node = args[0]
			return sh.logs(cmd.Context(), o.query(nil))
		},
	})
	o.addFlags(cmd)
	return cmd
}

func newNodeDiagnostics(sh *shell) *cobra.Command {
	return sh.nodeArgs(&cobra.Command{
		Use:   "diagnostics NODE",
		Short: "Ask a connected node how its machine and its agent are",
		Example: `  sedge node diagnostics pi-7
  sedge node diagnostics pi-7 -o json > pi-7.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var d edge.Diagnostics
			err := sh.ask(cmd.Context(), "", func(c *client.Client) (err error) {
				d, err = c.Diagnose(cmd.Context(), args[0])
				return err
			})
			if err != nil {
				return err
			}
			return sh.printDiagnostics(args[0], d)
		},
	})
}

func (sh *shell) printDiagnostics(name string, d edge.Diagnostics) error {
	if done, err := sh.structured(d); done {
		return err
	}
	r := sh.record()
	r.painted("Node", bold, name)
	r.field("Board", d.Board)
	r.field("Platform", d.Platform+", "+d.Kernel)
	r.field("Agent", d.Version+", "+d.Go)
	r.field("Up for", span(d.Uptime))
	r.field("Memory", size(d.Resident)+" resident")
	r.field("Disk", size(d.Free)+" free")
	r.field("Clock", day(d.Time))
	r.field("Position", fmt.Sprint(d.Synced.Revision))
	for _, c := range d.Checks {
		if !c.OK || c.Why != "" {
			r.painted("Check", yellow, c.Name+": "+c.Why)
		}
	}
	for _, f := range d.Functions {
		r.field("Function", strings.TrimSpace(fmt.Sprintf("%s %s %s", f.Name, f.Phase, f.Reason)))
	}
	return r.flush()
}
