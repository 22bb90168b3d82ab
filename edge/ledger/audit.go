package ledger

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/sqlite"
)

// Table audit holds edge.AuditEntry by number, which rises by one from each to
// the next. The newest million are kept; meta knows the newest one, and the
// newest of those that were forgotten, so that the chain can be followed from
// there to the end.
const (
	keepAudit = 1_000_000
	auditSlip = 1_000 // entries that are forgotten at a time
	auditPage = 1_000 // entries that are looked at in one state of the ledger

	maxName   = 256     // bytes of an entry's by, address, action and object
	maxDetail = 4 << 10 // bytes
)

// chain returns the hash of an entry that follows on the one with hash before.
func chain(before string, e edge.AuditEntry) string {
	text, err := json.Marshal([]any{before, e.Number, e.Time.UnixNano(), e.By, e.Address, e.Action, e.Object, e.Detail})
	if err != nil {
		panic(err) // texts and numbers always can be JSON
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// fit returns text as an entry can hold it.
func fit(text string, limit int) string {
	text = strings.ReplaceAll(text, "\x00", "\uFFFD")
	return strings.ToValidUTF8(text[:min(len(text), limit)], "\uFFFD")
}

// audit appends an entry.
func (t *tx) audit(who Who, action, object, detail string) error {
	e := edge.AuditEntry{
		Number: t.last.number + 1, Time: t.now,
		By: fit(who.By, maxName), Address: fit(who.Address, maxName),
		Action: fit(action, maxName), Object: fit(object, maxName), Detail: fit(detail, maxDetail),
	}
	e.Hash = chain(t.last.hash, e)
	_, err := t.Exec(`INSERT INTO audit (number, time, by, address, action, object, detail, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		e.Number, sqlite.Nanos(e.Time), e.By, e.Address, e.Action, e.Object, e.Detail, e.Hash)
	if err != nil {
		return fmt.Errorf("append to the audit log: %w", err)
	}
	t.last = link{e.Number, e.Hash}
	if t.last.number-t.base.number < t.keepAudit+auditSlip {
		return nil
	}
	return t.forget(t.last.number - t.keepAudit)
}

// forget deletes the audit log's entries up to a number.
func (t *tx) forget(number int64) error {
	base := link{number: number}
	if _, err := t.Find(`SELECT hash FROM audit WHERE number = $1`, []any{number}, &base.hash); err != nil {
		return fmt.Errorf("shorten the audit log: %w", err)
	}
	if _, err := t.Exec(`DELETE FROM audit WHERE number <= $1`, number); err != nil {
		return fmt.Errorf("shorten the audit log: %w", err)
	}
	t.base = base
	return nil
}

// Note appends to the audit log what is no change of the ledger: that somebody
// ran a function by hand, say, or was turned away. Texts are cut to 256 bytes,
// detail to 4 KiB. Each is a write to disk: who calls it for what strangers do
// limits how often.
func (l *Ledger) Note(who Who, action, object, detail string) error {
	return l.together(func(t *tx) error { return t.audit(who, action, object, detail) })
}

// An AuditQuery chooses entries of the audit log.
type AuditQuery struct {
	Object string // "" for all
	Before int64  // only those with a lower number; 0 for all
	Limit  int    // of how many are returned; 0 for 100, at most 1,000
}

// Audit returns entries of the audit log, newest first.
func (l *Ledger) Audit(ctx context.Context, q AuditQuery) (list []edge.AuditEntry, err error) {
	where, args := `number < $1`, []any{below(q.Before), page(q.Limit)}
	if q.Object != "" {
		where, args = where+` AND object = $3`, append(args, q.Object)
	}
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		list, err = entries(ctx, tx, where+` ORDER BY number DESC LIMIT $2`, args...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	return list, nil
}

// below returns the number that others are to be lower than.
func below(before int64) int64 {
	if before <= 0 {
		return math.MaxInt64
	}
	return before
}

// page returns how many rows a caller gets that asked for limit.
func page(limit int) int {
	if limit <= 0 {
		return 100
	}
	return min(limit, 1_000)
}

func entries(ctx context.Context, tx *sql.Tx, where string, args ...any) (list []edge.AuditEntry, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT number, time, by, address, action, object, detail, hash FROM audit WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var e edge.AuditEntry
		var nanos int64
		if err := rows.Scan(&e.Number, &nanos, &e.By, &e.Address, &e.Action, &e.Object, &e.Detail, &e.Hash); err != nil {
			return nil, err
		}
		e.Time = sqlite.Time(nanos)
		list = append(list, e)
	}
	return list, rows.Err()
}

// A BrokenError says that the audit log is not as it was written.
type BrokenError struct {
	Number  int64 // of the first entry that is wrong
	Missing bool  // it is not there; otherwise it was altered
}

func (e *BrokenError) Error() string {
	if e.Missing {
		return fmt.Sprintf("entry %d is missing", e.Number)
	}
	return fmt.Sprintf("entry %d was altered, or what stood before it", e.Number)
}

// VerifyAudit follows the audit log from the oldest entry that is kept to the
// newest. If one was altered or is missing the error is a *[BrokenError].
func (l *Ledger) VerifyAudit(ctx context.Context) error {
	var at link
	for ended := false; !ended; {
		err := l.store.View(ctx, func(tx *sql.Tx) (err error) {
			ended, err = follow(ctx, tx, &at)
			return err
		})
		if err != nil {
			return fmt.Errorf("verify audit log: %w", err)
		}
	}
	return nil
}

// follow goes on from at for a page, and reports whether that was the end.
func follow(ctx context.Context, tx *sql.Tx, at *link) (ended bool, err error) {
	m, err := viewMeta(ctx, tx)
	if err != nil {
		return false, err
	}
	if at.number <= m.base.number {
		*at = m.base // as it begins, or as it was shortened meanwhile
	}
	list, err := entries(ctx, tx, `number > $1 ORDER BY number LIMIT $2`, at.number, auditPage)
	if err != nil {
		return false, err
	}
	for _, e := range list {
		switch {
		case e.Number != at.number+1:
			return false, &BrokenError{Number: at.number + 1, Missing: true}
		case e.Number > m.last.number, e.Hash != chain(at.hash, e), e.Number == m.last.number && e.Hash != m.last.hash:
			return false, &BrokenError{Number: e.Number}
		}
		*at = link{e.Number, e.Hash}
	}
	if len(list) == auditPage {
		return false, nil
	}
	if at.number < m.last.number {
		return false, &BrokenError{Number: at.number + 1, Missing: true}
	}
	return true, nil
}
