package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sedge-iot/sedge/edge/cluster"
)

// listMachines prints the nodes of a cluster.
func (sh *shell) listMachines(ctx context.Context) error {
	return sh.inClusterDo(func(c *cluster.Client) error {
		all, err := c.Nodes(ctx)
		if err != nil {
			return err
		}
		return sh.printMachines(all)
	})
}

func (sh *shell) printMachines(all []cluster.Machine) error {
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
