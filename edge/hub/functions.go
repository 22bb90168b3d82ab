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
	running := h.running()
	list := make([]edge.FunctionStatus, len(defined))
	for i, d := range defined {
		list[i] = h.status(d, running)
	}
	return map[string][]edge.FunctionStatus{"functions": list}, nil
}

func (h *Hub) getFunction(r *request) (any, error) {
	d, err := h.definition(r.Context(), r.PathValue("function"))
	if err != nil {
		return nil, err
	}
	r.header.Set("ETag", strconv.Quote(string(d.Function.Revision)))
	return edge.FunctionDetail{Definition: d, Status: h.status(d, h.running())}, nil
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

// running returns the node's functions by name.
func (h *Hub) running() map[string]edge.FunctionStatus {
	running := map[string]edge.FunctionStatus{}
	for _, s := range h.Node.Functions() {
		running[s.Name] = s
	}
	return running
}

// status returns how a function is on the node. One that the node has not is
// told too, with the reason.
func (h *Hub) status(d edge.Definition, running map[string]edge.FunctionStatus) edge.FunctionStatus {
	name := d.Function.Name()
	refused := h.refused.reason(name)
	s, ok := running[name]
	if !ok {
		s = edge.FunctionStatus{Name: name, Revision: d.Function.Revision, Runtime: d.Function.Manifest.Spec.Runtime, Phase: edge.Starting}
	}
	if refused != "" {
		s.Phase, s.Reason = edge.Failing, refused
	}
	if s.Triggers == nil {
		s.Triggers = []string{}
	}
	return s
}
