package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A Member is a node of the cluster that has an agent.
type Member struct {
	Node   string
	Labels map[string]string
	Fresh  bool // it gave a sign of life not long ago
}

// runs reports whether a function with that placement is meant for a node with
// those labels.
func runs(p functions.Placement, labels map[string]string) bool {
	for name, want := range p.Nodes {
		if got, ok := labels[name]; !ok || got != want {
			return false
		}
	}
	return true
}

// conditions returns what is to be said of a resource whose nodes say nodes: f
// is what it defines, nil if that cannot be read. Every node comes to the same
// words, so that they do not contradict each other in turn.
func conditions(generation int64, f *functions.Function, nodes map[string]NodeStatus, members []Member) (valid, ready Condition) {
	valid = Condition{Type: Valid, Status: "True", Reason: "Accepted", Generation: generation}
	ready = Condition{Type: Ready, Status: "False", Generation: generation}
	for _, name := range sorted(nodes) {
		if n := nodes[name]; n.Phase == Refused && n.Generation == generation {
			valid.Status, valid.Reason, valid.Message = "False", "Refused", n.Reason
			ready.Reason, ready.Message = "Refused", n.Reason
			return valid, ready
		}
	}
	if f == nil {
		return Condition{}, Condition{}
	}
	ready.Status, ready.Reason, ready.Message = readiness(generation, f, nodes, members)
	return valid, ready
}

func readiness(generation int64, f *functions.Function, nodes map[string]NodeStatus, members []Member) (status, reason, message string) {
	wanted, missing := 0, []string(nil)
	idle, why := 0, "" // nodes that leave it to others, and why the last of them does
	for _, m := range members {
		if !m.Fresh || !runs(f.Manifest.Spec.Placement, m.Labels) {
			continue
		}
		wanted++
		n, ok := nodes[m.Node]
		switch {
		case !ok || n.Generation != generation:
			missing = append(missing, m.Node)
		case n.Phase == string(edge.Failing):
			return "False", "Failing", about(m.Node, "it cannot be started", n.Reason)
		case n.Revision != f.Revision.Short():
			missing = append(missing, m.Node)
		case n.Phase == string(edge.Paused):
			return "False", "Paused", about(m.Node, "it is paused", n.Reason)
		case n.Phase == string(edge.Starting):
			return "False", "Starting", about(m.Node, "it is being started", n.Reason)
		case n.Phase == string(edge.Standby):
			idle, why = idle+1, about(m.Node, "it stands by", n.Reason)
		}
	}
	switch {
	case wanted == 0:
		return "False", "NoNode", "no node with an agent has the labels of placement.nodes"
	case len(missing) > 0:
		slices.Sort(missing)
		return "False", "Rolling", fmt.Sprintf("%d of %d nodes have it; waits for %s", wanted-len(missing), wanted, some(missing))
	case idle == wanted:
		return "False", "Standby", why
	case wanted == 1:
		return "True", "Runs", "on 1 node"
	}
	return "True", "Runs", fmt.Sprintf("on %d nodes", wanted)
}

func about(node, what, why string) string {
	if why == "" {
		return node + ": " + what
	}
	return node + ": " + what + ": " + why
}

// some names the first few.
func some(names []string) string {
	const few = 5
	if len(names) > few {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
	}
	return strings.Join(names, ", ")
}

// settle puts a condition among others, and reports whether that changed
// anything. The time changes only with the status.
func settle(all []Condition, c Condition, now time.Time) ([]Condition, bool) {
	i := slices.IndexFunc(all, func(old Condition) bool { return old.Type == c.Type })
	c.Message = cut(c.Message, maxMessage)
	c.Time = now
	if i < 0 {
		return append(slices.Clone(all), c), true
	}
	if all[i].Status == c.Status {
		c.Time = all[i].Time
	}
	same := c
	same.Time = all[i].Time
	if same == all[i] {
		return all, false
	}
	all = slices.Clone(all)
	all[i] = c
	return all, true
}

// Limits of what is written into a status, bytes.
const (
	maxReason  = 1024
	maxMessage = 8 << 10
	maxNodes   = 500 // entries; the nodes beyond run functions, but do not say so
)

// cut returns the beginning of s, at most n bytes, without half a letter.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n-len("…")], "") + "…"
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
