package store

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A row of table functions is a function that the node is told to run:
//
//	name      of the function
//	revision  the one in force
//	good      the last one that was marked good, or ""
//	bad       the one that the node has given up for it by itself, or ""
//	why       bad was given up
//	enabled   0 or 1
//	origin    who tells the node to run it, as in edge.Definition
//
// A row of table revisions is a functions.Function as JSON, with the SHA-256 of
// that. Kept are the revision in force and the good one of each function.
//
// A row of table meta is a single value:
//
//	synced    what the hub has told and where that leads, an edge.Synced as JSON
//	session   the present generation of the broker's session
//	versions  versions of state below this one may be in use
//	clock     what the clocks showed when something expiring was written last

const (
	metaSynced   = "synced"
	metaSession  = "session"
	metaVersions = "versions"
	metaClock    = "clock"
)

// A Function is a function that the node is told to run.
type Function struct {
	edge.Definition
	Good functions.Revision // the last one that was marked good, or ""
	Bad  functions.Revision // the one that the node has given up for this one by itself, or ""
	Why  string             // Bad was given up
}

// Definitions are a change of what the node is told to run.
type Definitions struct {
	Put    []Function     // new or changed; Good is as MarkGood has it
	Remove []edge.Removal // with what waits for them, see [Store.Define]
	Synced *edge.Synced   // where this leads, if the hub has told it; nil: as before
}

