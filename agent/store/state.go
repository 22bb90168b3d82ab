package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/sqlite"
	"github.com/sedge-iot/sedge/functions"
)

// A row of table state is one key of one function:
//
//	function, key  as the function knows it
//	version        of this value; no version is ever used twice in a store
//	expires        when the key is no more, 0: never
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
		return e.at(time.Now()), nil
	}
	err := each(s.db, func(row row) error {
		return row.Scan(&e.version, &e.expires, &e.value)
	}, `SELECT version, expires, value FROM state WHERE function = ? AND key = ?`, function, key)
	if err != nil {
		return entry{}, fmt.Errorf("read state %s of %s: %w", key, function, err)
	}
	s.cache.fill(k, e, seen)
	return e.at(time.Now()), nil
}

// List returns the keys of a function that begin with prefix and come after the
// key after, in order of their bytes, at most limit.
func (s *Store) List(function, prefix string, limit int, after string) (list []edge.StateEntry, err error) {
	now := time.Now()
	err = each(s.db, func(row row) error {
		var e edge.StateEntry
		var expires int64
		if err := row.Scan(&e.Key, &e.Version, &expires, &e.Value); err != nil {
			return err
		}
		e.Expires = sqlite.Time(expires)
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

// purge deletes the state of a function.
func (b *batch) purge(function string) error {
	keys, err := b.keys(`SELECT key FROM state WHERE function = ?`, function)
	if err != nil {
		return err
	}
	for _, key := range keys {
		b.entries[entryKey{function, key}] = entry{}
	}
	b.used[function] = Usage{}
	return b.run(`DELETE FROM state WHERE function = ?`, function)
}

// applyState writes a state change after everything that could void it was
// looked at.
func (b *batch) applyState(c *StateChange) error {
	if err := b.sweep(); err != nil {
		return err
	}
	for key, version := range c.Reads {
		e, err := b.entry(entryKey{c.Function, key})
		if err != nil {
			return err
		}
		if e.version != version {
			return voidError{ErrConflict}
		}
	}
	next := map[string]entry{}
	for i := range c.Writes {
		if err := b.plan(next, c.Function, &c.Writes[i]); err != nil {
			return err
		}
	}
	if err := b.account(c, next); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(next)) {
		if err := b.put(entryKey{c.Function, key}, next[key]); err != nil {
			return err
		}
	}
	return nil
}

// entry returns what a key holds within the batch.
func (b *batch) entry(k entryKey) (entry, error) {
	e, err := b.stored(k)
	return e.at(b.now), err
}

// stored is entry for one that may have expired.
func (b *batch) stored(k entryKey) (e entry, err error) {
	if e, ok := b.entries[k]; ok {
		return e, nil
	}
	if e, _, ok := b.s.cache.get(k); ok {
		return e, nil
	}
	_, err = b.Find(`SELECT version, expires, value FROM state WHERE function = ? AND key = ?`,
		[]any{k.function, k.key}, &e.version, &e.expires, &e.value)
	return e, err
}

// plan works out what a write makes of its key, seen after those before it.
func (b *batch) plan(next map[string]entry, function string, w *functions.StateWrite) error {
	if n := len(w.Key); n == 0 || n > functions.MaxStateKey || !utf8.ValidString(w.Key) || strings.ContainsRune(w.Key, 0) {
		return voidError{ErrKey}
	}
	before, ok := next[w.Key]
	if !ok {
		var err error
		if before, err = b.entry(entryKey{function, w.Key}); err != nil {
			return err
		}
	}
	after := entry{}
	if w.TTL > 0 {
		after.expires = b.now.Add(w.TTL).UnixNano()
	}
	switch w.Op {
	case functions.StateDelete:
		next[w.Key] = entry{}
		return nil
	case functions.StateIncr:
		value, err := increase(before.value, w.By)
		if err != nil {
			return voidError{err}
		}
		after.value = value
		if w.TTL <= 0 {
			after.expires = before.expires // counting does not end a key's time, nor begin one
		}
	case functions.StateSet:
		after.value = w.Value
	}
	if len(after.value) > functions.MaxStateValue || !json.Valid(after.value) {
		return voidError{ErrValue}
	}
	version, err := b.nextVersion()
	if err != nil {
		return err
	}
	after.version = version
	next[w.Key] = after
	return nil
}

// increase adds to the number that value is, or to 0 where there is none.
func increase(value []byte, by float64) ([]byte, error) {
	sum := by
	if value != nil {
		var n float64
		if err := json.Unmarshal(value, &n); err != nil || string(value) == "null" {
			return nil, ErrNumber
		}
		sum += n
	}
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		return nil, ErrNumber
	}
	return json.Marshal(sum)
}

// account makes sure that the change keeps to the quota, and books it. Where it
// would not, what has expired is swept first.
func (b *batch) account(c *StateChange, next map[string]entry) error {
	for swept := false; ; swept = true {
		before := b.usage(c.Function)
		after := before
		for key, e := range next {
			old, err := b.stored(entryKey{c.Function, key})
			if err != nil {
				return err
			}
			after.add(key, old, -1)
			after.add(key, e, +1)
		}
		if c.Quota <= 0 || after.Bytes <= c.Quota || after.Bytes <= before.Bytes {
			b.used[c.Function] = after
			return nil
		}
		if swept {
			return voidError{ErrQuota}
		}
		if err := b.sweepFunction(c.Function); err != nil {
			return err
		}
	}
}

func (u *Usage) add(key string, e entry, sign int) {
	if e.version == 0 {
		return
	}
	u.Keys += sign
	u.Bytes += int64(sign * (len(key) + len(e.value)))
}

func (b *batch) usage(function string) Usage {
	if u, ok := b.used[function]; ok {
		return u
	}
	return b.s.Usage(function)
}

// put writes what a key holds from now on.
func (b *batch) put(k entryKey, e entry) error {
	if e.version == 0 {
		b.entries[k] = entry{}
		return b.run(`DELETE FROM state WHERE function = ? AND key = ?`, k.function, k.key)
	}
	b.entries[k] = e
	return b.run(`INSERT INTO state (function, key, version, expires, value) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET version = excluded.version, expires = excluded.expires, value = excluded.value`,
		k.function, k.key, e.version, e.expires, string(e.value))
}

// keys returns the first column of a query.
func (b *batch) keys(query string, args ...any) (keys []string, err error) {
	rows, err := b.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

// versions counts the versions of state. The file knows only limit, which is
// raised by many at a time, so that counting costs no write of its own and no
// version comes twice, whatever is lost in a crash.
type versions struct{ last, limit int64 }

const versionsAtATime = 1 << 20

// loadVersions goes on above what is stored, and above highest, the highest
// version of a row: in a salvaged store they may differ.
func loadVersions(stored string, highest int64) (versions, error) {
	var n int64
	if stored != "" {
		var err error
		if n, err = strconv.ParseInt(stored, 10, 64); err != nil {
			return versions{}, fmt.Errorf("read the count of versions: %w", err)
		}
	}
	n = max(n, highest)
	return versions{last: n, limit: n}, nil
}

func (b *batch) nextVersion() (int64, error) {
	v := &b.versions
	if v.last == v.limit {
		v.limit += versionsAtATime
		if err := b.setMeta(metaVersions, strconv.FormatInt(v.limit, 10)); err != nil {
			return 0, err
		}
	}
	v.last++
	return v.last, nil
}
