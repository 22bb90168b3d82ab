package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/fleet"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/rollout"
	"github.com/sedge-iot/sedge/edge/selector"
	"github.com/sedge-iot/sedge/functions"
)

// arrivalTime is how long an answer waits for a change to arrive at a node.
const arrivalTime = 10 * time.Second

// Of the nodes on which a function may be tried.
const (
	pingTime = 2 * time.Second // that one may take to say that it is there: it may be gone unnoticed
	mostAsk  = 3               // of them
)

// A change is one of definitions: what it is made of, and what it does to nodes.
type change struct {
	in     ledger.Intent
	impact fleet.Change
	first  *fleet.Remote // the node whose having it is waited for, or nil
	try    *trial        // nil: there is nothing to try
	record func(ledger.Intent) (ledger.Result, error)
}

func (h *Hub) deploy(r *request) (any, error) {
	f, body, err := r.function()
	if err != nil {
		return nil, err
	}
	if err := edge.CheckSignature(body.Signature); err != nil {
		return nil, invalid("sedge deploy --signature sends one as it is to be", "%v", err)
	}
	p := r.params("dryRun", "confirmed")
	dryRun, confirmed := p.flag("dryRun"), p.flag("confirmed")
	in, err := r.intent()
	if err = errors.Join(p.err, err); err != nil {
		return nil, err
	}
	where, err := h.placed(r, f.Name(), body.Rollout)
	if err != nil {
		return nil, err
	}
	in.DryRun, in.Confirmed, in.Signature = dryRun, confirmed, body.Signature
	if body.Rollout != nil || !r.asker().scope.All() {
		text := where.String()
		in.Selector = &text
	}
	if in.Rollout, err = begun(body.Rollout, f, in.By); err != nil {
		return nil, err
	}
	return h.change(r, change{
		in: in, impact: fleet.Change{Place: &f, Where: where}, first: h.Fleet.First(f, where), try: &trial{f, where},
		record: func(in ledger.Intent) (ledger.Result, error) { return h.Ledger.Deploy(f, in) },
	})
}

// begun returns the rollout that a deploy asks for, or nil.
func begun(ask *edge.RolloutAsk, f functions.Function, by string) (*edge.Rollout, error) {
	if ask == nil || len(ask.Stages) == 0 && ask.Gate == nil {
		return nil, nil
	}
	r, err := rollout.Begin(*ask, f.Name(), "", f.Revision, by, time.Now().UTC())
	if err != nil {
		return nil, err
	}
	return &r, nil
}

// placed returns the selector of the nodes that a function is to be on: the one that is
// asked for, else the one that it has. What an operator deploys stays within his scope,
// and what is on other nodes too is not his to change.
func (h *Hub) placed(r *request, name string, ask *edge.RolloutAsk) (where selector.Selector, err error) {
	d, err := h.Ledger.Function(r.Context(), name)
	fresh := errors.Is(err, ledger.ErrNotFound)
	if err != nil && !fresh {
		return where, err
	}
	if where, err = selector.Parse(d.Selector); err != nil {
		return where, err
	}
	scope := r.asker().scope
	if !fresh && !scope.Covers(where) {
		return where, &edge.Error{Code: edge.Forbidden, Message: fmt.Sprintf("%s is on nodes beyond your scope, %s", name, scope), Hint: "deploy it under another name"}
	}
	if ask != nil {
		if where, err = selector.Parse(ask.Selector); err != nil {
			return where, err
		}
	}
	return selector.And(scope, where), nil
}

func (h *Hub) enable(r *request) (any, error) { return h.setEnabled(r, true) }

func (h *Hub) disable(r *request) (any, error) { return h.setEnabled(r, false) }

func (h *Hub) setEnabled(r *request, enabled bool) (any, error) {
	if err := r.decode(&struct{}{}); err != nil {
		return nil, err
	}
	name := r.PathValue("function")
	return h.changeOf(r, name, func(c *change) {
		c.record = func(in ledger.Intent) (ledger.Result, error) { return h.Ledger.SetEnabled(name, enabled, in) }
	})
}

func (h *Hub) rollback(r *request) (any, error) {
	var back edge.Rollback
	if err := r.decode(&back); err != nil {
		return nil, err
	}
	name := r.PathValue("function")
	return h.changeOf(r, name, func(c *change) {
		c.record = func(in ledger.Intent) (ledger.Result, error) {
			result, err := h.Ledger.Rollback(name, back.To, in)
			return result, noRevision(err, name, back.To)
		}
	})
}

// changeOf makes a change of a function that there is.
func (h *Hub) changeOf(r *request, name string, with func(*change)) (any, error) {
	p := r.params("confirmed")
	confirmed := p.flag("confirmed")
	in, err := r.intent()
	if err = errors.Join(p.err, err); err != nil {
		return nil, err
	}
	d, where, err := h.mine(r, name)
	if err != nil {
		return nil, err
	}
	in.Confirmed = confirmed
	c := change{in: in, first: h.Fleet.First(d.Function, where)}
	with(&c)
	return h.change(r, c)
}

// mine returns a function and where it is placed, if it is on no other nodes than those
// of who asks.
func (h *Hub) mine(r *request, name string) (d edge.Definition, where selector.Selector, err error) {
	if d, err = h.definition(r.Context(), name); err != nil {
		return d, where, err
	}
	where, err = h.placed(r, name, nil)
	return d, where, err
}

