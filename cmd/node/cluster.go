package node

import (
	"log/slog"
	"maps"
	"os"
	"slices"

	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/cluster"
	"github.com/sedge-iot/sedge/edge/kube"
)

// Join has the node run what the Function resources of a Kubernetes cluster say:
// of the one that the options name or, in a pod, of its own. A node without a
// cluster stays as it is. It is called before Run.
func (n *Node) Join(o Options, lg *slog.Logger) error {
	if o.Kubeconfig == "" && os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		return nil
	}
	client, err := kube.Open(o.Kubeconfig)
	if err != nil {
		return &edge.Error{Code: edge.Invalid, Message: err.Error(), Hint: "a k3s server keeps a kubeconfig in " + kube.K3sConfig}
	}
	n.cluster = cluster.NewNode(cluster.NodeConfig{
		Name:      o.Name,
		Client:    client,
		Agent:     n.Agent,
		Sandboxes: slices.Sorted(maps.Keys(n.Agent.Sandboxes)),
		Version:   settings.Version(),
		Logger:    lg.With("part", "cluster"),
	})
	return nil
}
