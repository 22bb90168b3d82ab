package agent

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A candidate is a definition that is to come into force.
type candidate struct {
	store.Function
	f      *function
	told   functions.Revision
	plan   *plan                // nil: it is not put
	worker *worker              // of it, or nil
	lack   *functions.LackError // what it waits for, or nil
	fault  *edge.Error          // why the revision that was told does not come into force, or nil
}

// candidates readies definitions, several at a time.
func (a *Agent) candidates(ctx context.Context, put []edge.Definition) []*candidate {
	list := make([]*candidate, len(put))
	var g errgroup.Group
	g.SetLimit(4)
	for i, d := range put {
		g.Go(func() error { list[i] = a.candidate(ctx, d); return nil })
	}
	g.Wait() // the faults are in the candidates
	return list
}

// candidate readies a definition: it compiles it, and starts a worker of it, unless it
// is the current revision already or is not to run.
func (a *Agent) candidate(ctx context.Context, d edge.Definition) *candidate {
	c := &candidate{Function: store.Function{Definition: d}, f: a.claim(d.Function.Name()), told: d.Function.Revision}
	f := c.f
	f.mu.Lock()
	has, plan, there, failing := f.def, f.plan, !f.removed.Load(), f.failing != ""
	f.mu.Unlock()
	same := there && has.Function.Revision == c.told
	bare := d.Function.Manifest.Spec.Runtime == ""
	switch {
	case there && has.Origin != d.Origin:
		c.fault = notYours(f.name, has.Origin)
		return c
	case there && has.Bad != "" && has.Bad == c.told:
		return c.keep(has, plan, gaveUp(has))
	case bare && same:
		c.Definition.Function, c.plan = has.Function, plan
	case bare:
		return c.keep(has, plan, invalid(f.name, fmt.Errorf("this node does not have revision %s", c.told.Short())))
	default:
		if c.plan, c.fault = a.compile(d.Function); c.fault != nil {
			return c
		}
	}
	if there {
		c.Good = has.Good
	}
	if same && !failing || !d.Enabled || c.plan.home == elsewhere {
		return c
	}
	var err error
	if c.worker, c.lack, err = a.load(ctx, c.Definition.Function, c.plan); err != nil {
		if fault, ok := errors.AsType[*edge.Error](err); ok {
			c.plan, c.fault = nil, fault
			return c
		}
		a.Logger.Warn("function could not be started yet", "fn", f.name, "err", err)
	}
	return c
}

// keep lets what the node has, if anything, stay in force, but for being enabled as
// was told.
func (c *candidate) keep(has store.Function, p *plan, fault *edge.Error) *candidate {
	enabled := c.Enabled
	c.Function, c.fault = has, fault
	if has.Enabled != enabled && !c.f.removed.Load() {
		c.Enabled, c.plan = enabled, p
	}
	return c
}

// compile checks a function and makes its plan.
func (a *Agent) compile(fn functions.Function) (*plan, *edge.Error) {
	if err := functions.Validate(fn.Manifest); err != nil {
		return nil, invalid(fn.Name(), err)
	}
	p, err := newPlan(fn, a.Node)
	if err != nil {
		return nil, invalid(fn.Name(), err)
	}
	if p.home == shared && a.cluster == nil {
		return nil, noCluster(fn.Name())
	}
	return p, nil
}

// load starts a worker of fn. What can never be loaded here is an *edge.Error. What the
// function lacks is no error: it may come yet.
func (a *Agent) load(ctx context.Context, fn functions.Function, p *plan) (*worker, *functions.LackError, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	w, err := a.start(ctx, fn, p)
	if lack, ok := errors.AsType[*functions.LackError](err); ok {
		return nil, lack, nil
	}
	if errors.Is(err, functions.ErrUnfit) {
		return nil, nil, &edge.Error{
			Code: edge.Invalid, Message: fmt.Sprintf("%s does not load: %v", fn.Name(), err),
			Hint: "mend it and deploy again; what ran before still runs",
		}
	}
	return w, nil, err
}

func invalid(name string, err error) *edge.Error {
	return &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("%s: %v", name, err)}
}

// notYours refuses a function whose name is taken by somebody else's.
func notYours(name, origin string) *edge.Error {
	whose := "the hub's"
	if origin == edge.FromCluster {
		whose = "a resource of the Kubernetes cluster"
	}
	return &edge.Error{
		Code: edge.Conflict, Message: fmt.Sprintf("%s: a function of that name is %s on this node", name, whose),
		Hint: "give one of them another name",
	}
}

// gaveUp says that the node does not take a revision that it has given up.
func gaveUp(d store.Function) *edge.Error {
	return &edge.Error{
		Code:    edge.Invalid,
		Message: fmt.Sprintf("%s: this node has given revision %s up: %s", d.Function.Name(), d.Bad.Short(), d.Why),
		Hint:    "deploy another revision; the last good one runs",
	}
}
