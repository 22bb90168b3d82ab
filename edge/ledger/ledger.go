// Package ledger is the hub's book: of functions, every revision they had and where
// they are to run; of the fleet, its nodes, the join tokens by which they come and
// their rollouts; of the operators; and of who changed what and when.
//
// It promises: a revision never changes once it is written; each change is on
// disk, with its line of history and its entry of the audit log, when the call
// returns; each change that can alter what some node is to run raises the hub's
// position, whose numbers rise in the order of commits and are never used twice; a
// join token is good for as many nodes as it says; of two machines with the key of one
// node the second is noticed; an altered or missing entry of the audit log too. A
// deploy of what is current already changes nothing.
//
// Whether a function may be deployed, and by whom, which nodes fit a selector, and
// what strangers may ask how often is left to the hub.
package ledger

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/sqlite"
	"github.com/sedge-iot/sedge/functions"
)

// Table functions holds what is current: name, revision, enabled, and the selector of
// the nodes, "" for all. Table revisions holds functions.Function as JSON by name and
// revision, and an operator's signature of these or "". Table history holds a line
// for each change: its number is the hub's position that it led to; revision is the
// one that was current after it, or before it where it is a delete.
//
// The lines of a function are kept back to its 50th newest deploy or rollback,
// at most 200 of them, with the revisions that they name. They outlive the
// function.
const (
	keepRevisions = 50
	keepLines     = 200
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// What the calls of a ledger may fail with.
var (
	ErrNotFound  = errors.New("not found")
	ErrConflict  = errors.New("conflict")
	ErrRolling   = fmt.Errorf("%w: a rollout is under way", ErrConflict)
	ErrAmbiguous = errors.New("more than one revision begins like this")
	ErrNoRoom    = errors.New("there are as many as the ledger takes")
	ErrRevoked   = errors.New("the node is revoked for ever")
	ErrInvalid   = errors.New("the name or a label is empty, too long or no text")
)

// A Ledger is an open book. Its methods may be called from several goroutines.
type Ledger struct {
	store     Store
	keepAudit int64
	gathering gathering
	watching  watchers
}

// Open opens the ledger in the data directory dir, which it creates if need be.
// A ledger that another process uses is refused with a *[sqlite.LockedError],
// one of a newer program with a *[sqlite.NewerError]. A damaged one is refused
// too, and left as it is: what nodes run follows from it, so it is not
// replaced by an empty one.
func Open(dir string) (*Ledger, error) {
	l, err := open(dir)
	if sqlite.Damaged(err) {
		err = fmt.Errorf("%w: restore it from a backup, or move it away to begin a new one", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open ledger in %s: %w", dir, err)
	}
	return l, nil
}

func open(dir string) (*Ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	schema, err := fs.Sub(schemaFiles, "schema")
	if err != nil {
		return nil, err
	}
	lock, err := sqlite.TakeLock(filepath.Join(dir, "hub.lock"))
	if err != nil {
		return nil, err
	}
	db, err := sqlite.Open(filepath.Join(dir, "hub.db"), schema)
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return On(&file{lock: lock, db: db})
}

// On opens the ledger in s, in which it begins an epoch if there is none. It closes s.
func On(s Store) (*Ledger, error) {
	l := &Ledger{store: s, keepAudit: keepAudit}
	if err := l.update(func(*tx) error { return nil }); err != nil {
		return nil, errors.Join(fmt.Errorf("begin epoch: %w", err), l.Close())
	}
	return l, nil
}

// Close closes the ledger. What was changed stays.
func (l *Ledger) Close() error { return l.store.Close() }

// Functions returns the functions by name, and the position that this is.
func (l *Ledger) Functions(ctx context.Context) (list []edge.Definition, at edge.Position, err error) {
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		m, err := viewMeta(ctx, tx)
		if err != nil {
			return err
		}
		at = m.at
		rows, err := tx.QueryContext(ctx, `SELECT f.enabled, f.selector, r.body FROM functions f JOIN revisions r USING (name, revision) ORDER BY name`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var d edge.Definition
			var body string
			if err := rows.Scan(&d.Enabled, &d.Selector, &body); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(body), &d.Function); err != nil {
				return err
			}
			list = append(list, d)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, edge.Position{}, fmt.Errorf("read functions: %w", err)
	}
	return list, at, nil
}

// Function returns one function as it is current, or [ErrNotFound].
func (l *Ledger) Function(ctx context.Context, name string) (d edge.Definition, err error) {
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		var body string
		err := tx.QueryRowContext(ctx, `SELECT f.enabled, f.selector, r.body FROM functions f JOIN revisions r USING (name, revision)
			WHERE name = $1`, name).Scan(&d.Enabled, &d.Selector, &body)
		if err != nil {
			return err
		}
		return json.Unmarshal([]byte(body), &d.Function)
	})
	if err != nil {
		return edge.Definition{}, fmt.Errorf("read function %s: %w", name, missing(err))
	}
	return d, nil
}

// Revision returns a function as it was: to is a number of its history, or a
// revision, which may be shortened. Its errors are [ErrNotFound] and
// [ErrAmbiguous].
func (l *Ledger) Revision(ctx context.Context, name, to string) (f functions.Function, err error) {
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		revision, err := find(name, to, func(query string, args ...any) (*sql.Rows, error) {
			return tx.QueryContext(ctx, query, args...)
		})
		if err != nil {
			return err
		}
		var body string
		err = tx.QueryRowContext(ctx, `SELECT body FROM revisions WHERE name = $1 AND revision = $2`, name, string(revision)).Scan(&body)
		if err != nil {
			return missing(err)
		}
		return json.Unmarshal([]byte(body), &f)
	})
	if err != nil {
		return functions.Function{}, fmt.Errorf("read revision %s of %s: %w", to, name, err)
	}
	return f, nil
}

// History returns what was done to a function, newest first; [ErrNotFound] if
// there never was one of that name.
func (l *Ledger) History(ctx context.Context, name string) (list []edge.Revision, err error) {
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		list, err = viewHistory(ctx, tx, name)
		return err
	})
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read history of %s: %w", name, err)
	}
	return list, nil
}

func viewHistory(ctx context.Context, tx *sql.Tx, name string) (list []edge.Revision, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT h.number, h.revision, h.time, h.by, h.action, coalesce(f.name IS NOT NULL AND h.number =
			(SELECT max(number) FROM history c WHERE c.name = h.name AND c.action IN ('deploy', 'rollback')), false)
		FROM history h LEFT JOIN functions f ON f.name = h.name WHERE h.name = $1 ORDER BY h.number DESC`, name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r edge.Revision
		var nanos int64
		if err := rows.Scan(&r.Number, &r.Revision, &nanos, &r.By, &r.Action, &r.Current); err != nil {
			return nil, err
		}
		r.Time = sqlite.Time(nanos)
		list = append(list, r)
	}
	return list, rows.Err()
}

// Position returns how far the ledger is.
func (l *Ledger) Position(ctx context.Context) (at edge.Position, err error) {
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		m, err := viewMeta(ctx, tx)
		at = m.at
		return err
	})
	if err != nil {
		return edge.Position{}, fmt.Errorf("read position: %w", err)
	}
	return at, nil
}

// missing turns the driver's word for no row into ours.
func missing(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}
