package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions"
)

// A Client lets people work with the Function resources of a cluster. Its errors
// are *edge.Error where a person can do something about them.
type Client struct {
	host      string
	functions *kube.Objects[Resource]
	leases    *kube.Objects[kube.Lease]
	nodes     *kube.Objects[kube.Node]
}

// Open returns a client of the cluster that the kubeconfig and its context name;
// "" is what kubectl would take, or the k3s server on this machine.
func Open(kubeconfig, kubeContext string) (*Client, error) {
	c, err := kube.OpenContext(kubeconfig, kubeContext)
	switch {
	case errors.Is(err, kube.ErrNone):
		return nil, &edge.Error{Code: edge.Invalid, Message: "which cluster? there is no kubeconfig here", Hint: "like --kubeconfig " + kube.K3sConfig}
	case err != nil:
		return nil, &edge.Error{Code: edge.Invalid, Message: err.Error(), Hint: "a k3s server keeps one in " + kube.K3sConfig}
	}
	return &Client{
		host:      c.Host(),
		functions: Functions.In(c, ""),
		leases:    kube.Leases.In(c, Namespace),
		nodes:     kube.Nodes.In(c, ""),
	}, nil
}

// Deploy makes f the function of its name in the cluster; dry only asks the API
// server whether it would take it.
func (c *Client) Deploy(ctx context.Context, f functions.Function, dry bool) (edge.Change, error) {
	r, err := NewResource(f)
	if err != nil {
		return edge.Change{}, &edge.Error{Code: edge.TooLarge, Message: err.Error(), Hint: "import less, or make a container of it (runtime: image)"}
	}
	change := edge.Change{Function: f.Name(), Revision: f.Revision, Enabled: true, DryRun: dry, Changed: true}
	old, err := c.functions.Get(ctx, f.Name())
	switch {
	case kube.IsNotFound(err):
		change.Created = true
	case err != nil:
		return edge.Change{}, c.explain(err)
	default:
		was, err := old.Function()
		change.Changed = err != nil || was.Revision != f.Revision
		if err == nil && change.Changed {
			change.Previous = was.Revision
		}
	}
	if _, err := c.functions.Try(ctx, &r, dry); err != nil {
		return edge.Change{}, c.explain(err)
	}
	return change, nil
}

// Delete deletes a function of the cluster. Its state stays on the nodes.
func (c *Client) Delete(ctx context.Context, name string) error {
	old, err := c.Function(ctx, name)
	if err != nil {
		return err
	}
	return c.explain(c.functions.Delete(ctx, name, old.Metadata.UID))
}

// Function returns one function of the cluster.
func (c *Client) Function(ctx context.Context, name string) (Resource, error) {
	r, err := c.functions.Get(ctx, name)
	if err != nil {
		return Resource{}, c.explain(err)
	}
	return *r, nil
}

// Functions returns all functions of the cluster, by name.
func (c *Client) Functions(ctx context.Context) ([]Resource, error) {
	all, err := c.functions.List(ctx, kube.Selector{})
	if err != nil {
		return nil, c.explain(err)
	}
	list := make([]Resource, len(all))
	for i, r := range all {
		list[i] = *r
	}
	slices.SortFunc(list, func(a, b Resource) int { return strings.Compare(a.Metadata.Name, b.Metadata.Name) })
	return list, nil
}

// A Machine is a node of the cluster as people see it.
type Machine struct {
	Name      string            `json:"name"`
	Ready     bool              `json:"ready"`            // the node is, and its agent gives signs of life
	Reason    string            `json:"reason,omitempty"` // why it is not ready
	Sandboxes []string          `json:"sandboxes"`
	Version   string            `json:"version,omitempty"` // of the agent
	Functions int               `json:"functions"`
	Memory    string            `json:"memory,omitempty"` // a Kubernetes quantity
	Labels    map[string]string `json:"labels,omitempty"`
	Created   time.Time         `json:"created,omitzero"`
	Seen      time.Time         `json:"seen,omitzero"` // the agent's last sign of life, by its own clock
}

