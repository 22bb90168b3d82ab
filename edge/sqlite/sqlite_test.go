package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sedge-iot/sedge/edge/sqlite"
)

// schema makes a schema of its steps.
func schema(steps ...string) fstest.MapFS {
	files := fstest.MapFS{}
	for i, step := range steps {
		files[fmt.Sprintf("%03d_step.sql", i+1)] = &fstest.MapFile{Data: []byte(step)}
	}
	return files
}

const notes = `CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;`

func open(t *testing.T, path string, files fstest.MapFS) *sqlite.DB {
	t.Helper()
	db, err := sqlite.Open(path, files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// add writes notes, numbered.
func add(t *testing.T, db *sqlite.DB, from, to int) {
	t.Helper()
	err := db.Update(func(tx *sqlite.Tx) error {
		for n := from; n < to; n++ {
			if _, err := tx.Exec(`INSERT INTO notes (id, text) VALUES (?, ?)`, n, strings.Repeat("x", 100)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, db *sqlite.DB) (n int) {
	t.Helper()
	if err := db.Read().QueryRow(`SELECT count(*) FROM notes`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEveryConnectionIsSetUpForPowerCutsAndSmallBoards(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "odd ?name#%20.db"), schema(notes))
	pragmas := []string{"journal_mode", "synchronous", "foreign_keys", "busy_timeout", "query_only", "page_size",
		"auto_vacuum", "cache_size", "mmap_size", "temp_store", "wal_autocheckpoint"}
	read := func(pragma string, query func(string) (string, error)) string {
		got, err := query("PRAGMA " + pragma)
		if err != nil {
			t.Fatal(err)
		}
		return pragma + " " + got
	}
	var writer, reader []string
	for _, p := range pragmas {
		err := db.Update(func(tx *sqlite.Tx) error {
			writer = append(writer, read(p, func(q string) (got string, err error) {
				_, err = tx.Find(q, nil, &got)
				return got, err
			}))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		reader = append(reader, read(p, func(q string) (got string, err error) {
			err = db.Read().QueryRow(q).Scan(&got)
			return got, err
		}))
	}
	want := []string{"journal_mode wal", "synchronous 2", "foreign_keys 1", "busy_timeout 5000", "query_only 0", "page_size 1024",
		"auto_vacuum 2", "cache_size -1024", "mmap_size 0", "temp_store 2", "wal_autocheckpoint 1024"}
	if !slices.Equal(writer, want) {
		t.Errorf("writer: %q\nwant %q", writer, want)
	}
	for _, want := range []string{"journal_mode wal", "busy_timeout 5000", "query_only 1", "cache_size -256", "mmap_size 0"} {
		if !slices.Contains(reader, want) {
			t.Errorf("reader: %q, want %q among it", reader, want)
		}
	}
	if _, err := db.Read().Exec(`INSERT INTO notes (text) VALUES ('x')`); err == nil {
		t.Error("a reader has written")
	}
	if _, err := os.Stat(db.Path()); err != nil {
		t.Error(err)
	}
}

func TestAFileIsForItsOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "notes.db")
	add(t, open(t, path, schema(notes)), 0, 1)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if info, err := os.Stat(path + suffix); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("notes.db%s has mode %v, %v; want 0600", suffix, info.Mode(), err)
		}
	}
}

func TestAnUpdateThatFailsLeavesNothingAndHoldsNothingUp(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"), schema(notes))
	boom := errors.New("boom")
	err := db.Update(func(tx *sqlite.Tx) error {
		if _, err := tx.Exec(`INSERT INTO notes (text) VALUES ('x')`); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("Update = %v, want %v", err, boom)
	}
	func() {
		defer func() { recover() }()
		db.Update(func(tx *sqlite.Tx) error {
			tx.Exec(`INSERT INTO notes (text) VALUES ('x')`)
			panic(boom)
		})
	}()
	if got := count(t, db); got != 0 {
		t.Errorf("%d notes, want none", got)
	}
	add(t, db, 0, 1)
	if got := count(t, db); got != 1 {
		t.Errorf("%d notes, want 1", got)
	}
}

func TestMigrationsAreTakenAllOrNone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := open(t, path, schema(notes))
	add(t, db, 0, 10)
	db.Close()
	more := `ALTER TABLE notes ADD COLUMN stars INTEGER NOT NULL DEFAULT 0;`
	if _, err := sqlite.Open(path, schema(notes, more, `CREATE NONSENSE`)); err == nil || !strings.Contains(err.Error(), "migrate 003") {
		t.Errorf("Open = %v, want it to name migration 003", err)
	}
	db = open(t, path, schema(notes)) // is still of the first schema
	db.Close()
	db = open(t, path, schema(notes, more, `CREATE INDEX by_stars ON notes (stars);`))
	if got := count(t, db); got != 10 {
		t.Errorf("%d notes, want 10", got)
	}
	db.Close()

	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sqlite.Open(path, schema(notes))
	if e, ok := errors.AsType[*sqlite.NewerError](err); !ok || e.Version != 3 || e.Known != 1 {
		t.Errorf("Open = %v, want a NewerError of 3 and 1", err)
	}
	if after, err := os.ReadFile(path); err != nil || !slices.Equal(before, after) {
		t.Errorf("the refused file was changed, %v", err)
	}
}

func TestMigrationsAreNumberedWithoutGaps(t *testing.T) {
	for _, files := range []fstest.MapFS{
		{"002_a.sql": {}}, {"001_a.sql": {}, "003_b.sql": {}}, {"001_a.sql": {}, "001_b.sql": {}}, {"first.sql": {}},
	} {
		if _, err := sqlite.Open(filepath.Join(t.TempDir(), "a.db"), files); err == nil {
			t.Errorf("Open with %v = nil, want an error", files)
		}
	}
}

func TestAnAlteredDefinitionIsDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	db := open(t, path, schema(notes))
	add(t, db, 0, 10)
	db.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := strings.Replace(string(data), "text TEXT NOT NULL", "texu TEXT NOT NULL", 1)
	if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(path, schema(notes)); !sqlite.Damaged(err) {
		t.Errorf("Open = %v, want damage", err)
	}
	if got, _ := os.ReadFile(path); string(got) != damaged {
		t.Error("the damaged file was changed")
	}
}

func TestQuarantineKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for n, want := range []string{"a.db.damaged-20260102T030405", "a.db.damaged-20260102T030405-2"} {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.WriteFile(path+suffix, []byte(fmt.Sprint(n, suffix)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		aside, err := sqlite.Quarantine(path, now)
		if err != nil || aside != filepath.Join(dir, want) {
			t.Fatalf("Quarantine = %q, %v, want %s", aside, err, want)
		}
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if got, err := os.ReadFile(aside + suffix); err != nil || string(got) != fmt.Sprint(n, suffix) {
				t.Errorf("%s%s holds %q, %v", aside, suffix, got, err)
			}
		}
	}
}

func TestSalvageReadsAroundADamagedPage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	db := open(t, path, schema(notes))
	add(t, db, 0, 1000)
	db.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	middle := len(data) / 2 / 1024 * 1024
	clear(data[middle : middle+1024])
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(path, schema(notes)); !sqlite.Damaged(err) {
		t.Fatalf("Open = %v, want damage", err)
	}
	db = open(t, filepath.Join(dir, "new.db"), schema(notes))
	saved, err := sqlite.Salvage(path, db)
	if got := count(t, db); err != nil || saved["notes"] != got || got < 980 || got >= 1000 {
		t.Errorf("Salvage = %v, %v, %d notes; want nearly all of 1000", saved, err, got)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.salvage*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestShrinkGivesSpaceBack(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"), schema(notes))
	size := func() (n int64) {
		for _, suffix := range []string{"", "-wal"} {
			info, err := os.Stat(db.Path() + suffix)
			if err != nil {
				t.Fatal(err)
			}
			n += info.Size()
		}
		return n
	}
	add(t, db, 0, 20_000)
	full := size()
	if err := db.Update(func(tx *sqlite.Tx) error { _, err := tx.Exec(`DELETE FROM notes WHERE id > 9`); return err }); err != nil {
		t.Fatal(err)
	}
	if err := db.Shrink(1 << 30); err != nil {
		t.Fatal(err)
	}
	if got := size(); got > full/50 || count(t, db) != 10 {
		t.Errorf("%d bytes of %d are left, and %d notes; want few and 10", got, full, count(t, db))
	}
}

func TestALockNamesItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := sqlite.TakeLock(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sqlite.TakeLock(path)
	if e, ok := errors.AsType[*sqlite.LockedError](err); !ok || e.PID != os.Getpid() {
		t.Errorf("TakeLock = %v, want it to name %d", err, os.Getpid())
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	l, err = sqlite.TakeLock(path)
	if err != nil {
		t.Errorf("TakeLock after Unlock = %v", err)
	}
	l.Unlock()
}

func TestErrorsAreToldApart(t *testing.T) {
	if sqlite.Damaged(sql.ErrNoRows) || sqlite.Waiting(sql.ErrNoRows) || sqlite.Full(nil) {
		t.Error("errors of others are taken for SQLite's")
	}
	path := filepath.Join(t.TempDir(), "a.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(path, schema(notes)); !sqlite.Damaged(err) {
		t.Errorf("Open of something else = %v, want damage", err)
	}
}

func TestTimesAreStoredToTheNanosecond(t *testing.T) {
	for _, want := range []time.Time{{}, time.Unix(0, 1), time.Date(2026, 1, 2, 3, 4, 5, 6, time.Local), time.Date(1969, 1, 1, 0, 0, 0, 0, time.Local)} {
		if got := sqlite.Time(sqlite.Nanos(want)); !got.Equal(want) {
			t.Errorf("%v comes back as %v", want, got)
		}
	}
}
