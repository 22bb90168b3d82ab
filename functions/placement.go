package functions

import "fmt"

// The words of Placement.Mode and Placement.Pin.
const (
	ModeEach   = "each"
	ModeOne    = "one"
	PinNode    = "node"
	PinCluster = "cluster"
)

// HostLabel is the label that names a node: no two have the same value.
const HostLabel = "kubernetes.io/hostname"

// Shared reports whether each event runs once for the cluster, on whichever node
// holds its lease then. Nothing of such a function waits on a node or is kept
// there: no state, no timers, no stored events.
func (p Placement) Shared() bool { return p.Mode == ModeOne && p.Host() == "" }

// Host returns the name of the one node on which a function with mode one runs
// because it is pinned there, or "". Such a function needs no lease, and its
// node keeps for it what it keeps for any.
func (p Placement) Host() string {
	if p.Mode != ModeOne || p.Pin != PinNode {
		return ""
	}
	return p.Nodes[HostLabel]
}

// placement checks where the function runs, and that what it wants kept has a
// place there.
func (c *checker) placement(s Spec) {
	p := s.Placement
	c.choice("spec.placement.mode", p.Mode, c.features.modes)
	c.choice("spec.placement.sandbox", p.Sandbox, c.features.sandboxes)
	c.choice("spec.placement.pin", p.Pin, c.features.pins)
	c.labels("spec.placement.nodes", p.Nodes)
	if !p.Shared() {
		bound(c, "spec.state.maxBytes", s.State.MaxBytes, 1<<10, 1<<30)
		return
	}
	const (
		why  = "is kept on one node, and with placement.mode: one the next event may run on another"
		hint = "pin the function to a node with placement.nodes: {" + HostLabel + ": NAME}, or write placement.mode: each"
	)
	if s.State.MaxBytes != 0 {
		c.add("spec.state.maxBytes", RuleConflict, hint, why)
	}
	for i, t := range s.Triggers {
		if t.MQTT == nil {
			continue
		}
		field := fmt.Sprintf("spec.triggers[%d].mqtt", i)
		if t.MQTT.Hold != 0 {
			c.add(field+".hold", RuleConflict, hint, why)
		}
		if t.MQTT.Debounce != 0 {
			c.add(field+".debounce", RuleConflict, hint, why)
		}
	}
}
