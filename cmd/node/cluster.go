package node

import (
	"github.com/sedge-iot/sedge/agent"
	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge/cluster"
	"github.com/sedge-iot/sedge/edge/kube"
)

var _ Lease = (*kube.Election)(nil)

// joins reports whether the node belongs to a Kubernetes cluster and works for it.
func (n *Node) joins() bool { return n.options.Joins && n.kube != nil }

// share makes the node stand for the lease of its Kubernetes cluster, whose holder
// runs what is to run once.
func (n *Node) share() (err error) {
	if !n.joins() {
		return nil
	}
	lg := n.lg.With("part", "cluster")
	n.carrier.Cluster, err = n.options.Cluster(kube.NewElection(kube.ElectionConfig{
		Leases:   kube.Leases.In(n.kube, cluster.Namespace),
		Name:     cluster.LeaderLease,
		Me:       n.options.Pods.Node,
		Duration: 3 * agent.HandOverTime, // a third of it is for that
		Logger:   lg,
	}), lg)
	return err
}

// join has the node run what the Function resources of its Kubernetes cluster say.
func (n *Node) join() {
	if !n.joins() {
		return
	}
	n.cluster = cluster.NewNode(cluster.NodeConfig{
		Name:      n.options.Pods.Node,
		Client:    n.kube,
		Agent:     n.Agent,
		Sandboxes: n.walls(),
		Version:   settings.Version(),
		Logger:    n.lg.With("part", "cluster"),
	})
}

// walls names the sandboxes that the node has. In its own pod an agent gets no
// control groups to confine processes with.
func (n *Node) walls() (names []string) {
	if n.pods != nil {
		names = append(names, "pod")
	}
	if !inPod() {
		names = append(names, "process")
	}
	return names
}
