package node

import (
	"errors"
	"log/slog"

	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/cluster"
	"github.com/sedge-iot/sedge/edge/kube"
)

// Join has the node run what the Function resources of its Kubernetes cluster say.
// One that belongs to no cluster, or is to run no pods, stays as it is. It is
// called before Run.
func (n *Node) Join(o Options, lg *slog.Logger) error {
	if o.Pods.Mode == "off" {
		return nil
	}
	client, err := o.Pods.client()
	switch {
	case errors.Is(err, kube.ErrNone):
		return nil
	case err != nil && o.Pods.Kubeconfig == "":
		lg.Warn("functions of the cluster are not run", "err", err)
		return nil
	case err != nil:
		return &edge.Error{Code: edge.Invalid, Message: err.Error(), Hint: "--kubeconfig FILE names a file that kubectl could use, too"}
	}
	n.cluster = cluster.NewNode(cluster.NodeConfig{
		Name:      o.Pods.Node,
		Client:    client,
		Agent:     n.Agent,
		Sandboxes: n.walls(),
		Version:   settings.Version(),
		Logger:    lg.With("part", "cluster"),
	})
	return nil
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
