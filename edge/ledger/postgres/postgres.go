// Package postgres keeps the hub's ledger in PostgreSQL, for a hub that has outgrown
// one machine: several replicas have it open at a time.
//
// It promises what package ledger wants of a store: changes of all replicas are
// made one after another, under a lock that each takes first, so that positions rise
// in the order of commits; and a replica is told when another has committed.
//
// What the tables mean is left to package ledger.
package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	crand "crypto/rand"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/sedge-iot/sedge/edge/ledger"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

const (
	connections = 8
	updateTime  = time.Minute // for a change, the wait for those before included
	pulseTime   = 30 * time.Second
	maxPause    = 30 * time.Second

	channel   = "sedge_ledger"
	migrating = 0x73656467 // the advisory lock of who brings the tables up to date
)

// A store is an open database.
type store struct {
	db      *sql.DB
	config  *pgx.ConnConfig
	id      string     // what tells its own news from others'
	writing sync.Mutex // held by the transaction that writes: others wait here, not each with a connection
}

// Open opens the ledger in the database that dsn names, as PostgreSQL's own programs
// read it, and brings its tables up to date. A database of a newer program is refused
// and left as it is.
func Open(ctx context.Context, dsn string) (*ledger.Ledger, error) {
	s, err := open(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("open ledger in PostgreSQL: %w", err)
	}
	return ledger.On(s)
}

func open(ctx context.Context, dsn string) (*store, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err // it has the password struck out
	}
	millis := strconv.FormatInt(updateTime.Milliseconds(), 10)
	for name, value := range map[string]string{
		"application_name":                    "sedge-hub",
		"statement_timeout":                   millis,
		"idle_in_transaction_session_timeout": millis, // a replica that vanished does not keep the lock
		"synchronous_commit":                  "on",
	} {
		if _, given := config.RuntimeParams[name]; !given {
			config.RuntimeParams[name] = value
		}
	}
	s := &store{db: stdlib.OpenDB(*config), config: config, id: crand.Text()}
	s.db.SetMaxOpenConns(connections)
	s.db.SetMaxIdleConns(connections)
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(err, s.db.Close())
	}
	return s, nil
}

// migrate takes the steps that the tables lack, all of them or none.
func (s *store) migrate(ctx context.Context) error {
	names, err := fs.Glob(schemaFiles, "schema/*.sql") // by number
	if err != nil {
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // or it has been committed
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, migrating); err != nil {
		return err
	}
	version, err := schemaVersion(ctx, tx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version > len(names) {
		return fmt.Errorf("the database has schema %d and this program knows only up to %d: use the newer program again", version, len(names))
	}
	for i, name := range names[version:] {
		text, err := fs.ReadFile(schemaFiles, name)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, string(text)); err != nil {
			return fmt.Errorf("migrate %03d: %w", version+i+1, err)
		}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES ('schema', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
		strconv.Itoa(len(names)))
	if err != nil {
		return err
	}
	return tx.Commit()
}

// schemaVersion returns how many steps have been taken.
func schemaVersion(ctx context.Context, tx *sql.Tx) (version int, err error) {
	var there bool
	if err := tx.QueryRowContext(ctx, `SELECT to_regclass('meta') IS NOT NULL`).Scan(&there); err != nil || !there {
		return 0, err
	}
	var text string
	if err := tx.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = 'schema'`).Scan(&text); err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// Update takes the lock on the position first, which all changes take.
func (s *store) Update(fn func(ledger.Querier) (bool, error)) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	ctx, stop := context.WithTimeout(context.Background(), updateTime)
	defer stop()
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() // or it has been committed
	if _, err := tx.ExecContext(ctx, `SELECT 1 FROM meta WHERE name = 'position' FOR UPDATE`); err != nil {
		return fmt.Errorf("wait for other replicas: %w", err)
	}
	news, err := fn(querier{tx, ctx})
	if err != nil {
		return err
	}
	if news {
		if _, err := tx.ExecContext(ctx, `SELECT pg_notify($1, $2)`, channel, s.id); err != nil {
			return fmt.Errorf("tell other replicas: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// A querier is a transaction that writes.
type querier struct {
	tx  *sql.Tx
	ctx context.Context // ends with the transaction
}

func (q querier) Exec(query string, args ...any) (sql.Result, error) {
	return q.tx.ExecContext(q.ctx, query, args...)
}

func (q querier) Query(query string, args ...any) (*sql.Rows, error) {
	return q.tx.QueryContext(q.ctx, query, args...)
}

func (q querier) Find(query string, args []any, into ...any) (bool, error) {
	err := q.tx.QueryRowContext(q.ctx, query, args...).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

func (s *store) View(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback() // it has written nothing
	return fn(tx)
}

func (s *store) Close() error { return s.db.Close() }

// Listen listens on a connection of its own, and dials again when that is lost.
func (s *store) Listen(ctx context.Context, told func()) {
	for try := 0; ctx.Err() == nil; try++ {
		heard := s.hear(ctx, told)
		if heard {
			try = 0
		}
		pause := min(time.Second<<min(try, 10), maxPause)
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
		}
	}
}

// hear listens until the connection is lost, and reports whether there was one.
func (s *store) hear(ctx context.Context, told func()) bool {
	conn, err := pgx.ConnectConfig(ctx, s.config)
	if err != nil {
		return false // the changes that fail meanwhile tell why
	}
	defer conn.Close(context.Background()) // the server notices in any case
	if _, err := conn.Exec(ctx, `LISTEN `+channel); err != nil {
		return false
	}
	told() // what was committed while nobody listened
	for {
		n, err := s.next(ctx, conn)
		if err != nil {
			return true
		}
		if n != nil && n.Payload != s.id {
			told()
		}
	}
}

// next waits for a notification, and returns nil if none came for a while and the
// connection still lives.
func (s *store) next(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
	quiet, stop := context.WithTimeout(ctx, pulseTime)
	defer stop()
	n, err := conn.WaitForNotification(quiet)
	if err == nil {
		return n, nil
	}
	if ctx.Err() != nil || !pgconn.Timeout(err) {
		return nil, err
	}
	pulse, stop := context.WithTimeout(ctx, pulseTime)
	defer stop()
	return nil, conn.Ping(pulse)
}
