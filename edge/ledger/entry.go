package ledger

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/sqlite"
	"github.com/sedge-iot/sedge/functions"
)

// An entry is a function while it is being changed.
type entry struct {
	t       *tx
	name    string
	in      Intent
	exists  bool
	current // if it exists
	result  Result
}

// A current is what there is of a function beside its revisions.
type current struct {
	revision  functions.Revision
	enabled   bool
	selector  string
	signature string // of the revision
}

func (e *entry) load() (err error) {
	e.exists, err = e.t.Find(`SELECT f.revision, f.enabled, f.selector, r.signature FROM functions f
		JOIN revisions r ON r.name = f.name AND r.revision = f.revision WHERE f.name = $1`,
		[]any{e.name}, &e.revision, &e.enabled, &e.selector, &e.signature)
	return err
}

// to returns the current with another revision, which is there.
func (e *entry) to(revision functions.Revision) (next current, err error) {
	next = e.current
	next.revision = revision
	_, err = e.t.Find(`SELECT signature FROM revisions WHERE name = $1 AND revision = $2`, []any{e.name, string(revision)}, &next.signature)
	return next, err
}

func (e *entry) conflict() error {
	if !e.exists {
		return fmt.Errorf("%w: there is none", ErrConflict)
	}
	return fmt.Errorf("%w: the current revision is %s", ErrConflict, e.revision.Short())
}

// place does what set does, unless a rollout decides what nodes run.
func (e *entry) place(action string, next current) error {
	var id int64
	rolling, err := e.t.Find(`SELECT id FROM rollouts WHERE function = $1 AND NOT over`, []any{e.name}, &id)
	if err != nil {
		return err
	}
	if rolling && next != e.current {
		return fmt.Errorf("%w, number %d", ErrRolling, id)
	}
	return e.set(action, next)
}

// set makes next the current one, unless all is so already.
func (e *entry) set(action string, next current) error {
	e.result.Signature = next.signature
	e.result.Change = edge.Change{
		Function: e.name, Revision: next.revision, Enabled: next.enabled, Created: !e.exists,
		Changed: !e.exists || next != e.current,
	}
	if !e.result.Changed {
		return nil
	}
	if next.revision != e.revision {
		e.result.Previous = e.revision
	}
	removing, err := e.removing(next)
	if err != nil {
		return err
	}
	_, err = e.t.Exec(`INSERT INTO functions (name, revision, enabled, selector) VALUES ($1, $2, $3, $4)
		ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, enabled = excluded.enabled, selector = excluded.selector`,
		e.name, string(next.revision), next.enabled, next.selector)
	if err != nil {
		return err
	}
	if removing != removesNothing {
		if err := e.t.removal(edge.Removal{Name: e.name}, "", e.in.Confirmed); err != nil {
			return err
		}
	}
	if err := e.log(action, next.revision, next.selector); err != nil {
		return err
	}
	if e.in.Rollout == nil || next.revision == e.revision {
		return e.prune()
	}
	if err := e.begin(*e.in.Rollout, removing); err != nil {
		return err
	}
	return e.prune()
}

// removing says whether nodes may lose the function when it is as next.
func (e *entry) removing(next current) (int, error) {
	same := next.selector == e.selector
	if e.exists && same && next.revision != e.revision {
		was, err := e.labels(e.revision)
		if err != nil {
			return 0, err
		}
		is, err := e.labels(next.revision)
		if err != nil {
			return 0, err
		}
		same = maps.Equal(was, is)
	}
	switch {
	case !e.exists || same:
		return removesNothing, nil
	case e.in.Confirmed:
		return removesConfirmed, nil
	}
	return removes, nil
}

// labels returns the labels that a node must have for a revision.
func (e *entry) labels(revision functions.Revision) (map[string]string, error) {
	var body string
	_, err := e.t.Find(`SELECT body FROM revisions WHERE name = $1 AND revision = $2`, []any{e.name, string(revision)}, &body)
	if err != nil {
		return nil, err
	}
	var f functions.Function
	if err := json.Unmarshal([]byte(body), &f); err != nil {
		return nil, err
	}
	return f.Manifest.Spec.Placement.Nodes, nil
}

// remove deletes the function.
func (e *entry) remove() error {
	if _, err := e.t.Exec(`DELETE FROM functions WHERE name = $1`, e.name); err != nil {
		return err
	}
	if err := e.t.removal(edge.Removal{Name: e.name, Purge: e.in.Purge}, "", e.in.Confirmed); err != nil {
		return err
	}
	e.result.Change = edge.Change{Function: e.name, Previous: e.revision, Changed: true}
	if err := e.log(actionDelete, e.revision, ""); err != nil {
		return err
	}
	return e.prune()
}

// log writes a line of history, and one for the audit.
func (e *entry) log(action string, revision functions.Revision, detail string) error {
	_, err := e.t.Exec(`INSERT INTO history (number, name, action, revision, time, by) VALUES ($1, $2, $3, $4, $5, $6)`,
		e.t.bump(), e.name, action, string(revision), sqlite.Nanos(e.t.now), e.in.By)
	if err != nil {
		return err
	}
	text := revision.Short()
	if detail != "" {
		text += " on " + detail
	}
	return e.t.audit(e.in.who(), "function."+action, "function/"+e.name, text)
}

// prune forgets lines of history that are too old, and revisions that nothing names.
func (e *entry) prune() error {
	for _, q := range []struct {
		query string
		args  []any
	}{
		{`DELETE FROM history WHERE name = $1 AND number < (SELECT number FROM history
			WHERE name = $1 AND action IN ('deploy', 'rollback') ORDER BY number DESC LIMIT 1 OFFSET $2)`, []any{e.name, keepRevisions - 1}},
		{`DELETE FROM history WHERE name = $1 AND number < (SELECT number FROM history
			WHERE name = $1 ORDER BY number DESC LIMIT 1 OFFSET $2)`, []any{e.name, keepLines - 1}},
		{`DELETE FROM revisions WHERE name = $1
			AND revision NOT IN (SELECT revision FROM history WHERE name = $1)
			AND revision NOT IN (SELECT revision FROM functions WHERE name = $1)
			AND revision NOT IN (SELECT before FROM rollouts WHERE function = $1 AND NOT over)`, []any{e.name}},
	} {
		if _, err := e.t.Exec(q.query, q.args...); err != nil {
			return err
		}
	}
	return nil
}

// earlier finds the revision that a rollback goes to.
func (e *entry) earlier(to string) (functions.Revision, error) {
	if to != "" {
		return find(e.name, to, e.t.Query)
	}
	var revision functions.Revision
	found, err := e.t.Find(`SELECT revision FROM history WHERE name = $1 AND action IN ('deploy', 'rollback') AND revision <> $2
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
	rows, err := query(`SELECT revision FROM history WHERE name = $1 AND number = $2
		UNION SELECT revision FROM revisions WHERE name = $1 AND substr(revision, 1, length($3)) = $3
			AND NOT EXISTS (SELECT 1 FROM history WHERE name = $1 AND number = $2) LIMIT 2`, name, number, to)
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
