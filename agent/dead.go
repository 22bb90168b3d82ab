package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
)

// Dead returns dead letters, oldest first.
func (a *Agent) Dead(ctx context.Context, q edge.Query) ([]edge.DeadLetter, error) {
	limit := q.Last
	if limit <= 0 || limit > store.MaxDeadLetters {
		limit = store.MaxDeadLetters
	}
	letters, err := a.Store.DeadLetters(q.Function, q.After, limit)
	if err != nil {
		return nil, err
	}
	list := make([]edge.DeadLetter, len(letters))
	for i, l := range letters {
		list[i] = edge.DeadLetter{
			ID: l.ID, Function: l.Function, Revision: l.Revision, Attempts: l.Attempts,
			Time: l.Time, Failure: l.Failure, Event: l.Event,
		}
	}
	return list, nil
}

// Redrive lets dead letters run again, on the functions' current revisions, in
// the order in which they once came. It takes those with the given ids, or all
// of the function, or, with function "", all there are, and says how many. A
// letter whose function is no more stays.
func (a *Agent) Redrive(ctx context.Context, function string, ids []int64) (int, error) {
	n := 0
	err := a.letters(function, ids, func(l store.DeadLetter) error {
		f := a.function(l.Function)
		switch {
		case l.Event.Source == devices.Outbox:
			n++
			return a.resend(ctx, l)
		case f == nil && len(ids) > 0:
			return notFound(l.Function)
		case f == nil:
			return nil
		}
		n++
		return f.redrive(ctx, l)
	})
	return n, err
}

// Discard deletes dead letters, chosen as by Redrive, and says how many.
func (a *Agent) Discard(ctx context.Context, function string, ids []int64) (int, error) {
	c := &store.Change{}
	err := a.letters(function, ids, func(l store.DeadLetter) error {
		c.Undead = append(c.Undead, l.ID)
		return nil
	})
	if err != nil || len(c.Undead) == 0 {
		return 0, err
	}
	return len(c.Undead), a.commit(ctx, c)
}

// letters calls do for the chosen dead letters, in the order of their deliveries,
// which need not be that in which they died.
func (a *Agent) letters(function string, ids []int64, do func(store.DeadLetter) error) error {
	type place struct{ id, seq int64 }
	var chosen []place
	for _, id := range ids {
		l, err := a.Store.DeadLetter(id)
		if err != nil {
			return &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("there is no dead letter %d", id), Hint: "see what there is: sedge dead list"}
		}
		chosen = append(chosen, place{l.ID, l.Seq})
	}
	for after, more := int64(0), len(ids) == 0; more; {
		page, err := a.Store.DeadLetters(function, after, 100)
		if err != nil {
			return err
		}
		for _, l := range page {
			chosen = append(chosen, place{l.ID, l.Seq})
			after = l.ID
		}
		more = len(page) > 0
	}
	slices.SortFunc(chosen, func(x, y place) int { return cmp.Or(cmp.Compare(x.seq, y.seq), cmp.Compare(x.id, y.id)) })
	for _, p := range slices.Compact(chosen) {
		l, err := a.Store.DeadLetter(p.id)
		if errors.Is(err, store.ErrNotFound) {
			continue // discarded meanwhile
		}
		if err == nil {
			err = do(l)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// redrive moves a dead letter back to the inbox, in one transaction, behind
// what waits in its lane. Whatever the function's placement, it runs on the node
// that has kept it.
func (f *function) redrive(ctx context.Context, l store.DeadLetter) error {
	ev := l.Event
	ev.Redriven = true
	ev.Hops = 0
	d := &delivery{
		seq: f.a.seq.Add(1), event: ev, size: len(ev.Topic) + len(ev.Payload), heard: time.Now(),
	}
	done := make(chan error, 1)
	f.mu.Lock()
	f.counts.Taken++
	ln := f.laneLocked(laneID{key: l.Lane})
	f.appendLocked(ln, d)
	d.stage = committing
	c := &store.Change{Undead: []int64{l.ID}}
	f.rowLocked(c, d, "redriven")
	f.mu.Unlock()
	f.a.Store.Commit(c, func(err error) {
		f.mu.Lock()
		d.stage = waiting
		if err != nil { // it is a dead letter still
			f.finishLocked(d, edge.StepDiscarded)
		}
		f.readyLocked(ln, time.Now())
		f.mu.Unlock()
		f.pump()
		done <- err
	})
	return wait(ctx, done)
}

// resend puts a publish that was given up back into the outbox.
func (a *Agent) resend(ctx context.Context, l store.DeadLetter) error {
	f := a.claim(l.Function)
	f.mu.Lock()
	ln := f.laneLocked(laneID{key: l.Lane})
	og := &outgoing{f: f, lane: ln, row: true, state: lost, Outgoing: store.Outgoing{
		Seq: a.seq.Add(1), Function: l.Function, Lane: l.Lane,
		Publication: devices.Publication{Topic: l.Event.Topic, Payload: l.Event.Payload, QoS: l.Event.QoS},
	}}
	f.queueLocked(ln, []*outgoing{og})
	f.mu.Unlock()
	err := a.commit(ctx, &store.Change{Undead: []int64{l.ID}, Outbox: []store.Outgoing{og.Outgoing}})
	f.mu.Lock()
	f.lost = true
	f.armLocked(time.Now())
	f.mu.Unlock()
	return err
}

// commit stores c and waits for it.
func (a *Agent) commit(ctx context.Context, c *store.Change) error {
	done := make(chan error, 1)
	a.Store.Commit(c, func(err error) { done <- err })
	return wait(ctx, done)
}

func wait(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