// Functions returns the functions that the node is told to run, by name. One
// whose revision in force cannot be read is replaced by its last good one, or
// left out, and said in the log.
func (s *Store) Functions() (list []Function, err error) {
	err = each(s.db, func(row row) error {
		var name, current, good, bad, why, origin string
		var enabled bool
		if err := row.Scan(&name, &current, &good, &bad, &why, &enabled, &origin); err != nil {
			return err
		}
		for _, revision := range []string{current, good} {
			f, err := s.function(name, revision)
			if err == nil {
				list = append(list, Function{
					Definition: edge.Definition{Function: f, Enabled: enabled, Origin: origin},
					Good:       functions.Revision(good), Bad: functions.Revision(bad), Why: why,
				})
				return nil
			}
			s.lg.Error("stored function cannot be read", "fn", name, "revision", revision, "err", err)
		}
		return nil
	}, `SELECT name, revision, good, bad, why, enabled, origin FROM functions ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("read functions: %w", err)
	}
	return list, nil
}

// Revision returns a revision of a function that is kept, or [ErrNotFound].
func (s *Store) Revision(name string, revision functions.Revision) (functions.Function, error) {
	f, err := s.function(name, string(revision))
	if err != nil {
		return f, fmt.Errorf("read revision %s of %s: %w", revision.Short(), name, err)
	}
	return f, nil
}

// function reads one revision, and makes sure that it is as it was written.
func (s *Store) function(name, revision string) (f functions.Function, err error) {
	err = ErrNotFound
	read := each(s.db, func(row row) error {
		var body, sum []byte
		if err := row.Scan(&body, &sum); err != nil {
			return err
		}
		if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
			return errors.New("it is not as it was written")
		}
		err = json.Unmarshal(body, &f)
		return nil
	}, `SELECT body, sum FROM revisions WHERE name = ? AND revision = ?`, name, revision)
	return f, cmp.Or(read, err)
}

// Synced returns where the node is with the hub: the zero value if it was never
// told, or if the store was damaged since.
func (s *Store) Synced() (at edge.Synced, err error) {
	err = each(s.db, func(row row) error {
		var value []byte
		if err := row.Scan(&value); err != nil {
			return err
		}
		return json.Unmarshal(value, &at)
	}, `SELECT value FROM meta WHERE name = ?`, metaSynced)
	if err != nil {
		return edge.Synced{}, fmt.Errorf("read position: %w", err)
	}
	return at, nil
}

// Define carries out a change of what the node is told to run, in one
// transaction. With a function that is removed go the deliveries and timers that
// wait for it, and if it is purged also its state and dead letters; what is in the
// outbox stays, since its handlers had succeeded. A missing function is no error.
func (s *Store) Define(d Definitions) error {
	return s.do(func(b *batch) error {
		for _, r := range d.Remove {
			if err := b.deleteFunction(r.Name, r.Purge); err != nil {
				return err
			}
		}
		for i := range d.Put {
			if err := b.putFunction(&d.Put[i]); err != nil {
				return err
			}
		}
		if d.Synced == nil {
			return nil
		}
		at, err := json.Marshal(d.Synced)
		if err != nil {
			return fmt.Errorf("encode position: %w", err)
		}
		return b.setMeta(metaSynced, string(at))
	})
}

// FallBack puts the good revision of a function back in force in place of bad, and
// notes that and why. If bad is not in force, or there is no other good one, the
// error is [ErrNotFound].
func (s *Store) FallBack(name string, bad functions.Revision, why string) error {
	return s.do(func(b *batch) error {
		res, err := b.Exec(`UPDATE functions SET revision = good, bad = ?2, why = ?3
			WHERE name = ?1 AND revision = ?2 AND good NOT IN ('', ?2)`, name, string(bad), why)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return cmp.Or(err, error(voidError{ErrNotFound}))
		}
		return b.forgetRevisions(name)
	})
}

// MarkGood notes that the function's revision in force works: it is what
// [Store.Functions] and [Store.FallBack] go back to, until another is marked. If revision is not
// the current one any more, nothing happens.
func (s *Store) MarkGood(name string, revision functions.Revision) error {
	return s.do(func(b *batch) error {
		if err := b.run(`UPDATE functions SET good = ?2 WHERE name = ?1 AND revision = ?2`, name, string(revision)); err != nil {
			return err
		}
		return b.forgetRevisions(name)
	})
}

func (b *batch) putFunction(d *Function) error {
	body, err := json.Marshal(d.Function)
	if err != nil {
		return fmt.Errorf("encode function: %w", err)
	}
	name, revision := d.Function.Name(), string(d.Function.Revision)
	err = b.run(`INSERT INTO functions (name, revision, good, bad, why, enabled, origin) VALUES (?, ?, '', ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET revision = excluded.revision, bad = excluded.bad, why = excluded.why,
			enabled = excluded.enabled, origin = excluded.origin`,
		name, revision, string(d.Bad), d.Why, d.Enabled, d.Origin)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	err = b.run(`INSERT INTO revisions (name, revision, body, sum) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET body = excluded.body, sum = excluded.sum WHERE body <> excluded.body`,
		name, revision, string(body), sum[:])
	if err != nil {
		return err
	}
	return b.forgetRevisions(name)
}

// forgetRevisions deletes those revisions of a function that are neither the
// current nor the good one.
func (b *batch) forgetRevisions(name string) error {
	return b.run(`DELETE FROM revisions WHERE name = ?1 AND NOT EXISTS
		(SELECT 1 FROM functions f WHERE f.name = ?1 AND revisions.revision IN (f.revision, f.good))`, name)
}

func (b *batch) deleteFunction(name string, purge bool) error {
	for _, query := range []string{
		`DELETE FROM inbox WHERE function = ?`,
		`DELETE FROM timers WHERE function = ?`,
		`DELETE FROM done WHERE function = ?`,
		`DELETE FROM dedupe WHERE function = ?`,
		`DELETE FROM gates WHERE function = ?`,
		`DELETE FROM revisions WHERE name = ?`,
		`DELETE FROM functions WHERE name = ?`,
	} {
		if err := b.run(query, name); err != nil {
			return err
		}
	}
	if !purge {
		return nil
	}
	if err := b.run(`DELETE FROM dead WHERE function = ?`, name); err != nil {
		return err
	}
	b.dead[name] = DeadCount{}
	return b.purge(name)
}

// setMeta writes a single value, unless it is there already.
func (b *batch) setMeta(name, value string) error {
	return b.run(`INSERT INTO meta (name, value) VALUES (?, ?)
		ON CONFLICT DO UPDATE SET value = excluded.value WHERE value <> excluded.value`, name, value)
}
