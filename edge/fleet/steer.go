package fleet

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/rollout"
)

// stepTime is how often what nodes report is held against the rollouts under way.
const stepTime = time.Second

// hubItself is who steers rollouts by what is seen.
var hubItself = ledger.Who{By: "hub"}

// steer leads rollouts on, or back, by what nodes report, until ctx is done.
func (f *Fleet) steer(ctx context.Context) {
	tick := time.NewTicker(stepTime)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, u := range f.underWay() {
			f.step(u)
		}
	}
}

// An underway is a rollout and the nodes that it is about.
type underway struct {
	rollout edge.Rollout
	nodes   []rollout.Seen
}

// underWay returns the rollouts that are not over.
func (f *Fleet) underWay() (list []underway) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plan == nil {
		return nil
	}
	under := map[int64]edge.Rollout{}
	for i, one := range f.plan.places {
		if one.rollout == nil {
			continue
		}
		r := counted(*one.rollout, f.rollouts[one.rollout.ID])
		under[r.ID] = r
		list = append(list, underway{r, f.seenLocked(i)})
	}
	f.rollouts = under
	return list
}

// counted returns the rollout as the ledger has it, with the counts of later.
func counted(r, later edge.Rollout) edge.Rollout {
	if later.Seen == nil {
		return r
	}
	seen := maps.Clone(r.Seen)
	for id, of := range later.Seen {
		if _, has := seen[id]; has {
			seen[id] = of
		}
	}
	r.Seen = seen
	return r
}

// seenLocked returns the nodes on which the place at i is, by its placement and selector.
func (f *Fleet) seenLocked(i int) (list []rollout.Seen) {
	name := f.plan.places[i].now.Name
	for _, n := range f.nodes {
		if !n.member() || !f.plan.fits(n, i) {
			continue
		}
		s := rollout.Seen{ID: n.is.ID, Name: n.is.Name, Online: n.online(), Cordoned: n.is.Cordoned, Refusal: n.refusal}
		if r := n.report(name); r != nil {
			kept := *r
			s.Report = &kept
		}
		if u := n.unfitFor(name); u != nil {
			kept := *u
			s.Unfit = &kept
		}
		list = append(list, s)
	}
	return list
}

// step holds one rollout against what is seen, and has the ledger keep what comes of that.
func (f *Fleet) step(u underway) {
	next, changed := rollout.Step(u.rollout, u.nodes, time.Now())
	f.mu.Lock()
	if _, still := f.rollouts[next.ID]; still {
		f.rollouts[next.ID] = next
	}
	f.mu.Unlock()
	if !changed || !f.leads() {
		return // who does not lead counts too, so that it can go on from here
	}
	next, _, err := f.Ledger.Steer(next.ID, hubItself, func(is edge.Rollout) (edge.Rollout, bool) {
		return rollout.Step(counted(is, u.rollout), u.nodes, time.Now())
	})
	if errors.Is(err, ledger.ErrConflict) || errors.Is(err, ledger.ErrNotFound) {
		return // an operator has ended it meanwhile
	}
	if err != nil {
		f.Logger.Error("rollout does not go on", "rollout", u.rollout.ID, "fn", u.rollout.Function, "err", err)
		return
	}
	if next.State != u.rollout.State || next.Stage != u.rollout.Stage {
		f.Logger.Info("rollout", "rollout", next.ID, "fn", next.Function, "state", next.State, "stage", next.Stage+1, "why", next.Why)
	}
	f.Changed()
}

// Rollout returns a rollout with all that is known of it by now. The error may be
// [ledger.ErrNotFound].
func (f *Fleet) Rollout(ctx context.Context, id int64) (edge.Rollout, error) {
	r, err := f.Ledger.Rollout(ctx, id)
	if err != nil || r.State.Over() {
		return r, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return counted(r, f.rollouts[id]), nil
}

// Pause holds a rollout where it is. Its error, as that of Resume, Promote and Abort, is
// an *[edge.Error] that is a Conflict, [ledger.ErrConflict], or [ledger.ErrNotFound].
func (f *Fleet) Pause(id int64, who ledger.Who) (edge.Rollout, error) {
	return f.order(id, who, func(r edge.Rollout) (edge.Rollout, error) { return rollout.Pause(r, who.By) })
}

// Resume lets a paused rollout go on.
func (f *Fleet) Resume(id int64, who ledger.Who) (edge.Rollout, error) {
	return f.order(id, who, func(r edge.Rollout) (edge.Rollout, error) { return rollout.Resume(r, who.By, time.Now()) })
}

// Promote ends the stage under way without its gate.
func (f *Fleet) Promote(id int64, who ledger.Who) (edge.Rollout, error) {
	return f.order(id, who, func(r edge.Rollout) (edge.Rollout, error) { return rollout.Promote(r, who.By, time.Now()) })
}

// Abort ends a rollout and takes its nodes back.
func (f *Fleet) Abort(id int64, who ledger.Who) (edge.Rollout, error) {
	return f.order(id, who, func(r edge.Rollout) (edge.Rollout, error) { return rollout.Abort(r, who.By, time.Now()) })
}

// order carries out what an operator wants of a rollout.
func (f *Fleet) order(id int64, who ledger.Who, what func(edge.Rollout) (edge.Rollout, error)) (edge.Rollout, error) {
	f.mu.Lock()
	later := f.rollouts[id]
	f.mu.Unlock()
	var refused error
	r, _, err := f.Ledger.Steer(id, who, func(is edge.Rollout) (next edge.Rollout, changed bool) {
		next, refused = what(counted(is, later))
		return next, refused == nil
	})
	if err = errors.Join(err, refused); err != nil {
		return edge.Rollout{}, err
	}
	f.Changed()
	return r, nil
}
