package store

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A row of table functions is a function that the node is told to run:
//
//	name      of the function
//	revision  the current one
//	good      the last one that was marked good, or ""
//	enabled   0 or 1
//	origin    who tells the node to run it, as in edge.Definition
//
// A row of table revisions is a functions.Function as JSON, with the SHA-256 of
// that. Kept are the current and the good revision of each function.
//
// A row of table meta is a single value:
//
//	epoch, revision  the hub's position that the definitions belong to
//	session          the present generation of the broker's session
//	versions         versions of state below this one may be in use
//	clock            what the clocks showed when something expiring was written last

const (
	metaEpoch    = "epoch"
	metaRevision = "revision"
	metaSession  = "session"
	metaVersions = "versions"
	metaClock    = "clock"
)

// Functions returns the functions that the node is told to run, by name. One
// whose current revision cannot be read is replaced by its last good one, or
// left out, and said in the log.
func (s *Store) Functions() (list []edge.Definition, err error) {
	err = each(s.db, func(row row) error {
		var name, current, good, origin string
		var enabled bool
		if err := row.Scan(&name, &current, &good, &enabled, &origin); err != nil {
			return err
		}
		for _, revision := range []string{current, good} {
			f, err := s.function(name, revision)
			if err == nil {
				list = append(list, edge.Definition{Function: f, Enabled: enabled, Origin: origin})
				return nil
			}
			s.lg.Error("stored function cannot be read", "fn", name, "revision", revision, "err", err)
		}
		return nil
	}, `SELECT name, revision, good, enabled, origin FROM functions ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("read functions: %w", err)
	}
	return list, nil
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

// Position returns the hub's position that the definitions belong to.
func (s *Store) Position() (p edge.Position, err error) {
	err = each(s.db, func(row row) error {
		var name, value string
		if err := row.Scan(&name, &value); err != nil {
			return err
		}
		if name == metaEpoch {
			p.Epoch = value
			return nil
		}
		p.Revision, err = strconv.ParseInt(value, 10, 64)
		return err
	}, `SELECT name, value FROM meta WHERE name IN (?, ?)`, metaEpoch, metaRevision)
	if err != nil {
		return edge.Position{}, fmt.Errorf("read position: %w", err)
	}
	return p, nil
}

// SetFunctions makes list the functions that the node is told to run, as of the
// hub's position at, in one transaction. Functions that are not in it are
// deleted as by [Store.DeleteFunction] without purge.
func (s *Store) SetFunctions(list []edge.Definition, at edge.Position) error {
	return s.do(func(b *batch) error {
		gone, err := b.keys(`SELECT name FROM functions`)
		if err != nil {
			return err
		}
		stays := map[string]bool{}
		for i := range list {
			stays[list[i].Function.Name()] = true
			if err := b.putFunction(&list[i]); err != nil {
				return err
			}
		}
		for _, name := range gone {
			if stays[name] {
				continue
			}
			if _, err := b.deleteFunction(name, false); err != nil {
				return err
			}
		}
		return b.setPosition(at)
	})
}

// PutFunction adds or replaces one function, as of the hub's position at.
func (s *Store) PutFunction(d edge.Definition, at edge.Position) error {
	return s.do(func(b *batch) error {
		if err := b.putFunction(&d); err != nil {
			return err
		}
		return b.setPosition(at)
	})
}

// DeleteFunction deletes a function, as of the hub's position at, with the
// deliveries and timers that wait for it; with purge also its state and dead
// letters. What is in the outbox stays, since its handlers had succeeded. It
// returns how many deliveries were discarded. A missing function is no error.
func (s *Store) DeleteFunction(name string, purge bool, at edge.Position) (discarded int, err error) {
	err = s.do(func(b *batch) (err error) {
		if discarded, err = b.deleteFunction(name, purge); err != nil {
			return err
		}
		return b.setPosition(at)
	})
	return discarded, err
}

// MarkGood notes that the function's current revision works: it is what
// [Store.Functions] falls back to, until another is marked. If revision is not
// the current one any more, nothing happens.
func (s *Store) MarkGood(name string, revision functions.Revision) error {
	return s.do(func(b *batch) error {
		if err := b.run(`UPDATE functions SET good = ?2 WHERE name = ?1 AND revision = ?2`, name, string(revision)); err != nil {
			return err
		}
		return b.forgetRevisions(name)
	})
}

func (b *batch) putFunction(d *edge.Definition) error {
	body, err := json.Marshal(d.Function)
	if err != nil {
		return fmt.Errorf("encode function: %w", err)
	}
	name, revision := d.Function.Name(), string(d.Function.Revision)
	err = b.run(`INSERT INTO functions (name, revision, good, enabled, origin) VALUES (?, ?, '', ?, ?)
		ON CONFLICT DO UPDATE SET revision = excluded.revision, enabled = excluded.enabled, origin = excluded.origin`,
		name, revision, d.Enabled, d.Origin)
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

func (b *batch) deleteFunction(name string, purge bool) (discarded int, err error) {
	res, err := b.Exec(`DELETE FROM inbox WHERE function = ?`, name)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, err
	}
	for _, query := range []string{
		`DELETE FROM timers WHERE function = ?`,
		`DELETE FROM done WHERE function = ?`,
		`DELETE FROM dedupe WHERE function = ?`,
		`DELETE FROM gates WHERE function = ?`,
		`DELETE FROM revisions WHERE name = ?`,
		`DELETE FROM functions WHERE name = ?`,
	} {
		if err := b.run(query, name); err != nil {
			return 0, err
		}
	}
	if !purge {
		return int(n), nil
	}
	if err := b.run(`DELETE FROM dead WHERE function = ?`, name); err != nil {
		return 0, err
	}
	b.dead[name] = DeadCount{}
	return int(n), b.purge(name)
}

func (b *batch) setPosition(p edge.Position) error {
	if err := b.setMeta(metaEpoch, p.Epoch); err != nil {
		return err
	}
	return b.setMeta(metaRevision, strconv.FormatInt(p.Revision, 10))
}

// setMeta writes a single value, unless it is there already.
func (b *batch) setMeta(name, value string) error {
	return b.run(`INSERT INTO meta (name, value) VALUES (?, ?)
		ON CONFLICT DO UPDATE SET value = excluded.value WHERE value <> excluded.value`, name, value)
}
