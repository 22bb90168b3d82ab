package ledger

import (
	"context"
	"database/sql"
	"errors"

	"github.com/sedge-iot/sedge/edge/sqlite"
)

// A store is the database that the ledger is written in. Both engines read the
// same SQL, with $1 for the first argument.
type store interface {
	// update runs fn within a transaction and commits it. Those of all programs
	// that have the ledger open run one at a time. Where fn reports news, they
	// are told of it.
	update(fn func(querier) (news bool, err error)) error
	// view runs fn on one state of the database.
	view(ctx context.Context, fn func(*sql.Tx) error) error
	// listen calls told when another program has committed news, and when that
	// may have been missed, until ctx is done.
	listen(ctx context.Context, told func())
	close() error
}

// A querier is a transaction that writes. Rows are closed before the next call.
type querier interface {
	Exec(query string, args ...any) (sql.Result, error)
	Query(query string, args ...any) (*sql.Rows, error)
	Find(query string, args []any, into ...any) (bool, error)
}

// A file is a ledger in SQLite, which one program has open at a time.
type file struct {
	lock *sqlite.Lock
	db   *sqlite.DB
}

func (f *file) update(fn func(querier) (bool, error)) error {
	return f.db.Update(func(tx *sqlite.Tx) error {
		_, err := fn(tx)
		return err
	})
}

func (f *file) view(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := f.db.Read().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // it has written nothing
	return fn(tx)
}

func (f *file) listen(ctx context.Context, _ func()) { <-ctx.Done() }

func (f *file) close() error { return errors.Join(f.db.Close(), f.lock.Unlock()) }
