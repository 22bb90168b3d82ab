package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
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
		newNodeRevoke(sh), newNodeRemove(sh), newNodeAcceptEpoch(sh))
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

// askNode is ask about a node that is named on the command line.
func (sh *shell) askNode(ctx context.Context, name string, do func(*client.Client) error) error {
	err := sh.ask(ctx, "", do)
	e, ok := errors.AsType[*edge.Error](err)
	if !ok || e.Code != edge.NotFound {
		return err
	}
	near := sh.similarNode(ctx, name)
	if near == "" {
		return err
	}
	told := *e
	told.Hint = "did you mean " + near + "?"
	return &told
}

// similarNode returns the nodes whose names are close to name, or "". It asks no longer
// than a moment.
func (sh *shell) similarNode(ctx context.Context, name string) string {
	if name == "" {
		return ""
	}
	all := *sh
	all.node = ""
	ctx, stop := context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	list, err := all.nodes(ctx, "")
	if err != nil {
		return ""
	}
	names := make([]string, len(list))
	for i, n := range list {
		names[i] = n.Name
	}
	if slices.Contains(names, name) {
		return "" // it is there: something else was not found
	}
	if near := nearest(name, names); len(near) > 0 {
		return either(near)
	}
	return ""
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

// programText says what is to be known of a node's program beside its version.
func programText(p *edge.UpgradeReport) string {
	switch {
	case p == nil:
		return ""
	case p.Trial:
		return p.Version + " is on trial"
	case p.Refused != nil:
		return p.Refused.Version + " is not taken: " + p.Refused.Why
	case p.Failed != nil:
		return p.Failed.Version + " was given up: " + p.Failed.Why
	}
	return p.Fault
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
			err := sh.askNode(cmd.Context(), args[0], func(c *client.Client) (err error) {
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
	r.field("Upgrade", programText(n.Program))
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
