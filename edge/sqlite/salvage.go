package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"strings"
)

// Salvage copies what can still be read of the damaged file at path into db,
// whose tables are those that the file should have, and returns how many rows
// of each table were saved. The damaged file is left as it is: a copy beside db
// is worked on and removed. A table that cannot be read saves nothing; the
// error is that of db or of its disk.
func Salvage(path string, db *DB) (saved map[string]int, err error) {
	tables, err := tables(db.read)
	if err != nil {
		return nil, fmt.Errorf("salvage: %w", err)
	}
	var page []byte
	if err := db.read.QueryRow(`SELECT data FROM sqlite_dbpage WHERE pgno = 1`).Scan(&page); err != nil {
		return nil, fmt.Errorf("salvage: read the first page: %w", err)
	}
	scratch := db.path + ".salvage"
	defer remove(scratch)
	for _, repair := range []int{0, headerSize, len(page)} {
		if err := copyFiles(path, scratch, page, repair); err != nil {
			return nil, fmt.Errorf("salvage: %w", err)
		}
		if saved, err = salvage(scratch, db, tables); err != nil {
			return nil, fmt.Errorf("salvage: %w", err)
		}
		for _, n := range saved {
			if n > 0 {
				return saved, nil
			}
		}
	}
	return saved, nil
}

// headerSize is how long the header is with which a file begins.
const headerSize = 100

// copyFiles copies the file at from and its log. The first repair bytes of the
// copy are those of page, the first page of a sound file with the same tables.
// A copy shorter than a page is filled up, since SQLite throws away the log of
// an empty file.
func copyFiles(from, to string, page []byte, repair int) error {
	if err := remove(to); err != nil {
		return err
	}
	if err := copyFile(from+"-wal", to+"-wal"); err != nil {
		return err
	}
	if err := copyFile(from, to); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < int64(len(page)) {
		if err := f.Truncate(int64(len(page))); err != nil {
			return err
		}
	}
	if repair == 0 {
		return nil
	}
	if _, err := f.WriteAt(page[:repair], 0); err != nil {
		return err
	}
	// At 92 stands for which state of the file, counted at 24, the number of
	// pages in the header holds. For no state: SQLite asks for the file's size.
	_, err = f.WriteAt([]byte{0xff, 0xff, 0xff, 0xff}, 92)
	return err
}

// copyFile copies as much of a file as can be read; a missing one is an empty one.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func remove(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// salvage copies what can be read of the file at path into db.
func salvage(path string, db *DB, tables []table) (saved map[string]int, err error) {
	from, err := sql.Open("sqlite", dsn(path, url.Values{"mode": {"ro"}, "_query_only": {"1"}}))
	if err != nil {
		return nil, err
	}
	defer from.Close()
	from.SetMaxOpenConns(1)
	saved = map[string]int{}
	err = db.Update(func(tx *Tx) error {
		for _, t := range tables {
			n, err := t.copy(from, tx)
			if err != nil {
				return fmt.Errorf("table %s: %w", t.name, err)
			}
			saved[t.name] = n
		}
		return nil
	})
	return saved, err
}

// A table is what must be known of one to copy it.
type table struct {
	name    string
	columns []string
	key     []string // columns of the primary key
}

func tables(db *sql.DB) (all []table, err error) {
	rows, err := db.Query(`SELECT t.name, c.name, c.pk FROM pragma_table_list t, pragma_table_info(t.name) c
		WHERE t.schema = 'main' AND t.type = 'table' AND t.name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY t.name, c.cid`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name, column string
		var pk int
		if err := rows.Scan(&name, &column, &pk); err != nil {
			return nil, err
		}
		if len(all) == 0 || all[len(all)-1].name != name {
			all = append(all, table{name: name})
		}
		t := &all[len(all)-1]
		t.columns = append(t.columns, column)
		if pk > 0 {
			t.key = append(t.key, column)
		}
	}
	return all, rows.Err()
}

// copy reads the table from its beginning up to the first damage, then from
// its end: what is lost lies between.
func (t table) copy(from *sql.DB, tx *Tx) (saved int, err error) {
	columns := strings.Join(t.columns, ", ")
	insert := fmt.Sprintf(`INSERT OR IGNORE INTO %s (%s) VALUES (?%s)`, t.name, columns, strings.Repeat(", ?", len(t.columns)-1))
	for _, direction := range []string{"", " DESC"} {
		order := strings.Join(t.key, direction+", ") + direction
		rows, err := from.Query(fmt.Sprintf(`SELECT %s FROM %s ORDER BY %s`, columns, t.name, order))
		if err != nil {
			continue // as unreadable as can be
		}
		n, whole, err := t.insert(tx, insert, rows)
		saved += n
		if err != nil || whole {
			return saved, err
		}
	}
	return saved, nil
}

// insert moves rows until they end or cannot be read, and reports whether they
// ended. A row that breaks a rule of the table is left out.
func (t table) insert(tx *Tx, insert string, rows *sql.Rows) (saved int, whole bool, err error) {
	defer rows.Close()
	row := make([]any, len(t.columns))
	into := make([]any, len(t.columns))
	for i := range row {
		into[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			continue
		}
		res, err := tx.Exec(insert, row...)
		switch {
		case err == nil:
			n, _ := res.RowsAffected() // SQLite always knows
			saved += int(n)
		case Waiting(err) || Damaged(err):
			return saved, false, err
		}
	}
	return saved, rows.Err() == nil, nil
}
