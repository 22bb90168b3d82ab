package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	driver "modernc.org/sqlite"
)

// Sizes that suit a board with little memory and an SD card: see RATIONALE.md.
const (
	pageSize    = 1024    // bytes
	writerCache = 1024    // KiB of pages the writer keeps
	readerCache = 256     // KiB of pages each reader keeps
	readers     = 2       // connections that read at a time
	walPages    = 1024    // pages in the log before they are copied into the file
	walLimit    = 1 << 20 // bytes the log is cut back to once it was copied
	busy        = 5000    // milliseconds to wait for another connection's lock
)

// A DB is an open file. Its methods may be called from several goroutines.
type DB struct {
	path string
	pool *sql.DB // of one connection, that of conn
	read *sql.DB // of connections that cannot write

	mu    sync.Mutex // held by the transaction that writes
	conn  *sql.Conn
	stmts map[string]*sql.Stmt // prepared on conn, by their text
}

// Open opens the file at path, creates it if it is missing, and brings it up
// to the newest migration in schema (see [Migrate]).
//
// A file that was written by a newer program is refused with a *[NewerError],
// a damaged one with an error for which [Damaged] holds; neither is changed.
func Open(path string, schema fs.FS) (*DB, error) {
	db, err := open(path, schema)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", filepath.Base(path), err)
	}
	return db, nil
}

func open(path string, schema fs.FS) (*DB, error) {
	if _, err := driver.OFDLocking(true); err != nil && !errors.Is(err, driver.ErrOFDLockingUnavailable) {
		return nil, err
	}
	driver.StrictPragmas(true)
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	steps, err := migrations(schema)
	if err != nil {
		return nil, err
	}
	if err := inspect(path, steps); err != nil {
		return nil, err
	}
	db := &DB{path: path, stmts: map[string]*sql.Stmt{}}
	if err := db.connect(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := db.migrate(steps); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// connect opens the writer, on a file that is made if need be, and readies the
// readers.
func (db *DB) connect() (err error) {
	// SQLite would make the file for all to read; its log and index take after it.
	f, err := os.OpenFile(db.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	db.pool, err = sql.Open("sqlite", dsn(db.path, url.Values{
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"},
		"_foreign_keys": {"1"},
		"_pragma": {
			// The driver applies these by their alphabet. The page's size comes
			// first in quotes: it has to, since auto_vacuum writes the first page.
			fmt.Sprintf(`"page_size"(%d)`, pageSize),
			"auto_vacuum(INCREMENTAL)", // for Shrink
			fmt.Sprintf("cache_size(-%d)", writerCache),
			fmt.Sprintf("wal_autocheckpoint(%d)", walPages),
			fmt.Sprintf("journal_size_limit(%d)", walLimit),
		},
	}))
	if err != nil {
		return err
	}
	db.pool.SetMaxOpenConns(1)
	if db.conn, err = db.pool.Conn(context.Background()); err != nil {
		return err
	}
	db.read, err = sql.Open("sqlite", dsn(db.path, url.Values{
		"mode":        {"ro"},
		"_query_only": {"1"},
		"_pragma":     {fmt.Sprintf("cache_size(-%d)", readerCache)},
	}))
	if err != nil {
		return err
	}
	db.read.SetMaxOpenConns(readers)
	db.read.SetMaxIdleConns(1)
	return nil
}

// dsn names the file at path, which is absolute, with what every connection
// needs besides q. Only the file: form hands parameters on to SQLite.
func dsn(path string, q url.Values) string {
	q.Set("_busy_timeout", fmt.Sprint(busy))
	q.Add("_pragma", "temp_store(MEMORY)")
	q.Add("_pragma", "mmap_size(0)")
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return u.String()
}

// Path returns where the file is.
func (db *DB) Path() string { return db.path }

// Read returns the pool of connections that read. Each statement sees what was
// committed when it began. Rows must be read to their end or closed soon: a
// reader that stays keeps the log from being cut back.
func (db *DB) Read() *sql.DB { return db.read }

// Close closes the file. What was committed stays.
func (db *DB) Close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	var errs []error
	if db.read != nil {
		errs = append(errs, db.read.Close())
	}
	for _, st := range db.stmts {
		errs = append(errs, st.Close())
	}
	if db.conn != nil {
		errs = append(errs, db.conn.Close())
	}
	if db.pool != nil {
		errs = append(errs, db.pool.Close())
	}
	return errors.Join(errs...)
}

// inspect looks at a file without changing it: is it one, is it whole, is its
// schema one that this program knows. A missing file is well, unless it has
// left its log behind.
func inspect(path string, steps []string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if log, err := os.Stat(path + "-wal"); err == nil && log.Size() > 0 {
			return fmt.Errorf("%w: there is only its log", errDamaged)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return fmt.Errorf("%w: it is empty", errDamaged)
	}
	db, err := sql.Open("sqlite", dsn(path, url.Values{"mode": {"ro"}, "_query_only": {"1"}}))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	err = check(db, steps)
	if unreadable(err) {
		err = fmt.Errorf("%w: %w", errDamaged, err)
	}
	return errors.Join(err, db.Close())
}

func check(db *sql.DB, steps []string) error {
	var version int
	if err := db.QueryRow(`PRAGMA user_version`).Scan(&version); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version > len(steps) {
		return &NewerError{Version: version, Known: len(steps)}
	}
	var verdict string
	if err := db.QueryRow(`PRAGMA quick_check(1)`).Scan(&verdict); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, verdict)
	}
	return verify(db, steps[:max(version, 0)])
}

// Nanos is how times are stored: nanoseconds since 1970, 0 for no time.
func Nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// Time undoes [Nanos].
func Time(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}
