package ledger

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/sqlite"
	"github.com/sedge-iot/sedge/functions"
)

// The actions of history. The strings are stored.
const (
	actionDeploy   = "deploy"
	actionRollback = "rollback"
	actionEnable   = "enable"
	actionDisable  = "disable"
	actionDelete   = "delete"
)

// An Intent says who changes something, and on what condition.
type Intent struct {
	By     string             // who, for the history
	Expect functions.Revision // if set, the current revision must be this one, else the change is an ErrConflict
	Absent bool               // there must be no function of that name yet, else the change is an ErrConflict
	DryRun bool               // only tell what would change
}

// A Result is what became of a function, and the position after that.
type Result struct {
	edge.Change
	At edge.Position
}

// Deploy makes f, which must be valid, the current revision of its function. A
// new function is enabled; an existing one stays as it is.
func (l *Ledger) Deploy(f functions.Function, in Intent) (Result, error) {
	return l.change("deploy", f.Name(), in, func(e *entry) error {
		body, err := json.Marshal(f)
		if err != nil {
			return err
		}
		_, err = e.tx.Exec(`INSERT INTO revisions (name, revision, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`,
			e.name, string(f.Revision), string(body))
		if err != nil {
			return err
		}
		return e.set(actionDeploy, f.Revision, e.enabled || !e.exists)
	})
}

// Rollback makes an earlier revision current: to is a number of the history or
// a revision, which may be shortened; "" for the one before. Its errors are
// [ErrNotFound], [ErrAmbiguous] and [ErrConflict].
func (l *Ledger) Rollback(name, to string, in Intent) (Result, error) {
	return l.change("roll back", name, in, func(e *entry) error {
		if !e.exists {
			return ErrNotFound
		}
		revision, err := e.earlier(to)
		if err != nil {
			return err
		}
		return e.set(actionRollback, revision, e.enabled)
	})
}

// SetEnabled lets a function run, or pauses it. Its errors are [ErrNotFound]
// and [ErrConflict].
func (l *Ledger) SetEnabled(name string, enabled bool, in Intent) (Result, error) {
	verb, action := "enable", actionEnable
	if !enabled {
		verb, action = "disable", actionDisable
	}
	return l.change(verb, name, in, func(e *entry) error {
		if !e.exists {
			return ErrNotFound
		}
		return e.set(action, e.revision, enabled)
	})
}

// Delete removes a function; its history stays. Its errors are [ErrNotFound]
// and [ErrConflict].
func (l *Ledger) Delete(name string, in Intent) (Result, error) {
	return l.change("delete", name, in, func(e *entry) error {
		if !e.exists {
			return ErrNotFound
		}
		if _, err := e.tx.Exec(`DELETE FROM functions WHERE name = ?`, e.name); err != nil {
			return err
		}
		e.result.Change = edge.Change{Function: e.name, Previous: e.revision, Changed: true}
		return e.log(actionDelete, e.revision)
	})
}

// An entry is a function while it is being changed.
type entry struct {
	tx       *sqlite.Tx
	name     string
	by       string
	exists   bool
	revision functions.Revision
	enabled  bool
	result   Result
}

// errDryRun undoes a change that was only tried.
var errDryRun = errors.New("dry run")

