package hub

import (
	"context"
	"errors"
	"fmt"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

// A runner runs functions. Put replaces what runs under the name and does
// little for what runs already; where it returns an error, what ran before
// still runs. Remove tells how many deliveries waited.
type runner interface {
	Put(ctx context.Context, d edge.Definition) error
	Remove(ctx context.Context, name string, purge bool) (discarded int, err error)
	Functions() []edge.FunctionStatus
}

func (h *Hub) deploy(r *request) (any, error) {
	f, err := r.function()
	if err != nil {
		return nil, err
	}
	p := r.params("dryRun")
	dryRun := p.flag("dryRun")
	if p.err != nil {
		return nil, p.err
	}
	return h.change(r, dryRun, func(in ledger.Intent) (ledger.Result, error) { return h.Ledger.Deploy(f, in) }, &f)
}

func (h *Hub) enable(r *request) (any, error) { return h.setEnabled(r, true) }

func (h *Hub) disable(r *request) (any, error) { return h.setEnabled(r, false) }

func (h *Hub) setEnabled(r *request, enabled bool) (any, error) {
	if err := r.decode(&struct{}{}); err != nil {
		return nil, err
	}
	return h.change(r, false, func(in ledger.Intent) (ledger.Result, error) {
		return h.Ledger.SetEnabled(r.PathValue("function"), enabled, in)
	}, nil)
}

func (h *Hub) rollback(r *request) (any, error) {
	var back edge.Rollback
	if err := r.decode(&back); err != nil {
		return nil, err
	}
	name := r.PathValue("function")
	return h.change(r, false, func(in ledger.Intent) (ledger.Result, error) {
		result, err := h.Ledger.Rollback(name, back.To, in)
		return result, noRevision(err, name, back.To)
	}, nil)
}

// change makes a change in the node and in the ledger, or in neither. The
// ledger is asked first what would become of the function; then the node gets
// it, and shows whether it runs; then the ledger records it. If the hub dies in
// between, the node is given what the ledger holds when the hub comes back.
//
// f is the function, or nil for one that the ledger has already.
func (h *Hub) change(r *request, dryRun bool, record func(ledger.Intent) (ledger.Result, error), f *functions.Function) (any, error) {
	in, err := r.intent()
	if err != nil {
		return nil, err
	}
	ctx, stop := lasting(r.Context())
	defer stop()
	if err := h.lock(ctx); err != nil {
		return nil, err
	}
	defer h.unlock()

	name := r.PathValue("function")
	before, err := h.definition(ctx, name)
	if err != nil && (f == nil || told(err).Code != edge.NotFound) {
		return nil, err
	}
	in.DryRun = true
	plan, err := record(in)
	if err != nil || dryRun {
		return plan.Change, err
	}
	after := edge.Definition{Enabled: plan.Enabled}
	if f != nil {
		after.Function = *f
	} else if after.Function, err = h.Ledger.Revision(ctx, name, string(plan.Revision)); err != nil {
		return nil, err
	}
	if err := h.Node.Put(ctx, after); err != nil {
		return nil, fmt.Errorf("give %s to the node: %w", name, err)
	}
	in.DryRun = false
	result, err := record(in)
	if err != nil {
		h.takeBack(ctx, name, before)
		return nil, err
	}
	h.refused.set(name, nil)
	return result.Change, nil
}

// takeBack gives the node what it had before a change that was not recorded.
func (h *Hub) takeBack(ctx context.Context, name string, before edge.Definition) {
	ctx, stop := lasting(ctx) // though the change's own time may be up
	defer stop()
	var err error
	if before.Function.Revision != "" {
		err = h.Node.Put(ctx, before)
		h.refused.set(name, err)
	} else {
		_, err = h.Node.Remove(ctx, name, false)
	}
	if err != nil && told(err).Code != edge.NotFound {
		h.Logger.Error("change that was not recorded runs on at the node", "fn", name, "err", err)
	}
}

func (h *Hub) deleteFunction(r *request) (any, error) {
	p := r.params("purge")
	purge := p.flag("purge")
	in, err := r.intent()
	if err = errors.Join(p.err, err); err != nil {
		return nil, err
	}
	ctx, stop := lasting(r.Context())
	defer stop()
	if err := h.lock(ctx); err != nil {
		return nil, err
	}
	defer h.unlock()

	name := r.PathValue("function")
	before, err := h.definition(ctx, name)
	if err != nil {
		return nil, err
	}
	in.DryRun = true
	if _, err := h.Ledger.Delete(name, in); err != nil {
		return nil, err
	}
	// The node comes first: should the hub die in between, asking again works.
	discarded, err := h.Node.Remove(ctx, name, purge)
	if err != nil && told(err).Code != edge.NotFound {
		return nil, fmt.Errorf("take %s from the node: %w", name, err)
	}
	in.DryRun = false
	if _, err := h.Ledger.Delete(name, in); err != nil {
		h.takeBack(ctx, name, before)
		return nil, err
	}
	h.refused.set(name, nil)
	return edge.Deleted{Function: name, Discarded: discarded, Purged: purge}, nil
}

// handOver gives the node what the ledger holds, and takes from it what the
// ledger has not. What the node refuses is told in its status.
func (h *Hub) handOver(ctx context.Context) error {
	if h.lock(ctx) != nil {
		return nil
	}
	defer h.unlock()
	defined, _, err := h.Ledger.Functions(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	gone := h.running()
	for _, d := range defined {
		name := d.Function.Name()
		delete(gone, name)
		err := h.Node.Put(ctx, d)
		if ctx.Err() != nil {
			return nil
		}
		if h.refused.set(name, err); err != nil {
			h.Logger.Error("function refused by the node", "fn", name, "revision", d.Function.Revision.Short(), "err", err)
		}
	}
	for name := range gone {
		discarded, err := h.Node.Remove(ctx, name, false)
		if ctx.Err() != nil {
			return nil
		}
		h.Logger.Warn("function removed from the node, since the hub has it no more", "fn", name, "discarded", discarded, "err", err)
	}
	h.handed.Store(true)
	return nil
}

// lock waits until nobody else changes definitions.
func (h *Hub) lock(ctx context.Context) error {
	select {
	case h.changing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &edge.Error{Code: edge.Unavailable, Message: "another change of functions is taking its time", Hint: "try again"}
	}
}

func (h *Hub) unlock() { <-h.changing }

// lasting returns a context for what, once begun, is brought to an end though
// who asked has gone.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), changeTime)
}
