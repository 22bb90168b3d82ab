package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// Table rollouts holds edge.Rollout as JSON by its id, which is the position that it
// began with; before is its From, over whether it is. A function has one at most that
// is not over, and the newest 50 are kept. removes says whether nodes that it moves
// may lose the function by that, see the constants.
const keepRollouts = 50

// What moving a node may do.
const (
	removesNothing   = iota // the placement of both revisions is the same
	removes                 // the function may go from nodes that do not fit it any more
	removesConfirmed        // the same, and an operator knows from how many
)

// begin starts a rollout of the function's new current revision.
func (e *entry) begin(r edge.Rollout, removing int) error {
	r = edge.Rollout{
		ID: e.t.bump(), Function: e.name, From: e.revision, To: e.result.Revision,
		Selector: r.Selector, Stages: r.Stages, Gate: r.Gate,
		State: edge.Rolling, Since: e.t.now, By: e.in.By, Begun: e.t.now,
	}
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = e.t.Exec(`INSERT INTO rollouts (id, function, before, over, removes, body) VALUES ($1, $2, $3, $4, $5, $6)`,
		r.ID, r.Function, string(r.From), false, removing, string(body))
	if err != nil {
		return err
	}
	_, err = e.t.Exec(`DELETE FROM rollouts WHERE function = $1 AND id <= (SELECT id FROM rollouts WHERE function = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)`,
		e.name, keepRollouts)
	if err != nil {
		return err
	}
	e.result.Rollout = &r
	return e.t.audit(e.in.who(), "rollout.begin", rolloutName(r.ID),
		fmt.Sprintf("%s from %s to %s in %d stages", r.Function, short(r.From), short(r.To), len(r.Stages)))
}

func rolloutName(id int64) string { return fmt.Sprintf("rollout/%d", id) }

func short(r functions.Revision) string {
	if r == "" {
		return "nothing"
	}
	return r.Short()
}

// A Steering is what becomes of a rollout that is not over: fn gets it as it is and
// returns it as it is to be, or false if it stays so. It may be called again, and does
// nothing but decide.
type Steering func(r edge.Rollout) (next edge.Rollout, changed bool)

// Steer changes a rollout, one change at a time for all who have the ledger open. What
// moves nodes raises the position. One that becomes [edge.RolledBack] or [edge.Aborted]
// makes From the current revision again, in the same transaction; if there was none
// the function is deleted. The error is [ErrNotFound], or [ErrConflict] if the rollout
// is over.
func (l *Ledger) Steer(id int64, who Who, fn Steering) (r edge.Rollout, at edge.Position, err error) {
	err = l.update(func(t *tx) error {
		was, removing, err := t.rollout(`id = $1`, id)
		if err != nil {
			return err
		}
		if was.State.Over() {
			return fmt.Errorf("%w: it is %s", ErrConflict, was.State)
		}
		next, changed := fn(was)
		r, at = was, t.at
		if !changed {
			return nil
		}
		r = t.successor(was, next)
		err = t.steer(was, r, removing, who)
		at = t.at
		return err
	})
	if err != nil {
		return edge.Rollout{}, edge.Position{}, fmt.Errorf("steer rollout %d: %w", id, err)
	}
	return r, at, nil
}

// successor returns next with what never changes of a rollout, and when it ended.
func (t *tx) successor(was, next edge.Rollout) edge.Rollout {
	next.ID, next.Function, next.From, next.To, next.By, next.Begun = was.ID, was.Function, was.From, was.To, was.By, was.Begun
	if next.State.Over() {
		next.Ended = t.now
	}
	return next
}

func (t *tx) steer(was, r edge.Rollout, removing int, who Who) error {
	if err := t.putRollout(r); err != nil {
		return err
	}
	if err := t.move(was, r, removing, who); err != nil {
		return err
	}
	if r.State == was.State && r.Stage == was.Stage {
		return nil
	}
	detail := fmt.Sprintf("%s, stage %d of %d, %d nodes", r.Function, r.Stage+1, len(r.Stages), len(r.Nodes))
	if r.Why != "" {
		detail += ": " + r.Why
	}
	return t.audit(who, "rollout."+steps[r.State], rolloutName(r.ID), detail)
}

