package hub

import (
	"context"
	"errors"
	"strconv"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/selector"
)

func (h *Hub) listFunctions(r *request) (any, error) {
	defined, _, err := h.Ledger.Functions(r.Context())
	if err != nil {
		return nil, err
	}
	tell, err := h.teller(r)
	if err != nil {
		return nil, err
	}
	named, list, seen := r.URL.Query().Has("node"), []edge.FunctionStatus{}, h.sight(r)
	for _, d := range defined {
		if !seen(d.Function.Name(), d.Selector) {
			continue
		}
		if s, there := tell(d); there || !named {
			list = append(list, s)
		}
	}
	return map[string][]edge.FunctionStatus{"functions": list}, nil
}

func (h *Hub) getFunction(r *request) (any, error) {
	d, err := h.visible(r, r.PathValue("function"))
	if err != nil {
		return nil, err
	}
	tell, err := h.teller(r)
	if err != nil {
		return nil, err
	}
	r.header.Set("ETag", strconv.Quote(string(d.Function.Revision)))
	status, _ := tell(d)
	detail := edge.FunctionDetail{Definition: d, Status: status, Spread: h.Fleet.Spread(r.asker().scope)[d.Function.Name()]}
	last, err := h.Ledger.Rollouts(r.Context(), ledger.RolloutQuery{Function: d.Function.Name(), Limit: 1})
	if err == nil && len(last) > 0 && !last[0].State.Over() {
		detail.Rollout = &last[0]
	}
	return detail, err
}

func (h *Hub) history(r *request) (any, error) {
	name := r.PathValue("function")
	list, err := h.Ledger.History(r.Context(), name)
	if err == nil {
		err = h.past(r, name)
	}
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, noFunction(name)
	}
	if err != nil {
		return nil, err
	}
	return map[string][]edge.Revision{"history": list}, nil
}

func (h *Hub) revision(r *request) (any, error) {
	name, revision := r.PathValue("function"), r.PathValue("revision")
	f, err := h.Ledger.Revision(r.Context(), name, revision)
	if err == nil {
		err = h.past(r, name)
	}
	if err != nil {
		return nil, noRevision(err, name, revision)
	}
	return f, nil
}

// past returns an error if who asks may not see what a function was: it is on none of his
// nodes, or on none at all any more, and nobody knows whose it was.
func (h *Hub) past(r *request, name string) error {
	if r.asker().scope.All() {
		return nil
	}
	_, err := h.visible(r, name)
	return err
}

// sight returns what tells whether who asks may see a function: one that is on a node of
// his scope, or that could be on no other.
func (h *Hub) sight(r *request) func(name, where string) bool {
	scope := r.asker().scope
	if scope.All() {
		return func(string, string) bool { return true }
	}
	spread := h.Fleet.Spread(scope)
	return func(name, where string) bool {
		placed, err := selector.Parse(where)
		return spread[name].Placed > 0 || err == nil && scope.Covers(placed)
	}
}

// visible returns a function as the ledger has it, if who asks may see it.
func (h *Hub) visible(r *request, name string) (edge.Definition, error) {
	d, err := h.definition(r.Context(), name)
	if err == nil && !h.sight(r)(name, d.Selector) {
		return edge.Definition{}, noFunction(name)
	}
	return d, err
}

// definition returns a function as the ledger has it.
func (h *Hub) definition(ctx context.Context, name string) (edge.Definition, error) {
	d, err := h.Ledger.Function(ctx, name)
	if errors.Is(err, ledger.ErrNotFound) {
		return d, noFunction(name)
	}
	return d, err
}
