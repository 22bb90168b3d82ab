package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A Plan is all that decides what nodes are to run, as of one position.
type Plan struct {
	At        edge.Position
	Functions []Placed    // by name
	Nodes     []edge.Node // those that have changed since the position asked for
	Removals  Removals
	GivenUp   []string // epochs that operators have given up, newest first
}

// A Placed is a function with what says where it is to run. Its placement is that of
// the manifest, see [Ledger.Revision], and the selector.
type Placed struct {
	edge.Ref               // without the function itself
	Selector string        // of nodes, Kubernetes syntax; "" for all
	Rollout  *edge.Rollout // under way, or nil
	Before   edge.Ref      // what nodes run that the rollout has not reached; Name is "" if there was nothing
}

// Plan returns the plan, with the nodes that have changed after the revision since of
// the ledger's position: 0 for all.
func (l *Ledger) Plan(ctx context.Context, since int64) (p Plan, err error) {
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		m, err := viewMeta(ctx, tx)
		if err != nil {
			return err
		}
		p.At = m.at
		if p.Functions, err = viewPlaced(ctx, tx); err != nil {
			return err
		}
		// With ORDER BY id SQLite would look at all nodes, in that order.
		if p.Nodes, err = viewNodes(ctx, tx, `changed > $1`, since); err != nil {
			return err
		}
		slices.SortFunc(p.Nodes, func(x, y edge.Node) int { return strings.Compare(x.ID, y.ID) })
		if p.Removals, err = viewRemovals(ctx, tx); err != nil {
			return err
		}
		p.GivenUp, err = viewEpochs(ctx, tx)
		return err
	})
	if err != nil {
		return Plan{}, fmt.Errorf("read plan: %w", err)
	}
	return p, nil
}

func viewPlaced(ctx context.Context, tx *sql.Tx) (list []Placed, err error) {
	rollouts, err := viewRollouts(ctx, tx, `NOT over`)
	if err != nil {
		return nil, err
	}
	under := map[string]*edge.Rollout{}
	for _, r := range rollouts {
		under[r.Function] = &r
	}
	rows, err := tx.QueryContext(ctx, `SELECT f.name, f.revision, f.enabled, f.selector, r.signature, coalesce(b.revision, ''), coalesce(b.signature, '')
		FROM functions f JOIN revisions r ON r.name = f.name AND r.revision = f.revision
		LEFT JOIN rollouts o ON o.function = f.name AND NOT o.over
		LEFT JOIN revisions b ON b.name = f.name AND b.revision = o.before ORDER BY f.name`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var p Placed
		var before functions.Revision
		var signature string
		if err := rows.Scan(&p.Name, &p.Revision, &p.Enabled, &p.Selector, &p.Signature, &before, &signature); err != nil {
			return nil, err
		}
		p.Rollout = under[p.Name]
		if before != "" {
			p.Before = edge.Ref{Name: p.Name, Revision: before, Enabled: p.Enabled, Signature: signature}
		}
		list = append(list, p)
	}
	return list, rows.Err()
}

// Table removals holds, by the position that it led to, each change that may have
// taken a function from nodes: from all that had it, or, where a node is named and no
// function, functions from that node. The newest thousand are kept, and the last of
// those before, so that it is known since when they are all there.
const keepRemovals = 1_000

// Removals are the changes that have taken functions from nodes.
type Removals struct {
	Since int64 // the list has all that came after this position
	List  []Removed
}

// A Removed is a change that may have taken a function from nodes.
type Removed struct {
	Position     int64  // that it led to
	Node         string // the id of the one node that it is about; "" for all
	edge.Removal        // Name is "" where Node may have lost several
	Confirmed    bool   // an operator knew how many functions that takes away
}

// Confirmed reports whether all that a node lost since a position was taken from it
// deliberately: false if that is not known any more.
func (r Removals) Confirmed(node string, since int64) bool {
	if since < r.Since {
		return false
	}
	for _, d := range r.List {
		if d.Position > since && (d.Node == "" || d.Node == node) && !d.Confirmed {
			return false
		}
	}
	return true
}

// Purged returns the functions that were deleted with their state after a position,
// for a node that was away, whether there is one of that name again or not.
func (r Removals) Purged(since int64) (list []edge.Removal) {
	for _, d := range r.List {
		if d.Position > since && d.Purge {
			list = append(list, d.Removal)
		}
	}
	return list
}

// removal notes that functions may go from nodes, by the change under way.
func (t *tx) removal(r edge.Removal, node string, confirmed bool) error {
	_, err := t.Exec(`INSERT INTO removals (position, function, node, purge, confirmed) VALUES ($1, $2, $3, $4, $5)`,
		t.bump(), r.Name, node, r.Purge, confirmed)
	if err != nil {
		return err
	}
	_, err = t.Exec(`DELETE FROM removals WHERE position < (SELECT position FROM removals ORDER BY position DESC LIMIT 1 OFFSET $1)`, keepRemovals)
	return err
}

func viewRemovals(ctx context.Context, tx *sql.Tx) (r Removals, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT position, function, node, purge, confirmed FROM removals ORDER BY position`)
	if err != nil {
		return r, err
	}
	defer rows.Close()
	for rows.Next() {
		var d Removed
		if err := rows.Scan(&d.Position, &d.Name, &d.Node, &d.Purge, &d.Confirmed); err != nil {
			return r, err
		}
		r.List = append(r.List, d)
	}
	if len(r.List) > keepRemovals {
		r.Since, r.List = r.List[0].Position, r.List[1:]
	}
	return r, rows.Err()
}
