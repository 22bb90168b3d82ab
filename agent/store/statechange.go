package store

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sedge-iot/sedge/functions"
)

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
