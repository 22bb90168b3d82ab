package hub

import (
	"context"
	"errors"
	"strconv"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
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
	named, list := r.URL.Query().Has("node"), []edge.FunctionStatus{}
	for _, d := range defined {
		if s, there := tell(d); there || !named {
			list = append(list, s)
		}
	}
	return map[string][]edge.FunctionStatus{"functions": list}, nil
}

func (h *Hub) getFunction(r *request) (any, error) {
	d, err := h.definition(r.Context(), r.PathValue("function"))
	if err != nil {
		return nil, err
	}
	tell, err := h.teller(r)
	if err != nil {
		return nil, err
	}
	r.header.Set("ETag", strconv.Quote(string(d.Function.Revision)))
	status, _ := tell(d)
	detail := edge.FunctionDetail{Definition: d, Status: status, Spread: h.Fleet.Spread()[d.Function.Name()]}
	last, err := h.Ledger.Rollouts(r.Context(), ledger.RolloutQuery{Function: d.Function.Name(), Limit: 1})
	if err == nil && len(last) > 0 && !last[0].State.Over() {
		detail.Rollout = &last[0]
	}
	return detail, err
}

func (h *Hub) history(r *request) (any, error) {
	name := r.PathValue("function")
	list, err := h.Ledger.History(r.Context(), name)
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
	if err != nil {
		return nil, noRevision(err, name, revision)
	}
	return f, nil
}

// definition returns a function as the ledger has it.
func (h *Hub) definition(ctx context.Context, name string) (edge.Definition, error) {
	d, err := h.Ledger.Function(ctx, name)
	if errors.Is(err, ledger.ErrNotFound) {
		return d, noFunction(name)
	}
	return d, err
}
