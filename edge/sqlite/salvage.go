package sqlite

import (
	"database/sql"
	"fmt"
	"net/url"
	"strings"
)

// Salvage copies what can still be read of the damaged file at path into db,
// whose tables are those that the file should have, and returns how many rows
// of each table were saved. The damaged file is only read. A table that cannot
// be read saves nothing; the error is db's.
func Salvage(path string, db *DB) (saved map[string]int, err error) {
	from, err := sql.Open("sqlite", dsn(path, url.Values{"mode": {"ro"}, "_query_only": {"1"}}))
	if err != nil {
		return nil, err
	}
	defer from.Close()
	from.SetMaxOpenConns(1)
	tables, err := tables(db.read)
	if err != nil {
		return nil, fmt.Errorf("salvage: %w", err)
	}
	saved = map[string]int{}
	err = db.Update(func(tx *Tx) error {
		for _, t := range tables {
			n, err := t.copy(from, tx)
			if err != nil {
				return fmt.Errorf("salvage %s: %w", t.name, err)
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
	insert := fmt.Sprintf(`INSERT OR IGNORE INTO %s (%s) VALUES (%s)`,
		t.name, strings.Join(t.columns, ", "), strings.TrimSuffix(strings.Repeat("?, ", len(t.columns)), ", "))
	for _, direction := range []string{"", " DESC"} {
		order := strings.Join(t.key, direction+", ") + direction
		rows, err := from.Query(fmt.Sprintf(`SELECT %s FROM %s ORDER BY %s`, strings.Join(t.columns, ", "), t.name, order))
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
