package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// Apply carries out a step that the hub has told, and stores it and where it leads in
// one transaction: after a crash the node has taken all of it or nothing. What does not
// load is left out and returned, and what ran before under that name still runs. discarded
// says how many deliveries waited for what was removed, by function. With an error
// nothing has changed.
//
// A definition whose function has no manifest but a name is of the revision that the
// node has. Functions that are not the hub's are not touched.
func (a *Agent) Apply(ctx context.Context, put []edge.Definition, remove []edge.Removal, next edge.Synced) (unfit []edge.Unfit, discarded map[string]int, err error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	remove = slices.DeleteFunc(slices.Clone(remove), func(r edge.Removal) bool {
		stays := slices.ContainsFunc(put, func(d edge.Definition) bool { return d.Function.Name() == r.Name })
		f := a.function(r.Name)
		return stays || f != nil && f.definition().Origin != ""
	})
	candidates := a.candidates(ctx, put)
	for _, c := range candidates {
		if c.fault != nil {
			unfit = append(unfit, edge.Unfit{Name: c.f.name, Revision: c.told, Error: c.fault})
		}
	}
	discarded, err = a.change(ctx, candidates, remove, &next)
	if err != nil {
		return nil, nil, err
	}
	a.synced = next
	return unfit, discarded, nil
}

// Synced returns where the node is with the hub, for the [edge.Replica] that goes on
// from there. What the node has of it is what counts: where that is not what was told,
// since it could not be run, the store was damaged, or the hub is new to the node, it
// does not fit the position, and the hub tells the whole.
func (a *Agent) Synced() edge.Synced {
	a.changing.Lock()
	defer a.changing.Unlock()
	told := map[string]edge.Ref{}
	for _, r := range a.synced.Functions {
		told[r.Name] = r
	}
	has := edge.Synced{At: a.synced.At}
	for _, f := range a.all() {
		d := f.definition()
		if f.removed.Load() || d.Origin != "" {
			continue
		}
		ref := told[f.name]
		switch {
		case ref.Revision == d.Function.Revision:
		case d.Bad != "" && ref.Revision == d.Bad:
			has.Unfit = append(has.Unfit, edge.Unfit{Name: f.name, Revision: d.Bad, Error: gaveUp(d)})
		default:
			ref = edge.Ref{Name: f.name, Revision: d.Function.Revision, Enabled: d.Enabled}
		}
		has.Functions = append(has.Functions, ref)
	}
	slices.SortFunc(has.Functions, func(x, y edge.Ref) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortFunc(has.Unfit, func(x, y edge.Unfit) int { return cmp.Compare(x.Name, y.Name) })
	return has
}

// Put makes d the definition of its function, new or changed. A revision that
// does not load is refused, and what was there before stays; the error is an
// *edge.Error then. What waits for the function runs on the new definition.
func (a *Agent) Put(ctx context.Context, d edge.Definition) error {
	a.changing.Lock()
	defer a.changing.Unlock()
	c := a.candidate(ctx, d)
	if _, err := a.change(ctx, []*candidate{c}, nil, nil); err != nil {
		return err
	}
	if c.fault != nil {
		return c.fault
	}
	return nil
}

// Remove deletes a function and says how many deliveries that waited for it
// were discarded. Attempts under way end. With purge its state and dead letters
// go too. A missing function is an *edge.Error.
func (a *Agent) Remove(ctx context.Context, name string, purge bool) (discarded int, err error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	if a.function(name) == nil {
		return 0, notFound(name)
	}
	n, err := a.change(ctx, nil, []edge.Removal{{Name: name, Purge: purge}}, nil)
	return n[name], err
}

// Try loads a function without putting it into force. The error says why it does not
// load; an *edge.Error if it never will. What it lacks may come yet, and is none.
func (a *Agent) Try(ctx context.Context, fn functions.Function) error {
	if f := a.function(fn.Name()); f != nil {
		if d := f.definition(); d.Bad != "" && d.Bad == fn.Revision {
			return gaveUp(d)
		}
	}
	p, fault := a.compile(fn)
	if fault != nil {
		return fault
	}
	if p.home == elsewhere {
		return nil
	}
	w, lack, err := a.load(ctx, fn, p)
	if w == nil || lack != nil {
		return err
	}
	if err := w.instance.Close(); err != nil {
		a.Logger.Debug("runner ended badly", "fn", fn.Name(), "err", err)
	}
	return nil
}

// change stores the candidates, the removals and where they lead in one transaction,
// and puts them in force. With an error all is as before. changing must be held.
func (a *Agent) change(ctx context.Context, put []*candidate, remove []edge.Removal, at *edge.Synced) (discarded map[string]int, err error) {
	d := store.Definitions{Remove: remove, Synced: at}
	var gone []*function
	for _, r := range remove {
		if f := a.function(r.Name); f != nil {
			gone = append(gone, f)
		}
	}
	for _, c := range put {
		if c.plan != nil {
			d.Put = append(d.Put, c.Function)
		}
	}
	a.setRemoved(gone, true)
	if err = ctx.Err(); err == nil && (at != nil || len(d.Put)+len(remove) > 0) {
		err = a.Store.Define(d)
	}
	if err != nil {
		a.setRemoved(gone, false)
		for _, c := range put {
			a.unclaim(c.f)
			c.f.close(c.worker)
		}
		return nil, fmt.Errorf("store definitions: %w", err)
	}
	a.putInForce(put)
	discarded = map[string]int{}
	for _, f := range gone {
		discarded[f.name] = a.forget(f)
	}
	return discarded, nil
}

func (a *Agent) putInForce(put []*candidate) {
	for _, c := range put {
		if c.plan != nil {
			c.f.set(c.Function, c.plan)
		}
	}
	a.reroute()
	for _, c := range put {
		if c.plan != nil {
			c.f.put(c.Function, c.worker, c.lack)
		} else {
			a.unclaim(c.f)
		}
	}
}

// setRemoved says of functions whether they are removed: no events come to them then.
func (a *Agent) setRemoved(list []*function, removed bool) {
	if len(list) == 0 {
		return
	}
	for _, f := range list {
		f.removed.Store(removed)
	}
	a.reroute()
}

// forget ends what waits for a function that was removed, and says how much that was.
func (a *Agent) forget(f *function) (discarded int) {
	a.timers.cancel(a.timers.of(f.name))
	discarded = f.discardWaiting()
	f.mu.Lock()
	old := retireLocked(f.worker)
	f.worker = nil
	f.mu.Unlock()
	f.close(old)
	a.unclaim(f)
	return discarded
}

// definition returns the function's definition.
func (f *function) definition() store.Function {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.def
}
