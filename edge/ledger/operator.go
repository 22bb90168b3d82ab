package ledger

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/sqlite"
)

// Table operators holds edge.Operator by name, with the SHA-256 of its token.
const (
	maxOperators    = 1_000
	operatorColumns = `name, role, scope, by, made, used, expires`
	usedEvery       = time.Hour
)

func scanOperator(scan func(...any) error) (o edge.Operator, err error) {
	var made, used, expires int64
	err = scan(&o.Name, &o.Role, &o.Scope, &o.By, &made, &used, &expires)
	o.Made, o.Used, o.Expires = sqlite.Time(made), sqlite.Time(used), sqlite.Time(expires)
	return o, err
}

// MakeOperator adds an operator. The error may be [ErrConflict] if there is one of
// that name, or [ErrNoRoom].
func (l *Ledger) MakeOperator(o edge.Operator, token Hash, who Who) error {
	err := l.update(func(t *tx) error {
		err := t.room(`SELECT count(*), count(CASE WHEN name = $1 THEN 1 END) FROM operators`, o.Name, maxOperators)
		if err != nil {
			return err
		}
		_, err = t.Exec(`INSERT INTO operators (name, role, scope, token, by, made, used, expires) VALUES ($1, $2, $3, $4, $5, $6, 0, $7)`,
			o.Name, string(o.Role), o.Scope, token[:], who.By, sqlite.Nanos(t.now), sqlite.Nanos(o.Expires))
		if err != nil {
			return err
		}
		detail := string(o.Role)
		if o.Scope != "" {
			detail += " of " + o.Scope
		}
		return t.audit(who, "operator.make", "operator/"+o.Name, detail)
	})
	if err != nil {
		return fmt.Errorf("make operator %s: %w", o.Name, err)
	}
	return nil
}

// Operators returns the operators, by name.
func (l *Ledger) Operators(ctx context.Context) ([]edge.Operator, error) {
	list, err := l.operators(ctx, `1 = 1 ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list operators: %w", err)
	}
	return list, nil
}

func (l *Ledger) operators(ctx context.Context, where string, args ...any) (list []edge.Operator, err error) {
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT `+operatorColumns+` FROM operators WHERE `+where, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			o, err := scanOperator(rows.Scan)
			if err != nil {
				return err
			}
			list = append(list, o)
		}
		return rows.Err()
	})
	return list, err
}

// OperatorOf returns the operator that has the token, and notes once an hour that it
// was used. The error is [ErrNotFound] if nobody has it, [ErrExpired] if it has expired.
func (l *Ledger) OperatorOf(ctx context.Context, token Hash) (edge.Operator, error) {
	list, err := l.operators(ctx, `token = $1`, token[:])
	now := time.Now()
	switch {
	case err != nil:
		return edge.Operator{}, fmt.Errorf("find operator by token: %w", err)
	case len(list) == 0:
		return edge.Operator{}, fmt.Errorf("find operator by token: %w", ErrNotFound)
	}
	o := list[0]
	if !o.Expires.IsZero() && !now.Before(o.Expires) {
		return edge.Operator{}, fmt.Errorf("token of operator %s: %w", o.Name, ErrExpired)
	}
	if now.Sub(o.Used) < usedEvery {
		return o, nil
	}
	o.Used = now
	// Who may come in does not depend on whether this can be written.
	_ = l.update(func(t *tx) error {
		_, err := t.Exec(`UPDATE operators SET used = $1 WHERE token = $2`, sqlite.Nanos(o.Used), token[:])
		return err
	})
	return o, nil
}

// DeleteOperator deletes an operator, or fails with [ErrNotFound].
func (l *Ledger) DeleteOperator(name string, who Who) error {
	err := l.update(func(t *tx) error {
		return t.drop(`DELETE FROM operators WHERE name = $1`, name, who, "operator.delete", "operator/"+name)
	})
	if err != nil {
		return fmt.Errorf("delete operator %s: %w", name, err)
	}
	return nil
}