func (l *Ledger) change(verb, name string, in Intent, fn func(*entry) error) (Result, error) {
	e := &entry{name: name, by: in.By}
	err := l.db.Update(func(tx *sqlite.Tx) (err error) {
		e.tx = tx
		e.exists, err = tx.Find(`SELECT revision, enabled FROM functions WHERE name = ?`, []any{name}, &e.revision, &e.enabled)
		if err != nil {
			return err
		}
		if in.Absent && e.exists || in.Expect != "" && in.Expect != e.revision {
			return e.conflict()
		}
		if err := fn(e); err != nil {
			return err
		}
		if _, err := tx.Find(lastNumber, nil, &e.result.At.Revision); err != nil {
			return err
		}
		if in.DryRun {
			return errDryRun
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return Result{}, fmt.Errorf("%s %s: %w", verb, name, err)
	}
	e.result.At.Epoch = l.epoch
	e.result.DryRun = in.DryRun
	if in.DryRun && e.result.Changed {
		e.result.At.Revision-- // the line of history was undone
	}
	return e.result, nil
}

func (e *entry) conflict() error {
	if !e.exists {
		return fmt.Errorf("%w: there is none", ErrConflict)
	}
	return fmt.Errorf("%w: %s", ErrConflict, e.revision.Short())
}

// set makes revision the current one, unless all is so already.
func (e *entry) set(action string, revision functions.Revision, enabled bool) error {
	e.result.Change = edge.Change{
		Function: e.name, Revision: revision, Enabled: enabled, Created: !e.exists,
		Changed: !e.exists || revision != e.revision || enabled != e.enabled,
	}
	if !e.result.Changed {
		return nil
	}
	if revision != e.revision {
		e.result.Previous = e.revision
	}
	_, err := e.tx.Exec(`INSERT INTO functions (name, revision, enabled) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET revision = excluded.revision, enabled = excluded.enabled`, e.name, string(revision), enabled)
	if err != nil {
		return err
	}
	return e.log(action, revision)
}

// log writes a line of history and forgets those that are too old.
func (e *entry) log(action string, revision functions.Revision) error {
	_, err := e.tx.Exec(`INSERT INTO history (name, action, revision, time, by) VALUES (?, ?, ?, ?, ?)`,
		e.name, action, string(revision), sqlite.Nanos(time.Now()), e.by)
	if err != nil {
		return err
	}
	_, err = e.tx.Exec(`DELETE FROM history WHERE name = ?1 AND number < max(
		coalesce((SELECT number FROM history WHERE name = ?1 AND action IN ('deploy', 'rollback') ORDER BY number DESC LIMIT 1 OFFSET ?2), 0),
		coalesce((SELECT number FROM history WHERE name = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?3), 0))`,
		e.name, keepRevisions-1, keepLines-1)
	if err != nil {
		return err
	}
	_, err = e.tx.Exec(`DELETE FROM revisions WHERE name = ?1
		AND revision NOT IN (SELECT revision FROM history WHERE name = ?1)
		AND revision NOT IN (SELECT revision FROM functions WHERE name = ?1)`, e.name)
	return err
}

// earlier finds the revision that a rollback goes to.
func (e *entry) earlier(to string) (functions.Revision, error) {
	if to != "" {
		return find(e.name, to, e.tx.Query)
	}
	var revision functions.Revision
	found, err := e.tx.Find(`SELECT revision FROM history WHERE name = ? AND action IN ('deploy', 'rollback') AND revision <> ?
		ORDER BY number DESC LIMIT 1`, []any{e.name, string(e.revision)}, &revision)
	if err != nil {
		return "", err
	}
	if !found {
		return "", fmt.Errorf("an earlier revision: %w", ErrNotFound)
	}
	return revision, nil
}

// find returns the revision of a function that to means: a number of the
// history, or the beginning of a revision.
func find(name, to string, query func(string, ...any) (*sql.Rows, error)) (functions.Revision, error) {
	number, err := strconv.ParseInt(to, 10, 64)
	if err != nil {
		number = 0 // no line has it
	}
	rows, err := query(`SELECT revision FROM history WHERE name = ?1 AND number = ?2
		UNION SELECT revision FROM revisions WHERE name = ?1 AND substr(revision, 1, length(?3)) = ?3
			AND NOT EXISTS (SELECT 1 FROM history WHERE name = ?1 AND number = ?2) LIMIT 2`, name, number, to)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var fits []functions.Revision
	for rows.Next() {
		var r functions.Revision
		if err := rows.Scan(&r); err != nil {
			return "", err
		}
		fits = append(fits, r)
	}
	switch {
	case rows.Err() != nil:
		return "", rows.Err()
	case len(fits) == 0:
		return "", ErrNotFound
	case len(fits) > 1:
		return "", ErrAmbiguous
	}
	return fits[0], nil
}
