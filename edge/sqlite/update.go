package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// A Tx is a transaction that writes. It is the business of one goroutine, and
// ends with the function it was given to.
type Tx struct{ db *DB }

// Update runs fn within a transaction and commits it: when Update returns nil,
// what fn wrote is on disk; otherwise none of it is. Updates run one at a time.
// fn must not call Update, and closes the rows it asks for.
func (db *DB) Update(fn func(tx *Tx) error) (err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	tx := &Tx{db: db}
	if err := tx.begin(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	committed := false
	defer func() {
		if !committed {
			tx.run(`ROLLBACK`) // fails only where SQLite has rolled back by itself
		}
	}()
	if err := fn(tx); err != nil {
		return err
	}
	if err := tx.run(`COMMIT`); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	committed = true
	return nil
}

// begin takes the write lock. A transaction that an earlier failure could not
// end is ended first.
func (tx *Tx) begin() error {
	err := tx.run(`BEGIN IMMEDIATE`)
	if err == nil {
		return nil
	}
	tx.run(`ROLLBACK`)
	return tx.run(`BEGIN IMMEDIATE`)
}

func (tx *Tx) run(query string) error {
	_, err := tx.db.conn.ExecContext(context.Background(), query)
	return err
}

// Exec runs a statement, which is kept prepared: query is one of a fixed few.
func (tx *Tx) Exec(query string, args ...any) (sql.Result, error) {
	st, err := tx.prepare(query)
	if err != nil {
		return nil, err
	}
	return st.Exec(args...)
}

// Query runs a query, kept prepared like that of Exec.
func (tx *Tx) Query(query string, args ...any) (*sql.Rows, error) {
	st, err := tx.prepare(query)
	if err != nil {
		return nil, err
	}
	return st.Query(args...)
}

// Find scans the first row of a query, kept prepared like that of Exec, and
// reports whether there was one.
func (tx *Tx) Find(query string, args []any, into ...any) (bool, error) {
	st, err := tx.prepare(query)
	if err != nil {
		return false, err
	}
	err = st.QueryRow(args...).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

func (tx *Tx) prepare(query string) (*sql.Stmt, error) {
	if st, ok := tx.db.stmts[query]; ok {
		return st, nil
	}
	st, err := tx.db.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	tx.db.stmts[query] = st
	return st, nil
}

// shrinkPages is how many pages Shrink gives back in one transaction: the log
// grows by as much as has to be moved for it.
const shrinkPages = 128

// Shrink gives the space of deleted rows back to the file system, about as many
// bytes as asked for if there are as many, and that of the log. The file keeps
// the space otherwise and writes new rows there.
func (db *DB) Shrink(bytes int64) error {
	for moved := shrinkPages; moved == shrinkPages && bytes > 0; bytes -= shrinkPages * pageSize {
		moved = 0
		err := db.Update(func(tx *Tx) error {
			rows, err := tx.Query(fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, shrinkPages))
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() { // a row for each page
				moved++
			}
			return rows.Err()
		})
		if err != nil {
			return fmt.Errorf("shrink: %w", err)
		}
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if _, err := db.conn.ExecContext(context.Background(), `PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		return fmt.Errorf("shrink: copy the log: %w", err)
	}
	return nil
}
