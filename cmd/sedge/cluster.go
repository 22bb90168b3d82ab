package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/cluster"
	"github.com/sedge-iot/sedge/functions"
)

// clusterVerb makes cmd one that can also speak to a Kubernetes cluster.
func (sh *shell) clusterVerb(cmd *cobra.Command) *cobra.Command {
	f := cmd.PersistentFlags()
	f.StringVar(&sh.kubeconfig, "kubeconfig", "", "speak to the cluster of this kubeconfig `FILE`, not to a hub")
	f.StringVar(&sh.kubeContext, "kube-context", "", "`NAME` of the context in the kubeconfig")
	return cmd
}

// inCluster reports whether the user means a cluster.
func (sh *shell) inCluster() bool { return sh.kubeconfig != "" || sh.kubeContext != "" }

// inClusterDo has do speak to the cluster that the user means.
func (sh *shell) inClusterDo(do func(*cluster.Client) error) error {
	if sh.inCluster() && sh.hub != "" && sh.hub != defaultHub {
		return wrongUsage("leave one of them away", "a hub (%s) and a cluster are named: which is meant?", sh.hub)
	}
	c, err := cluster.Open(sh.kubeconfig, sh.kubeContext)
	if err != nil {
		return err
	}
	return do(c)
}

// deployToCluster applies functions one after another, and returns what became of
// them up to the first error.
func (sh *shell) deployToCluster(ctx context.Context, all []functions.Function, o deployOptions) error {
	if o.diff {
		return wrongUsage("leave --diff away, or see: kubectl get function NAME -o yaml", "--diff compares with a hub, not with a cluster")
	}
	if o.signed != "" {
		return wrongUsage("leave --signature away", "--signature is for the nodes of a hub, not for a cluster")
	}
	return sh.inClusterDo(func(c *cluster.Client) error {
		var changes []edge.Change
		for _, f := range all {
			change, err := c.Deploy(ctx, f, o.dryRun)
			if err != nil {
				return errors.Join(sh.printChanges(changes, deployed), aboutFunction(f, err))
			}
			changes = append(changes, change)
		}
		var err error
		if o.wait && !o.dryRun {
			err = sh.awaitInCluster(ctx, c, all, o.timeout)
		}
		return errors.Join(sh.printChanges(changes, deployed), err)
	})
}

// awaitInCluster returns once the functions are ready on every node.
func (sh *shell) awaitInCluster(ctx context.Context, c *cluster.Client, all []functions.Function, timeout time.Duration) error {
	ctx, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	for _, f := range all {
		waits, err := sh.awaitReady(ctx, c, f.Name())
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return &edge.Error{
				Code: edge.Timeout, Message: fmt.Sprintf("%s does not run as deployed after %s: %s", f.Name(), timeout, waits),
				Hint: "see how it goes on: kubectl describe function " + f.Name(),
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitReady returns once the function is ready, or what it still waited for when
// ctx ended.
func (sh *shell) awaitReady(ctx context.Context, c *cluster.Client, name string) (waits string, err error) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := c.Function(ctx, name)
		switch {
		case ctx.Err() != nil:
			return cmp.Or(waits, "the API server does not answer"), ctx.Err()
		case err != nil:
			return "", err
		}
		now, done, err := progress(r)
		if done || err != nil {
			return "", err
		}
		if now != waits {
			sh.say("%s: %s", name, now)
			waits = now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return waits, ctx.Err()
		}
	}
}

// progress says how far the nodes are with a function, in words; its error is that
// it will come to nothing.
func progress(r cluster.Resource) (waits string, done bool, err error) {
	valid, _ := r.Status.Condition(cluster.Valid)
	ready, told := r.Status.Condition(cluster.Ready)
	switch {
	case !told || ready.Generation != r.Metadata.Generation:
		return "no node has said anything yet; is an agent there? sedge node", false, nil
	case valid.Status == "False":
		return "", false, &edge.Error{Code: edge.Invalid, Message: r.Metadata.Name + " is refused: " + valid.Message, Hint: "mend it and deploy again; what ran before still runs"}
	case ready.Reason == "Failing":
		return "", false, &edge.Error{Code: edge.Internal, Message: r.Metadata.Name + " cannot be started: " + ready.Message, Hint: "mend it and deploy again"}
	case ready.Status == "True":
		return "", true, nil
	}
	return ready.Message, false, nil
}

// deleteFromCluster deletes functions; what waits for them is the nodes' affair.
func (sh *shell) deleteFromCluster(ctx context.Context, names []string, o deleteOptions) error {
	if o.purge {
		return wrongUsage("leave --purge away: state stays on the nodes", "--purge is for a hub, not for a cluster")
	}
	return sh.inClusterDo(func(c *cluster.Client) error {
		for _, name := range names { // all are there, before any goes
			if _, err := c.Function(ctx, name); err != nil {
				return err
			}
		}
		if !o.yes {
			fmt.Fprintln(sh.talk, "Deliveries that wait on the nodes will be discarded; state and dead letters stay there.")
			if err := sh.confirm("Delete " + plural(len(names), "function", "functions") + "?"); err != nil {
				return err
			}
		}
		var all []edge.Deleted
		for _, name := range names {
			if err := c.Delete(ctx, name); err != nil {
				return errors.Join(sh.printDeleted(all), err)
			}
			all = append(all, edge.Deleted{Function: name})
		}
		return sh.printDeleted(all)
	})
}

// listCluster prints the functions of those names, or all of the cluster.
func (sh *shell) listCluster(ctx context.Context, names []string, watch bool) error {
	if watch {
		return wrongUsage("kubectl get functions --watch does", "--watch looks at a hub, not at a cluster")
	}
	return sh.inClusterDo(func(c *cluster.Client) error {
		all, err := c.Functions(ctx)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			if all, err = chosen(all, names); err != nil {
				return err
			}
		}
		return sh.printResources(all)
	})
}