// move does what a change of a rollout means for functions and nodes.
func (t *tx) move(was, r edge.Rollout, removing int, who Who) error {
	if r.State == edge.RolledBack || r.State == edge.Aborted {
		return t.goBack(r, who)
	}
	if !r.State.Over() && slices.Equal(r.Nodes, was.Nodes) {
		return nil
	}
	t.bump()
	if removing == removesNothing {
		return nil
	}
	return t.removal(edge.Removal{Name: r.Function}, "", removing == removesConfirmed)
}

// steps are the actions of the audit log for what a rollout has become.
var steps = map[edge.RolloutState]string{
	edge.Rolling: "stage", edge.Halted: "pause", edge.Completed: "complete", edge.RolledBack: "rollback", edge.Aborted: "abort",
}

func (t *tx) putRollout(r edge.Rollout) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = t.Exec(`UPDATE rollouts SET over = $1, body = $2 WHERE id = $3`, r.State.Over(), string(body), r.ID)
	return err
}

// goBack makes what was current before a rollout current again.
func (t *tx) goBack(r edge.Rollout, who Who) error {
	e := &entry{t: t, name: r.Function, in: Intent{By: who.By, Address: who.Address, Confirmed: true}}
	if err := e.load(); err != nil {
		return err
	}
	if r.From == "" {
		return e.remove()
	}
	next, err := e.to(r.From)
	if err != nil {
		return err
	}
	return e.set(actionRollback, next)
}

// rollout returns a rollout, and what it removes; or [ErrNotFound].
func (t *tx) rollout(where string, arg any) (r edge.Rollout, removing int, err error) {
	var body string
	found, err := t.Find(`SELECT removes, body FROM rollouts WHERE `+where, []any{arg}, &removing, &body)
	if err != nil {
		return r, 0, err
	}
	if !found {
		return r, 0, ErrNotFound
	}
	err = json.Unmarshal([]byte(body), &r)
	return r, removing, err
}

// endRollout aborts the rollout of a function that is deleted, if there is one.
func (e *entry) endRollout() error {
	r, _, err := e.t.rollout(`function = $1 AND NOT over`, e.name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	r.State, r.Why, r.Ended = edge.Aborted, "the function was deleted", e.t.now
	if err := e.t.putRollout(r); err != nil {
		return err
	}
	return e.t.audit(e.in.who(), "rollout.abort", rolloutName(r.ID), r.Function+": "+r.Why)
}

// A RolloutQuery chooses rollouts.
type RolloutQuery struct {
	Function string // "" for all
	Before   int64  // only those with a lower id; 0 for all
	Limit    int    // of how many are returned; 0 for 100, at most 1,000
}

// Rollouts returns rollouts, newest first.
func (l *Ledger) Rollouts(ctx context.Context, q RolloutQuery) (list []edge.Rollout, err error) {
	where, args := `id < $1`, []any{below(q.Before), page(q.Limit)}
	if q.Function != "" {
		where, args = where+` AND function = $3`, append(args, q.Function)
	}
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		list, err = viewRollouts(ctx, tx, where+` ORDER BY id DESC LIMIT $2`, args...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list rollouts: %w", err)
	}
	return list, nil
}

// Rollout returns the rollout with that id, or [ErrNotFound].
func (l *Ledger) Rollout(ctx context.Context, id int64) (r edge.Rollout, err error) {
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		list, err := viewRollouts(ctx, tx, `id = $1`, id)
		if err == nil && len(list) == 0 {
			err = ErrNotFound
		}
		if err == nil {
			r = list[0]
		}
		return err
	})
	if err != nil {
		return edge.Rollout{}, fmt.Errorf("read rollout %d: %w", id, err)
	}
	return r, nil
}

func viewRollouts(ctx context.Context, tx *sql.Tx, where string, args ...any) (list []edge.Rollout, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT body FROM rollouts WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var body string
		if err := rows.Scan(&body); err != nil {
			return nil, err
		}
		var r edge.Rollout
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}
