package store

import "time"

const (
	sweepEvery = time.Minute
	sweepRows  = 500 // at most, at a time
)

// sweep deletes what has expired and marks our time, now and then, beside a
// write that happens anyway: nothing wakes the disk for it.
func (b *batch) sweep() error {
	if b.now.Before(b.sweepDue) {
		return nil
	}
	b.sweepDue = b.now.Add(sweepEvery)
	mark, err := b.s.time.mark(b.now)
	if err != nil {
		return err
	}
	if err := b.setMeta(metaClock, mark); err != nil {
		return err
	}
	if err := b.run(`DELETE FROM dedupe WHERE until <= ?`, b.now.UnixNano()); err != nil {
		return err
	}
	return b.sweepState(`SELECT function, key, octet_length(key) + octet_length(value) FROM state
		WHERE expires > 0 AND expires <= ? LIMIT ?`, b.now.UnixNano(), sweepRows)
}

// sweepFunction deletes the state of a function that has expired.
func (b *batch) sweepFunction(function string) error {
	return b.sweepState(`SELECT function, key, octet_length(key) + octet_length(value) FROM state
		WHERE expires > 0 AND expires <= ? AND function = ?`, b.now.UnixNano(), function)
}

func (b *batch) sweepState(query string, args ...any) error {
	rows, err := b.Query(query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	expired := map[entryKey]int64{} // → bytes
	for rows.Next() {
		var k entryKey
		var bytes int64
		if err := rows.Scan(&k.function, &k.key, &bytes); err != nil {
			return err
		}
		expired[k] = bytes
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for k, bytes := range expired {
		u := b.usage(k.function)
		b.used[k.function] = Usage{Keys: u.Keys - 1, Bytes: u.Bytes - bytes}
		b.entries[k] = entry{}
		if err := b.run(`DELETE FROM state WHERE function = ? AND key = ?`, k.function, k.key); err != nil {
			return err
		}
	}
	return nil
}