// change records a change, once a node has shown that it can run what is new, and once
// whoever asks has confirmed that it takes much away; and answers when it has arrived
// at that node. The others get it at the same time, and who is away when it comes back.
func (h *Hub) change(r *request, c change) (any, error) {
	ctx, stop := lasting(r.Context())
	defer stop()
	if err := h.lock(ctx); err != nil {
		return nil, err
	}
	defer h.unlock()
	if err := h.Fleet.Behind(); err != nil {
		return nil, err
	}
	dryRun := c.in.DryRun
	c.in.DryRun = true
	plan, err := c.record(c.in)
	if err != nil || dryRun {
		return h.told(r, plan), err
	}
	known := c.in.Confirmed
	if c.in.Confirmed, err = h.confirmed(c.impact, known); err != nil {
		return nil, err
	}
	untried := ""
	if c.try != nil && plan.Changed {
		if untried, err = h.tryOut(ctx, &c, plan.Signature); err != nil {
			return nil, err
		}
	}
	c.in.DryRun = false
	result, err := c.record(c.in)
	if err != nil {
		return nil, err
	}
	h.arrive(ctx, c.first, result.At)
	if known {
		h.Fleet.Confirmed()
	}
	answer := h.told(r, result)
	answer.Untried = untried
	return answer, nil
}

// A trial is what a node is to show that it can run.
type trial struct {
	functions.Function
	where selector.Selector
}

// tryOut has a node load what is new, which is then the first, or says why none has: one that
// goes away, or has gone unnoticed, is no reason against it.
func (h *Hub) tryOut(ctx context.Context, c *change, signature string) (untried string, err error) {
	var silent []string
	for _, on := range h.Fleet.Candidates(c.try.Function, c.try.where) {
		if len(silent) == mostAsk {
			break
		}
		if err = h.tryOn(ctx, on, c.try.Function, signature); err == nil {
			c.first = on
			return "", nil
		}
		if e, ok := errors.AsType[*edge.Error](err); !ok || e.Code != edge.Unavailable {
			return "", fmt.Errorf("try %s on node %s: %w", c.try.Name(), on.Name(), err)
		}
		silent = append(silent, on.Name())
	}
	c.first = nil
	if len(silent) == 0 {
		return "no node that it is placed on is connected", nil
	}
	return strings.Join(silent, ", ") + " did not answer", nil
}

// tryOn has a node load a function. Whether it is there is asked first, for which little time
// is given: a node whose link is half-open looks connected for a while.
func (h *Hub) tryOn(ctx context.Context, on *fleet.Remote, f functions.Function, signature string) error {
	asked, stop := context.WithTimeout(ctx, pingTime)
	defer stop()
	if _, err := on.Checks(asked); err != nil && asked.Err() != nil {
		return &edge.Error{Code: edge.Unavailable, Message: fmt.Sprintf("node %s does not answer", on.Name())}
	} else if e, ok := errors.AsType[*edge.Error](err); ok && e.Code == edge.Unavailable {
		return err
	}
	return on.Try(ctx, f, signature)
}

// confirmed says whether the ledger may note a change as confirmed: if it needs no
// confirmation, or has it.
func (h *Hub) confirmed(c fleet.Change, already bool) (bool, error) {
	impact := h.Fleet.Impact(c)
	if impact.Confirm && !already {
		return false, &edge.Error{
			Code:    edge.Unconfirmed,
			Message: fmt.Sprintf("with what went in the last minutes, %s", impact),
			Hint:    "say that you know: confirmed=true",
		}
	}
	return true, nil
}

// arrive waits until a change is known to the fleet, so that what is told of it is not of
// before, and until a node has it, or it is clear that it will not soon. No node is nil.
func (h *Hub) arrive(ctx context.Context, at *fleet.Remote, position edge.Position) {
	ctx, stop := context.WithTimeout(ctx, arrivalTime)
	defer stop()
	h.Fleet.Changed()
	err := h.Fleet.WaitFor(ctx, position)
	if at == nil {
		return
	}
	if err == nil {
		err = h.Fleet.WaitAt(ctx, at.ID(), position)
	}
	if err != nil {
		h.Logger.Info("change is recorded, and still on its way", "node", at.Name(), "err", err)
	}
}

// told returns what became of a function, and how far that has got.
func (h *Hub) told(r *request, result ledger.Result) edge.Change {
	c := result.Change
	c.Spread = h.Fleet.Spread(r.asker().scope)[c.Function]
	return c
}

func (h *Hub) deleteFunction(r *request) (any, error) {
	p := r.params("purge", "confirmed")
	purge, confirmed := p.flag("purge"), p.flag("confirmed")
	in, err := r.intent()
	if err = errors.Join(p.err, err); err != nil {
		return nil, err
	}
	name := r.PathValue("function")
	d, where, err := h.mine(r, name)
	if err != nil {
		return nil, err
	}
	in.Purge, in.Confirmed = purge, confirmed
	_, err = h.change(r, change{
		in: in, impact: fleet.Change{Delete: []string{name}}, first: h.Fleet.First(d.Function, where),
		record: func(in ledger.Intent) (ledger.Result, error) { return h.Ledger.Delete(name, in) },
	})
	if err != nil {
		return nil, err
	}
	return edge.Deleted{Function: name, Discarded: h.Fleet.Discarded(name), Purged: purge}, nil
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
