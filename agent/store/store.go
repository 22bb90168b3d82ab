package store

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/edge/sqlite"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// A Store is the open store of one node. Its methods may be called from
// several goroutines. Those that write need [Store.Run] to be running: they
// wait for it, and fail with [ErrClosed] once it has ended.
type Store struct {
	lg      *slog.Logger
	lock    *sqlite.Lock
	db      *sqlite.DB
	salvage *Salvage
	ballast *ballast
	cache   *cache
	time    ownTime
	suspect string        // a file that says: this store was damaged when it ran last
	wake    chan struct{} // a token when the queue has grown
	turned  chan struct{} // a token when health has changed

	sweepDue   time.Time // of what has expired, by our time; Run's alone
	restockDue time.Time // of the ballast; Run's alone

	mu       sync.Mutex
	queue    queue
	ended    error // why nothing is taken any more, or nil
	failing  error // what the disk said when it failed last; nil once it works and has room
	stuck    error // what the disk says while nothing can be committed
	session  string
	versions versions
	used     map[string]Usage // of state, by function
	dead     map[string]DeadCount
}

// ErrClosed says that the store no longer takes changes.
var ErrClosed = errors.New("the store is closed")

// Open opens the store in the data directory dir, which it creates if need be.
//
// A damaged store is set aside and what can be read of it is taken over, see
// [Store.Report]. Open fails only if another process uses dir
// (*[sqlite.LockedError]), if the store was written by a newer program
// (*[sqlite.NewerError]), or if the disk fails or cannot be written to.
// lg hears of what was lost and of a disk that fails.
func Open(dir string, lg *slog.Logger) (*Store, error) { return OpenBy(MachineClock(), dir, lg) }

// OpenBy is [Open] by another clock than the machine's.
func OpenBy(c Clock, dir string, lg *slog.Logger) (*Store, error) {
	s, err := open(c, dir, lg)
	if err != nil {
		return nil, fmt.Errorf("open store in %s: %w", dir, err)
	}
	return s, nil
}

func open(c Clock, dir string, lg *slog.Logger) (_ *Store, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Store{
		lg:      lg,
		cache:   newCache(),
		ballast: &ballast{path: filepath.Join(dir, "ballast")},
		suspect: filepath.Join(dir, "suspect"),
		wake:    make(chan struct{}, 1),
		turned:  make(chan struct{}, 1),
	}
	if s.lock, err = sqlite.TakeLock(filepath.Join(dir, "node.lock")); err != nil {
		return nil, err
	}
	schema, err := fs.Sub(schemaFiles, "schema")
	if err == nil {
		s.db, s.salvage, err = openOrSalvage(filepath.Join(dir, "node.db"), s.suspect, schema)
	}
	if err == nil {
		err = s.load(c)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.salvage != nil {
		lg.Error("store was damaged", "reason", s.salvage.Reason, "kept", s.salvage.Path, "saved", s.salvage.Rows)
	}
	if err := s.ballast.make(); err != nil {
		s.failing = fmt.Errorf("keep a reserve on the disk: %w", err)
	}
	return s, nil
}

// Close closes the files and lets go of the data directory. It must not be
// called before Run has returned.
func (s *Store) Close() error {
	s.end(ErrClosed)
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Unlock())
	}
	return errors.Join(errs...)
}

// Clock returns the clock by which the store was opened.
func (s *Store) Clock() Clock { return s.time.Clock }

// load reads what is kept in memory all the time: counts, counters and our time.
func (s *Store) load(c Clock) error {
	values := map[string]string{}
	err := each(s.db, func(row row) error {
		var name, value string
		err := row.Scan(&name, &value)
		values[name] = value
		return err
	}, `SELECT name, value FROM meta`)
	if err != nil {
		return fmt.Errorf("read meta: %w", err)
	}
	s.session = values[metaSession]
	s.time = newOwnTime(c, s.lastMark(values[metaClock]))
	var highest int64
	if s.used, highest, err = loadUsage(s.db); err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if s.versions, err = loadVersions(values[metaVersions], highest); err != nil {
		return err
	}
	if s.dead, err = loadDeadCounts(s.db); err != nil {
		return fmt.Errorf("read dead letters: %w", err)
	}
	return nil
}

// lastMark reads the mark that was stored last, or returns nil if there is none
// that can be read: then the wall clock has to do.
func (s *Store) lastMark(stored string) *mark {
	if stored == "" {
		return nil
	}
	m := &mark{}
	if err := json.Unmarshal([]byte(stored), m); err != nil {
		s.lg.Error("the store's time cannot be read: it is the wall clock's now", "err", err)
		return nil
	}
	return m
}

// A row is what can be scanned: a row of a query.
type row interface{ Scan(into ...any) error }

// each calls fn with each row of a query.
func each(db *sqlite.DB, fn func(row) error, query string, args ...any) error {
	rows, err := db.Read().QueryContext(context.Background(), query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
