package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge/cluster"
)

func newNode(sh *shell) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "node [COMMAND]",
		Aliases: []string{"nodes"},
		Short:   "See the nodes of a k3s cluster",
		Long: `See the nodes of a k3s cluster: of the one that --kubeconfig names, else of
kubectl's own, else of the k3s server on this machine.`,
		Example: `  sedge node
  sedge node list --kubeconfig /etc/rancher/k3s/k3s.yaml -o wide`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return group(cmd, args)
			}
			return sh.listNodes(cmd.Context())
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:     "list",
		Aliases: []string{"ls", "get"},
		Short:   "List nodes, their sandboxes and how they are",
		Example: `  sedge node list -o json`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return sh.listNodes(cmd.Context()) },
	})
	return sh.clusterVerb(cmd)
}

// listNodes prints the nodes of a cluster: without a word which, of the one that
// kubectl would take.
func (sh *shell) listNodes(ctx context.Context) error {
	return sh.inClusterDo(func(c *cluster.Client) error {
		all, err := c.Nodes(ctx)
		if err != nil {
			return err
		}
		return sh.printNodes(all)
	})
}

func (sh *shell) printNodes(all []cluster.Machine) error {
	if done, err := sh.structured(all); done {
		return err
	}
	if sh.output == "name" {
		for _, n := range all {
			fmt.Fprintln(sh.out, n.Name)
		}
		return nil
	}
	t := table{columns: []string{"NAME", "READY", "SANDBOXES", "VERSION", "FUNCTIONS", "AGE", "+MEMORY", "+REASON", "LABELS"}}
	for _, n := range all {
		t.add(n.Name, readyCell(n.Ready), dash(strings.Join(n.Sandboxes, ",")), dash(n.Version), n.Functions,
			age(&n.Created), dash(n.Memory), n.Reason, sh.nodeLabels(n.Labels))
	}
	sh.table(t)
	if sh.output != "wide" {
		for _, n := range all {
			if n.Reason != "" {
				sh.say("%s: %s", n.Name, n.Reason)
			}
		}
	}
	return nil
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// nodeLabels writes labels as Kubernetes does; those that it sets itself only in
// the wide form.
func (sh *shell) nodeLabels(labels map[string]string) string {
	var all []string
	for name, value := range labels {
		prefix, _, _ := strings.Cut(name, "/")
		own := strings.HasSuffix(prefix, "kubernetes.io") || strings.HasSuffix(prefix, "k3s.io") || strings.HasSuffix(prefix, "k8s.io")
		if !own || sh.output == "wide" {
			all = append(all, name+"="+value)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}
