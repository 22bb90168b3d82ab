package hub

import (
	"fmt"
	"strings"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/fleet"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/selector"
)

func (h *Hub) listNodes(r *request) (any, error) {
	p := r.params("selector", "after")
	text, after := p.text("selector", selector.MaxText), p.text("after", maxNode)
	if p.err != nil {
		return nil, p.err
	}
	where, err := selector.Parse(text)
	if err != nil {
		return nil, err
	}
	list := []edge.NodeDetail{}
	for _, n := range h.Fleet.Nodes(selector.And(r.asker().scope, where)) {
		if n.Name <= after {
			continue
		}
		d, err := h.Fleet.Node(n.ID)
		if err != nil {
			continue // it has just been removed
		}
		if list = append(list, d); len(list) == mostPage {
			break
		}
	}
	return map[string][]edge.NodeDetail{"nodes": list}, nil
}

// node returns the node that the path names, if who asks may see it.
func (h *Hub) node(r *request, idOrName string) (edge.NodeDetail, error) {
	d, err := h.Fleet.Node(idOrName)
	if err == nil && !r.asker().scope.Matches(d.PlacedBy()) {
		err = &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("there is no node %.63q", idOrName)}
	}
	return d, err
}

func (h *Hub) getNode(r *request) (any, error) { return h.node(r, r.PathValue("node")) }

func (h *Hub) approve(r *request) (any, error) { return h.steerNode(r, h.Ledger.Approve) }

func (h *Hub) cordon(r *request) (any, error) {
	return h.steerNode(r, func(id string, who ledger.Who) (edge.Node, error) { return h.Ledger.Cordon(id, true, who) })
}

func (h *Hub) uncordon(r *request) (any, error) {
	return h.steerNode(r, func(id string, who ledger.Who) (edge.Node, error) { return h.Ledger.Cordon(id, false, who) })
}

func (h *Hub) revoke(r *request) (any, error) {
	return h.steerNode(r, func(id string, who ledger.Who) (edge.Node, error) {
		return h.Ledger.Revoke(id, "revoked by "+who.By, who)
	})
}

func (h *Hub) removeNode(r *request) (any, error) {
	_, err := h.steerNode(r, h.Ledger.RemoveNode)
	return nil, err
}

// steerNode has the ledger change the node that the path names.
func (h *Hub) steerNode(r *request, do func(id string, who ledger.Who) (edge.Node, error)) (any, error) {
	d, err := h.node(r, r.PathValue("node"))
	if err != nil {
		return nil, err
	}
	who, err := r.who()
	if err != nil {
		return nil, err
	}
	n, err := do(d.ID, who)
	if err != nil {
		return nil, refused(err, "node")
	}
	at, err := h.Ledger.Position(r.Context())
	if err != nil {
		return nil, err
	}
	h.arrive(r.Context(), nil, at)
	n.Connected = d.Connected
	return n, nil
}

func (h *Hub) labelNode(r *request) (any, error) {
	var changes selector.Changes
	if err := r.decode(&changes); err != nil {
		return nil, err
	}
	p := r.params("confirmed")
	confirmed := p.flag("confirmed")
	if p.err != nil {
		return nil, p.err
	}
	return h.steerNode(r, func(id string, who ledger.Who) (edge.Node, error) {
		d, err := h.Fleet.Node(id)
		if err != nil {
			return edge.Node{}, err
		}
		labels, err := changes.Apply(d.Labels)
		if err != nil {
			return edge.Node{}, err
		}
		known, err := h.confirmed(fleet.Change{Node: id, Labels: labels}, confirmed)
		if err != nil {
			return edge.Node{}, err
		}
		return h.Ledger.SetLabels(id, labels, known, who)
	})
}

func (h *Hub) diagnose(r *request) (any, error) {
	on, err := h.on(r, r.PathValue("node"))
	if err != nil {
		return nil, err
	}
	return on.Diagnostics(r.Context())
}

func (h *Hub) acceptEpoch(r *request) (any, error) {
	who, err := r.who()
	if err != nil {
		return nil, err
	}
	at, err := h.Fleet.AcceptEpoch(who)
	if err == nil {
		h.arrive(r.Context(), nil, at)
	}
	return at, err
}

// maxNode is how long the name of a node may be, bytes.
const maxNode = 253

// target returns the node that a request names as node, or the one that there is.
func (h *Hub) target(r *request, p *params) (*fleet.Remote, error) {
	node := p.text("node", maxNode)
	if p.err != nil {
		return nil, p.err
	}
	return h.on(r, node)
}

// on returns the node of that id or name, to be asked; "" is the one that there is.
func (h *Hub) on(r *request, idOrName string) (*fleet.Remote, error) {
	if idOrName == "" {
		only, err := h.only(r)
		if err != nil {
			return nil, err
		}
		idOrName = only.ID
	}
	if _, err := h.node(r, idOrName); err != nil {
		return nil, err
	}
	return h.Fleet.On(idOrName)
}

// only returns the one node that there is for who asks.
func (h *Hub) only(r *request) (edge.Node, error) {
	all := h.members(r)
	switch {
	case len(all) == 0:
		return edge.Node{}, &edge.Error{Code: edge.Unavailable, Message: "the hub has no node", Hint: "let one join: sedge token create"}
	case len(all) > 1:
		names := make([]string, min(len(all), 3))
		for i := range names {
			names[i] = all[i].Name
		}
		return edge.Node{}, invalid("sedge node list shows them; add --node NAME, as HTTP ?node=NAME", "which of %d nodes is meant: %s, …?", len(all), strings.Join(names, ", "))
	}
	return all[0], nil
}

// members returns the nodes of the fleet that who asks may see.
func (h *Hub) members(r *request) []edge.Node {
	all := h.Fleet.Nodes(r.asker().scope)
	members := all[:0]
	for _, n := range all {
		if n.Standing == edge.Member {
			members = append(members, n)
		}
	}
	return members
}
