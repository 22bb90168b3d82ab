package member

import (
	"context"
	"encoding/json"
	"runtime"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// verbs are those that answer once, but for [edge.VerbTry], for which the session may have
// something to fetch.
var verbs = map[edge.Verb]doer{
	edge.VerbInvoke: asked(func(ctx context.Context, m *Member, in edge.InvokeCall) (any, error) {
		return m.Agent.Invoke(ctx, in.Function, in.Invoke)
	}),
	edge.VerbDead: asked(func(ctx context.Context, m *Member, q edge.Query) (any, error) {
		list, err := m.Agent.Dead(ctx, q)
		return page(list), err
	}),
	edge.VerbRedrive: asked(func(ctx context.Context, m *Member, c edge.DeadChoice) (any, error) {
		if err := chosen(c); err != nil {
			return nil, err
		}
		return m.Agent.Redrive(ctx, c.Function, c.IDs)
	}),
	edge.VerbDiscard: asked(func(ctx context.Context, m *Member, c edge.DeadChoice) (any, error) {
		if err := chosen(c); err != nil {
			return nil, err
		}
		return m.Agent.Discard(ctx, c.Function, c.IDs)
	}),
	edge.VerbStatus: func(_ context.Context, m *Member, _ json.RawMessage) (any, error) { return m.Agent.Functions(), nil },
	edge.VerbChecks: func(_ context.Context, m *Member, _ json.RawMessage) (any, error) { return m.checks(), nil },
	edge.VerbState: asked(func(ctx context.Context, m *Member, c edge.StateCall) (any, error) {
		list, err := m.Agent.State(ctx, c.Function, c.Prefix, c.After, c.Limit)
		return page(list), err
	}),
	edge.VerbStateGet: asked(func(ctx context.Context, m *Member, c edge.StateCall) (any, error) {
		e, err := entry(c)
		if err != nil {
			return nil, err
		}
		return m.Agent.StateGet(ctx, c.Function, e.Key)
	}),
	edge.VerbStatePut: asked(func(ctx context.Context, m *Member, c edge.StateCall) (any, error) {
		e, err := entry(c)
		if err != nil {
			return nil, err
		}
		return m.Agent.StatePut(ctx, c.Function, e, c.IfVersion)
	}),
	edge.VerbStateDelete: asked(func(ctx context.Context, m *Member, c edge.StateCall) (any, error) {
		e, err := entry(c)
		if err != nil {
			return nil, err
		}
		return nil, m.Agent.StateDelete(ctx, c.Function, e.Key, c.IfVersion)
	}),
	edge.VerbDiagnostics: func(_ context.Context, m *Member, _ json.RawMessage) (any, error) { return m.diagnostics(), nil },
}

// try has the agent load a function, unless the owner wants it signed and it is not:
// loading runs code, too.
func (m *Member) try(ctx context.Context, f functions.Function, signature string) error {
	if err := f.Verify(); err != nil {
		return &edge.Error{Code: edge.Invalid, Message: f.Name() + ": " + err.Error()}
	}
	if m.Owner.Signers != nil {
		if err := m.Owner.Signers.Check(edge.Ref{Name: f.Name(), Revision: f.Revision, Signature: signature}); err != nil {
			return &edge.Error{
				Code: edge.Forbidden, Message: "the node's owner lets only signed functions run: " + err.Error(),
				Hint: "sign it with a key that the node trusts: sedge digest --help says how",
			}
		}
	}
	return m.Agent.Try(ctx, f)
}

// page returns as much of a list, from its beginning, as fits into an answer: who asks
// goes on from there. The first one is there in any case.
func page[T any](list []T) []T {
	weight := len("[]")
	for i, v := range list {
		text, err := json.Marshal(v)
		if err != nil {
			return list // which fails to be told, too
		}
		if weight += len(text) + len(","); weight > edge.MaxMessage-envelope && i > 0 {
			return list[:i]
		}
	}
	return list
}

// chosen makes sure that all dead letters are meant where none are named.
func chosen(c edge.DeadChoice) error {
	if c.Function == "" && len(c.IDs) == 0 && !c.All {
		return &edge.Error{Code: edge.Invalid, Message: "which dead letters?", Hint: "name a function, ids, or all"}
	}
	return nil
}

// entry returns the entry that a call is about.
func entry(c edge.StateCall) (edge.StateEntry, error) {
	if c.Entry == nil {
		return edge.StateEntry{}, &edge.Error{Code: edge.Invalid, Message: "the call names no key"}
	}
	return *c.Entry, nil
}

func (m *Member) diagnostics() edge.Diagnostics {
	var d edge.Diagnostics
	if m.Diagnose != nil {
		d = m.Diagnose()
	}
	d.Time, d.Version, d.Go, d.Platform = time.Now(), m.Version, runtime.Version(), platform()
	d.Synced, d.Checks, d.Functions = m.Status().At, m.checks(), m.Agent.Functions()
	return d
}

// checks returns those of the whole node, or none if nobody makes them.
func (m *Member) checks() []edge.Check {
	if m.Checks == nil {
		return nil
	}
	return m.Checks()
}