// chosen returns the resources of those names, or says which is missing.
func chosen(all []cluster.Resource, names []string) (some []cluster.Resource, err error) {
	for _, name := range names {
		i := slices.IndexFunc(all, func(r cluster.Resource) bool { return r.Metadata.Name == name })
		if i < 0 {
			return nil, &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("there is no function %s in this cluster", name), Hint: "see what there is: sedge list"}
		}
		some = append(some, all[i])
	}
	return some, nil
}

func (sh *shell) printResources(all []cluster.Resource) error {
	if done, err := sh.structured(all); done {
		return err
	}
	if sh.output == "name" {
		for _, r := range all {
			fmt.Fprintln(sh.out, r.Metadata.Name)
		}
		return nil
	}
	if len(all) == 0 {
		sh.say("No functions yet. Begin with: sedge new night-light")
		return nil
	}
	t := table{columns: []string{"NAME", "READY", "REASON", "NODES", "REVISION", "AGE", "+MESSAGE"}}
	for _, r := range all {
		c, _ := r.Status.Condition(cluster.Ready)
		t.add(r.Metadata.Name, readyCell(c.Status == "True"), cmp.Or(c.Reason, "-"), len(r.Status.Nodes),
			cmp.Or(r.Status.Revision, "-"), age(r.Metadata.Created), c.Message)
	}
	sh.table(t)
	return nil
}

func readyCell(ok bool) cell {
	if ok {
		return cell{"yes", green}
	}
	return cell{"no", yellow}
}

// age says how old something is.
func age(since *time.Time) string {
	if since == nil {
		return "-"
	}
	return strings.TrimSuffix(ago(*since), " ago")
}

// describeInCluster prints all about one function of the cluster.
func (sh *shell) describeInCluster(ctx context.Context, name string, code bool) error {
	return sh.inClusterDo(func(c *cluster.Client) error {
		r, err := c.Function(ctx, name)
		if err != nil {
			return err
		}
		if done, err := sh.structured(r); done {
			return err
		}
		if sh.output == "name" {
			_, err := fmt.Fprintln(sh.out, name)
			return err
		}
		return sh.printResource(r, code)
	})
}

func (sh *shell) printResource(r cluster.Resource, code bool) error {
	rec := sh.record()
	rec.painted("Name", bold, r.Metadata.Name)
	for _, kind := range []string{cluster.Valid, cluster.Ready} {
		c, ok := r.Status.Condition(kind)
		if !ok {
			continue
		}
		paint := green
		if c.Status != "True" {
			paint = yellow
		}
		rec.painted(kind, paint, strings.TrimSuffix(fmt.Sprintf("%s, %s: %s", c.Status, c.Reason, c.Message), ": "))
	}
	rec.field("Revision", r.Status.Revision)
	var nodes []string
	for name, s := range r.Status.Nodes {
		nodes = append(nodes, strings.TrimSpace(fmt.Sprintf("%s: %s %s %s", name, s.Phase, s.Revision, s.Reason)))
	}
	slices.Sort(nodes)
	rec.list("Nodes", nodes)
	f, err := r.Function()
	if err != nil {
		return rec.flush() // Valid says why
	}
	describeManifest(rec, f.Manifest.Spec)
	if code {
		rec.block("Code", f.Code)
	}
	return rec.flush()
}
