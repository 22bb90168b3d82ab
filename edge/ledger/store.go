package ledger

import (
	"context"
	"database/sql"
	"errors"

	"github.com/sedge-iot/sedge/edge/sqlite"
)

// A Store is the database that a ledger is written in: that of [Open] is SQLite, that
// of package postgres PostgreSQL. Both read the same SQL, in which $1 is the first
// argument, and have the same tables. Its methods may be called from several goroutines.
type Store interface {
	// Update runs fn within a transaction and commits it unless fn fails. Those of
	// all programs that have the ledger open run one at a time, and each sees what
	// those before have committed. If fn reports news, the others are told.
	Update(fn func(Querier) (news bool, err error)) error
	// View runs fn on one state of the database.
	View(ctx context.Context, fn func(*sql.Tx) error) error
	// Listen calls told when another program has committed news, and when that may
	// have been missed, until ctx is done.
	Listen(ctx context.Context, told func())
	Close() error
}

// A Querier is a transaction that writes. Each query is one of a fixed few. Rows are
// closed before the next call.
type Querier interface {
	Exec(query string, args ...any) (sql.Result, error)
	Query(query string, args ...any) (*sql.Rows, error)
	// Find scans the first row, and reports whether there was one.
	Find(query string, args []any, into ...any) (bool, error)
}

// A file is a ledger in SQLite, which one program has open at a time.
type file struct {
	lock *sqlite.Lock
	db   *sqlite.DB
}

func (f *file) Update(fn func(Querier) (bool, error)) error {
	return f.db.Update(func(tx *sqlite.Tx) error {
		_, err := fn(tx)
		return err
	})
}

func (f *file) View(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := f.db.Read().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // it has written nothing
	return fn(tx)
}

func (f *file) Listen(ctx context.Context, _ func()) { <-ctx.Done() }

func (f *file) Close() error { return errors.Join(f.db.Close(), f.lock.Unlock()) }
