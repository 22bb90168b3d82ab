package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	"github.com/sedge-iot/sedge/edge"
)

// A meta is table meta. It holds, by name:
//
//	epoch       the epoch of the position
//	position    how many changes there were of what nodes are to run
//	upgrades    how many changes there were of releases and upgrades
//	audit       number and hash of the newest entry of the audit log
//	audit.base  number and hash of the newest one that was forgotten
type meta struct {
	at         edge.Position
	upgrades   int64
	last, base link
}

const readMeta = `SELECT name, value FROM meta`

// scanMeta reads what readMeta asks for.
func scanMeta(rows *sql.Rows) (m meta, err error) {
	defer rows.Close()
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return meta{}, err
		}
		switch name {
		case "epoch":
			m.at.Epoch = value
		case "position":
			m.at.Revision, err = strconv.ParseInt(value, 10, 64)
		case "upgrades":
			m.upgrades, err = strconv.ParseInt(value, 10, 64)
		case "audit":
			m.last, err = parseLink(value)
		case "audit.base":
			m.base, err = parseLink(value)
		}
		if err != nil {
			return meta{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return m, rows.Err()
}

// viewMeta reads how the ledger is in the state that tx sees.
func viewMeta(ctx context.Context, tx *sql.Tx) (meta, error) {
	rows, err := tx.QueryContext(ctx, readMeta)
	if err != nil {
		return meta{}, err
	}
	return scanMeta(rows)
}

// save writes what has changed since m was was.
func (m meta) save(q Querier, was meta) error {
	for _, row := range []struct {
		name    string
		changed bool
		value   string
	}{
		{"epoch", m.at.Epoch != was.at.Epoch, m.at.Epoch},
		{"position", m.at.Revision != was.at.Revision, strconv.FormatInt(m.at.Revision, 10)},
		{"upgrades", m.upgrades != was.upgrades, strconv.FormatInt(m.upgrades, 10)},
		{"audit", m.last != was.last, m.last.String()},
		{"audit.base", m.base != was.base, m.base.String()},
	} {
		if !row.changed {
			continue
		}
		_, err := q.Exec(`INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
			row.name, row.value)
		if err != nil {
			return err
		}
	}
	return nil
}

// A link is where the audit log can be followed on from.
type link struct {
	number int64
	hash   string
}

func (k link) String() string { return fmt.Sprintf("%d %s", k.number, k.hash) }

func parseLink(text string) (k link, err error) {
	number, hash, _ := strings.Cut(text, " ")
	k.hash = hash
	k.number, err = strconv.ParseInt(number, 10, 64)
	return k, err
}
