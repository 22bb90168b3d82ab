package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/sqlite"
	"github.com/sedge-iot/sedge/functions"
)

// A row of table state is one key of one function:
//
//	function, key  as the function knows it
//	version        of this value; no version is ever used twice in a store
//	expires        when the key is no more, by the store's time; 0: never
//	value          JSON
//
// A row past its time counts as missing at once and is deleted by a later write.

// What may be wrong with a state change, besides [ErrConflict] and [ErrQuota].
var (
	ErrKey    = fmt.Errorf("a state key is 1 to %d bytes of UTF-8 without NUL", functions.MaxStateKey)
	ErrValue  = fmt.Errorf("a state value is at most %d bytes of JSON", functions.MaxStateValue)
	ErrNumber = errors.New("only a number can be increased, by a number")
)

// Usage is how much state a function has.
type Usage struct {
	Keys  int
	Bytes int64 // of keys and values, those included that have expired and were not swept yet
}

type entryKey struct{ function, key string }

// An entry is what a key holds. The zero entry is a missing key.
type entry struct {
	value   []byte // JSON; shared, nobody writes to it
	version int64
	expires int64
}

// at returns the entry as it is at a time: missing if it has expired.
func (e entry) at(now time.Time) entry {
	if e.expires > 0 && e.expires <= now.UnixNano() {
		return entry{}
	}
	return e
}

// Get returns the value of a key, as JSON, and its version; nil and 0 for a
// missing key. Nobody may write to the value.
func (s *Store) Get(function, key string) (value []byte, version int64, err error) {
	e, err := s.entry(function, key)
	return e.value, e.version, err
}

// Version returns the version of a key, 0 for a missing one. What an attempt
// has read still holds while the versions of all its keys are the same.
func (s *Store) Version(function, key string) (int64, error) {
	e, err := s.entry(function, key)
	return e.version, err
}

func (s *Store) entry(function, key string) (entry, error) {
	k := entryKey{function, key}
	e, seen, ok := s.cache.get(k)
	if ok {
		return e.at(s.time.now()), nil
	}
	err := each(s.db, func(row row) error {
		return row.Scan(&e.version, &e.expires, &e.value)
	}, `SELECT version, expires, value FROM state WHERE function = ? AND key = ?`, function, key)
	if err != nil {
		return entry{}, fmt.Errorf("read state %s of %s: %w", key, function, err)
	}
	s.cache.fill(k, e, seen)
	return e.at(s.time.now()), nil
}

// List returns the keys of a function that begin with prefix and come after the
// key after, in order of their bytes, at most limit. When they expire is told by
// the wall clock as it is now.
func (s *Store) List(function, prefix string, limit int, after string) (list []edge.StateEntry, err error) {
	now, wall := s.time.now(), s.time.Wall()
	err = each(s.db, func(row row) error {
		var e edge.StateEntry
		var expires int64
		if err := row.Scan(&e.Key, &e.Version, &expires, &e.Value); err != nil {
			return err
		}
		if expires > 0 {
			e.Expires = wall.Add(sqlite.Time(expires).Sub(now)).Round(0)
		}
		list = append(list, e)
		return nil
	}, `SELECT key, version, expires, value FROM state
		WHERE function = ?1 AND key >= ?2 AND key > ?3 AND substr(key, 1, length(?2)) = ?2
		AND (expires = 0 OR expires > ?4) ORDER BY key LIMIT ?5`, function, prefix, after, now.UnixNano(), limit)
	if err != nil {
		return nil, fmt.Errorf("list state of %s: %w", function, err)
	}
	return list, nil
}

// Write commits a state change of its own and waits for it. The errors are
// those of [Store.Commit]; if ctx ends first, the change may still be committed.
func (s *Store) Write(ctx context.Context, c StateChange) error {
	done := make(chan error, 1)
	s.Commit(&Change{State: &c}, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Usage returns how much state a function has.
func (s *Store) Usage(function string) Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used[function]
}

// Purge deletes the state of a function.
func (s *Store) Purge(function string) error {
	return s.do(func(b *batch) error { return b.purge(function) })
}

// loadUsage counts the state of each function, and finds the highest version.
func loadUsage(db *sqlite.DB) (used map[string]Usage, highest int64, err error) {
	used = map[string]Usage{}
	err = each(db, func(row row) error {
		var name string
		var u Usage
		var version int64
		err := row.Scan(&name, &u.Keys, &u.Bytes, &version)
		used[name], highest = u, max(highest, version)
		return err
	}, `SELECT function, count(*), sum(octet_length(key) + octet_length(value)), max(version) FROM state GROUP BY function`)
	return used, highest, err
}
