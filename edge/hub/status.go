package hub

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/fleet"
	"github.com/sedge-iot/sedge/edge/selector"
)

// statusTime is how long a node may take to say how its functions are.
const statusTime = 5 * time.Second

// A teller says how a function is, and whether it is, or is to be, on the node that was
// asked about.
type teller func(edge.Definition) (s edge.FunctionStatus, there bool)

// teller returns one for the node that the request names, or for the only one that
// there is; for several together it sums up what they reported.
func (h *Hub) teller(r *request) (teller, error) {
	p := r.params("node")
	node := p.text("node", maxNode)
	if p.err != nil {
		return nil, p.err
	}
	members := h.members(r)
	if node == "" && len(members) != 1 {
		return h.sum(r, len(members)), nil
	}
	on, err := h.on(r, node)
	if err != nil {
		return nil, err
	}
	return h.ask(r.Context(), on)
}

// ask has a node say how its functions are. One that is away is told with the reason.
func (h *Hub) ask(ctx context.Context, on *fleet.Remote) (teller, error) {
	ctx, stop := context.WithTimeout(ctx, statusTime)
	defer stop()
	running := map[string]edge.FunctionStatus{}
	list, away := on.Status(ctx)
	for _, s := range list {
		running[s.Name] = s
	}
	detail, err := h.Fleet.Node(on.ID())
	if err != nil {
		return nil, err
	}
	unfit := map[string]edge.Unfit{}
	for _, u := range detail.Unfit {
		unfit[u.Name] = u
	}
	return func(d edge.Definition) (edge.FunctionStatus, bool) {
		name := d.Function.Name()
		s, ok := running[name]
		switch {
		case ok:
		case placedOn(d, detail.Node):
			s = expected(d)
			s.Reason = fmt.Sprintf("node %s does not have it yet", on.Name())
		default:
			s = expected(d)
			s.Phase, s.Reason = edge.Asleep, fmt.Sprintf("it is not placed on node %s", on.Name())
			return s, false
		}
		if away != nil {
			s.Reason = away.Error()
		}
		if u, ok := unfit[name]; ok && u.Error != nil {
			s.Phase, s.Reason = edge.Failing, u.Error.Message
		}
		if s.Triggers == nil {
			s.Triggers = []string{}
		}
		return s, true
	}, nil
}

// placedOn reports whether a function is to be on a node.
func placedOn(d edge.Definition, n edge.Node) bool {
	where, err := selector.Parse(d.Selector)
	return err == nil && selector.And(selector.Of(d.Function.Manifest.Spec.Placement.Nodes), where).Matches(n.PlacedBy())
}

// expected returns the status of a function of which nothing is known.
func expected(d edge.Definition) edge.FunctionStatus {
	s := edge.FunctionStatus{
		Name: d.Function.Name(), Revision: d.Function.Revision, Runtime: d.Function.Manifest.Spec.Runtime,
		Phase: edge.Starting, Triggers: []string{},
	}
	for _, t := range d.Function.Manifest.Spec.Triggers {
		s.Triggers = append(s.Triggers, t.Words())
	}
	return s
}

// gravity orders phases: what somebody should see first comes last.
var gravity = map[edge.Phase]int{
	edge.Asleep: 1, edge.Standby: 1, edge.Running: 2, edge.Disabled: 3, edge.Starting: 4, edge.Paused: 5, edge.Failing: 6,
}

// sum sums up what nodes have reported. A function is as it is where it is worst.
func (h *Hub) sum(r *request, members int) teller {
	reports := h.Fleet.Reports(r.asker().scope)
	spread := h.Fleet.Spread(r.asker().scope)
	return func(d edge.Definition) (edge.FunctionStatus, bool) {
		s := expected(d)
		name := s.Name
		on := spread[name]
		worst := 0
		for _, node := range slices.Sorted(maps.Keys(reports[name])) {
			told := reports[name][node]
			s.Counts.Taken += told.Runs
			s.Counts.Done += told.Runs - told.Failed
			s.Dead += told.Dead
			s.Waiting += told.Waiting
			if gravity[told.Phase] <= worst {
				continue
			}
			worst = gravity[told.Phase]
			if s.Phase, s.Reason = told.Phase, told.Reason; told.Reason != "" {
				s.Reason = node + ": " + told.Reason
			}
		}
		switch {
		case members == 0:
			s.Phase, s.Reason = edge.Starting, "the hub has no node: sedge token create"
		case on.Placed == 0:
			s.Phase, s.Reason = edge.Asleep, "it is placed on no node"
		case on.Connected == 0:
			s.Phase, s.Reason = edge.Starting, "no node that it is placed on is connected"
		case on.Unfit > 0:
			s.Phase, s.Reason = edge.Failing, fmt.Sprintf("%d of %d nodes cannot run it", on.Unfit, on.Placed)
		case on.Behind > 0:
			s.Phase = edge.Starting
			s.Reason = fmt.Sprintf("%d of %d nodes have it", on.Current, on.Placed)
		}
		return s, true
	}
}
