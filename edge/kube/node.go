package kube

// Nodes is the kind of [Node].
var Nodes = Kind[Node]{Version: "v1", Name: "Node", Plural: "nodes"}

// A Node is a machine of the cluster.
type Node struct {
	TypeMeta
	Metadata Meta       `json:"metadata"`
	Status   NodeStatus `json:"status,omitzero"`
}

// A NodeStatus is what the kubelet says of its machine.
type NodeStatus struct {
	Conditions []Condition       `json:"conditions,omitempty"`
	Capacity   map[string]string `json:"capacity,omitempty"` // quantities: memory, cpu
}
