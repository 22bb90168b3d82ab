package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// A NewerError says that a file was written by a newer program than this one.
type NewerError struct {
	Version int // of the file
	Known   int // to this program
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("the file has schema %d and this program knows only up to %d: use the newer program again, or another data directory",
		e.Version, e.Known)
}

// migrations reads the numbered files of a schema: 001_name.sql, 002_name.sql,
// and so on. A file that was published is never changed; what changes goes
// into the next.
func migrations(schema fs.FS) ([]string, error) {
	names, err := fs.Glob(schema, "*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var steps []string
	for i, name := range names {
		number, _, _ := strings.Cut(name, "_")
		if n, err := strconv.Atoi(number); err != nil || n != i+1 {
			return nil, fmt.Errorf("migration %s: want number %03d", name, i+1)
		}
		text, err := fs.ReadFile(schema, name)
		if err != nil {
			return nil, err
		}
		steps = append(steps, string(text))
	}
	return steps, nil
}

// migrate takes the steps that the file lacks, all of them or none.
func (db *DB) migrate(steps []string) error {
	return db.Update(func(tx *Tx) error {
		var version int
		if _, err := tx.Find(`PRAGMA user_version`, nil, &version); err != nil {
			return fmt.Errorf("read schema version: %w", err)
		}
		if version >= len(steps) {
			return nil // Open has refused what is newer
		}
		for i, step := range steps[version:] {
			if err := tx.run(step); err != nil {
				return fmt.Errorf("migrate %03d: %w", version+i+1, err)
			}
		}
		return tx.run(fmt.Sprintf(`PRAGMA user_version = %d`, len(steps)))
	})
}

// verify compares a file's tables with those that its steps make from nothing:
// a flipped bit may leave a definition that SQLite still understands.
func verify(db *sql.DB, steps []string) error {
	model, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		return err
	}
	defer model.Close()
	model.SetMaxOpenConns(1)
	for i, step := range steps {
		if _, err := model.Exec(step); err != nil {
			return fmt.Errorf("migrate %03d from nothing: %w", i+1, err)
		}
	}
	want, err := definitions(model)
	if err != nil {
		return err
	}
	got, err := definitions(db)
	if err != nil {
		return err
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("%w: its tables are not those of schema %d", errDamaged, len(steps))
	}
	return nil
}

func definitions(db *sql.DB) (all []string, err error) {
	rows, err := db.Query(`SELECT name || ': ' || coalesce(sql, '') FROM sqlite_schema ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var d string
		if err := rows.Scan(&d); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, errors.Join(rows.Err(), rows.Close())
}