// Nodes returns the nodes of the cluster by name, those without an agent too.
func (c *Client) Nodes(ctx context.Context) ([]Machine, error) {
	nodes, err := c.nodes.List(ctx, kube.Selector{})
	if err != nil {
		return nil, c.explain(err)
	}
	leases, err := c.leases.List(ctx, leaseSelector)
	if err != nil {
		return nil, c.explain(err)
	}
	return machines(nodes, leases, time.Now()), nil
}

// machines brings together what the cluster and the agents say.
func machines(nodes []*kube.Node, leases []*kube.Lease, now time.Time) []Machine {
	all := map[string]*Machine{}
	for _, n := range nodes {
		m := &Machine{Name: n.Metadata.Name, Reason: "no agent has been seen here", Sandboxes: []string{}, Labels: n.Metadata.Labels, Memory: n.Status.Capacity["memory"]}
		if n.Metadata.Created != nil {
			m.Created = *n.Metadata.Created
		}
		all[m.Name] = m
	}
	for _, l := range leases {
		name := strings.TrimPrefix(l.Metadata.Name, leasePrefix)
		m := all[name]
		if m == nil {
			m = &Machine{Name: name, Labels: labelsIn(l), Memory: l.Metadata.Annotations[memoryAnnotation]}
			if l.Metadata.Created != nil {
				m.Created = *l.Metadata.Created
			}
			all[name] = m
		}
		m.agent(l, now)
	}
	for _, n := range nodes {
		for _, c := range n.Status.Conditions {
			if m := all[n.Metadata.Name]; c.Type == "Ready" && c.Status != "True" {
				m.Ready, m.Reason = false, "the kubelet is not ready: "+c.Message
			}
		}
	}
	list := make([]Machine, 0, len(all))
	for _, name := range sorted(all) {
		list = append(list, *all[name])
	}
	return list
}

// agent takes over what the agent says in its lease.
func (m *Machine) agent(l *kube.Lease, now time.Time) {
	said := l.Metadata.Annotations
	m.Sandboxes = strings.FieldsFunc(said[sandboxesAnnotation], func(r rune) bool { return r == ',' })
	m.Version = said[versionAnnotation]
	if n, err := strconv.Atoi(said[functionsAnnotation]); err == nil {
		m.Functions = n
	}
	if l.Spec.Renewed == nil {
		return
	}
	m.Seen = l.Spec.Renewed.Time
	if l.Spec.Holder == "" {
		m.Reason = "its agent was ended"
		return
	}
	if age := now.Sub(m.Seen); age > signHolds {
		m.Reason = fmt.Sprintf("its agent gave no sign of life for %v", age.Round(time.Second))
		return
	}
	m.Ready, m.Reason = true, ""
}

// explain says what a person can do about an error of the API server.
func (c *Client) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case kube.IsUnknownKind(err):
		return &edge.Error{Code: edge.NotFound, Message: "the cluster at " + c.host + " does not know functions", Hint: "put sedge on it: kubectl apply -f sedge.yaml"}
	case kube.IsNotFound(err):
		return &edge.Error{Code: edge.NotFound, Message: err.Error(), Hint: "see what there is: sedge list"}
	case kube.IsInvalid(err):
		return &edge.Error{Code: edge.Invalid, Message: err.Error()}
	case kube.IsDenied(err):
		return &edge.Error{Code: edge.Forbidden, Message: err.Error(), Hint: "use a kubeconfig that may, or ask who looks after the cluster"}
	case kube.IsConflict(err), kube.IsExists(err):
		return &edge.Error{Code: edge.Conflict, Message: err.Error(), Hint: "somebody else changed it at the same time: try again"}
	case kube.Away(err):
		return &edge.Error{Code: edge.Unavailable, Message: fmt.Sprintf("the API server at %s does not answer: %v", c.host, err), Hint: "see that the cluster is up and the kubeconfig is of it"}
	}
	return err
}
