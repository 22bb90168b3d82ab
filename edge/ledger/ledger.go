// Package ledger is the hub's book of functions: which there are, every
// revision they had, and who changed what and when. It is one SQLite file.
//
// It promises: a revision never changes once it is written; each change is on
// disk, with its line of history, when the call returns; each change raises the
// hub's position, whose numbers are never used twice. A deploy of what is
// current already changes nothing.
//
// Whether a function may be deployed, and by whom, is left to the hub.
package ledger

import (
	"context"
	"crypto/rand"
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

// Table functions holds what is current: name, revision, enabled (0 or 1).
// Table revisions holds functions.Function as JSON by name and revision.
// Table history holds a line for each change: its number is the hub's position
// that it led to; revision is the one that was current after it, or before it
// where it is a delete. Table meta holds the epoch.
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
	ErrConflict  = errors.New("the current revision is another")
	ErrAmbiguous = errors.New("more than one revision begins like this")
)

// A Ledger is an open book. Its methods may be called from several goroutines.
type Ledger struct {
	lock  *sqlite.Lock
	db    *sqlite.DB
	epoch string
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
	l := &Ledger{lock: lock, db: db}
	if err := l.loadEpoch(); err != nil {
		return nil, errors.Join(fmt.Errorf("read epoch: %w", err), l.Close())
	}
	return l, nil
}

// loadEpoch reads the epoch, or begins one in a new ledger.
func (l *Ledger) loadEpoch() error {
	return l.db.Update(func(tx *sqlite.Tx) error {
		found, err := tx.Find(`SELECT value FROM meta WHERE name = 'epoch'`, nil, &l.epoch)
		if err != nil || found {
			return err
		}
		l.epoch = rand.Text()
		_, err = tx.Exec(`INSERT INTO meta (name, value) VALUES ('epoch', ?)`, l.epoch)
		return err
	})
}

// Close closes the file. What was changed stays.
func (l *Ledger) Close() error { return errors.Join(l.db.Close(), l.lock.Unlock()) }

// Functions returns the functions by name, and the position that this is.
func (l *Ledger) Functions(ctx context.Context) (list []edge.Definition, at edge.Position, err error) {
	err = l.view(ctx, func(tx *sql.Tx) error {
		if at, err = l.position(ctx, tx); err != nil {
			return err
		}
		rows, err := tx.QueryContext(ctx, `SELECT f.enabled, r.body FROM functions f JOIN revisions r USING (name, revision) ORDER BY name`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var d edge.Definition
			var body string
			if err := rows.Scan(&d.Enabled, &body); err != nil {
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
	var body string
	err = l.db.Read().QueryRowContext(ctx, `SELECT f.enabled, r.body FROM functions f JOIN revisions r USING (name, revision)
		WHERE name = ?`, name).Scan(&d.Enabled, &body)
	if err == nil {
		err = json.Unmarshal([]byte(body), &d.Function)
	}
	if err != nil {
		return edge.Definition{}, fmt.Errorf("read function %s: %w", name, missing(err))
	}
	return d, nil
}

// Revision returns a function as it was: to is a number of its history, or a
// revision, which may be shortened. Its errors are [ErrNotFound] and
// [ErrAmbiguous].
func (l *Ledger) Revision(ctx context.Context, name, to string) (f functions.Function, err error) {
	err = l.view(ctx, func(tx *sql.Tx) error {
		revision, err := find(name, to, func(query string, args ...any) (*sql.Rows, error) {
			return tx.QueryContext(ctx, query, args...)
		})
		if err != nil {
			return err
		}
		var body string
		err = tx.QueryRowContext(ctx, `SELECT body FROM revisions WHERE name = ? AND revision = ?`, name, revision).Scan(&body)
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
	rows, err := l.db.Read().QueryContext(ctx, `SELECT h.number, h.revision, h.time, h.by, h.action,
		coalesce(h.number = (SELECT max(number) FROM history c WHERE c.name = f.name AND c.action IN ('deploy', 'rollback')), 0)
		FROM history h LEFT JOIN functions f USING (name) WHERE h.name = ? ORDER BY number DESC`, name)
	if err != nil {
		return nil, fmt.Errorf("read history of %s: %w", name, err)
	}
	defer rows.Close()
	for rows.Next() {
		var r edge.Revision
		var nanos int64
		if err := rows.Scan(&r.Number, &r.Revision, &nanos, &r.By, &r.Action, &r.Current); err != nil {
			return nil, fmt.Errorf("read history of %s: %w", name, err)
		}
		r.Time = sqlite.Time(nanos)
		list = append(list, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read history of %s: %w", name, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("read history of %s: %w", name, ErrNotFound)
	}
	return list, nil
}

// Position returns how far the ledger is.
func (l *Ledger) Position(ctx context.Context) (at edge.Position, err error) {
	err = l.view(ctx, func(tx *sql.Tx) (err error) {
		at, err = l.position(ctx, tx)
		return err
	})
	if err != nil {
		return edge.Position{}, fmt.Errorf("read position: %w", err)
	}
	return at, nil
}

const lastNumber = `SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'history'`

func (l *Ledger) position(ctx context.Context, tx *sql.Tx) (edge.Position, error) {
	p := edge.Position{Epoch: l.epoch}
	err := tx.QueryRowContext(ctx, lastNumber).Scan(&p.Revision)
	return p, err
}

// view runs fn on one state of the ledger.
func (l *Ledger) view(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := l.db.Read().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // it has written nothing
	return fn(tx)
}

// missing turns the driver's word for no row into ours.
func missing(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}
