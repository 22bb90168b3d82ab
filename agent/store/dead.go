package store

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sedge-iot/sedge/edge/sqlite"
)

// A row of table dead is a dead letter:
//
//	id                            given by the store, never used twice
//	function, revision, lane, seq what it was a delivery of
//	attempts, time, failure       how it died; failure is JSON
//	size                          bytes of topic and payload, for the quota
//	event, payload                as in the inbox

// What is kept of each function's dead letters: the oldest make room for the
// newest.
const (
	MaxDeadLetters = 1000
	MaxDeadBytes   = 16 << 20 // of topics and payloads
)

// ErrNotFound says that there is no such row.
var ErrNotFound = errors.New("not found")

// A DeadCount is how many dead letters are kept of a function, and how many
// were discarded to make room since the store was opened.
type DeadCount struct {
	Letters   int
	Bytes     int64 // of topics and payloads
	Discarded int64
}

const deadColumns = `id, function, revision, lane, seq, attempts, time, failure, event, payload`

// DeadLetters returns the dead letters of a function, or of all if function is
// "", with an id above after, oldest first, at most limit. One that cannot be
// read is left out, and said in the log.
func (s *Store) DeadLetters(function string, after int64, limit int) (letters []DeadLetter, err error) {
	err = each(s.db, func(row row) error {
		d, err := scanDead(row)
		if err != nil {
			s.lg.Error("dead letter cannot be read: left out", "fn", d.Function, "id", d.ID, "err", err)
			return nil
		}
		letters = append(letters, d)
		return nil
	}, `SELECT `+deadColumns+` FROM dead WHERE (?1 = '' OR function = ?1) AND id > ?2 ORDER BY id LIMIT ?3`, function, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	return letters, nil
}

// DeadLetter returns one dead letter, or [ErrNotFound].
func (s *Store) DeadLetter(id int64) (d DeadLetter, err error) {
	found := false
	err = each(s.db, func(row row) (err error) {
		found = true
		d, err = scanDead(row)
		return err
	}, `SELECT `+deadColumns+` FROM dead WHERE id = ?`, id)
	if err == nil && !found {
		err = ErrNotFound
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter %d: %w", id, err)
	}
	return d, nil
}

// DeadCount counts the dead letters of a function.
func (s *Store) DeadCount(function string) DeadCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead[function]
}

func loadDeadCounts(db *sqlite.DB) (map[string]DeadCount, error) {
	counts := map[string]DeadCount{}
	err := each(db, func(row row) error {
		var name string
		var n DeadCount
		err := row.Scan(&name, &n.Letters, &n.Bytes)
		counts[name] = n
		return err
	}, `SELECT function, count(*), sum(size) FROM dead GROUP BY function`)
	return counts, err
}

func scanDead(row row) (d DeadLetter, err error) {
	var died int64
	var failure string
	d.Event, err = scanEvent(row, &d.ID, &d.Function, &d.Revision, &d.Lane, &d.Seq, &d.Attempts, &died, &failure)
	if err != nil {
		return d, err
	}
	d.Time = sqlite.Time(died)
	if err := json.Unmarshal([]byte(failure), &d.Failure); err != nil {
		return d, fmt.Errorf("decode failure: %w", err)
	}
	return d, nil
}

// bury keeps a dead letter, and discards the oldest of its function where there
// are too many.
func (b *batch) bury(d *DeadLetter) error {
	event, payload, err := encodeEvent(d.Event)
	size := len(d.Event.Topic) + len(payload)
	if err == nil && d.InInbox {
		_, err = b.Find(`SELECT event, payload, size FROM inbox WHERE seq = ?`, []any{d.Seq}, &event, &payload, &size)
	}
	if err != nil {
		return err
	}
	failure, err := json.Marshal(d.Failure)
	if err != nil {
		return fmt.Errorf("encode failure: %w", err)
	}
	err = b.run(`INSERT INTO dead (function, revision, lane, seq, attempts, time, failure, size, event, payload)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, d.Function, string(d.Revision), d.Lane, d.Seq, d.Attempts,
		sqlite.Nanos(d.Time), string(failure), size, event, payload)
	if err != nil {
		return err
	}
	n := b.deadCount(d.Function)
	n.Letters++
	n.Bytes += int64(size)
	b.dead[d.Function] = n
	for n.Letters > MaxDeadLetters || n.Bytes > MaxDeadBytes && n.Letters > 1 {
		if err := b.discardOldest(d.Function); err != nil {
			return err
		}
		n = b.dead[d.Function]
	}
	return nil
}

func (b *batch) discardOldest(function string) error {
	var id int64
	found, err := b.Find(`SELECT id FROM dead WHERE function = ? ORDER BY id LIMIT 1`, []any{function}, &id)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%s has fewer dead letters than were counted", function)
	}
	if err := b.unbury(&id); err != nil {
		return err
	}
	n := b.dead[function]
	n.Discarded++
	b.dead[function] = n
	return nil
}

// unbury removes a dead letter. One that is gone already is no error.
func (b *batch) unbury(id *int64) error {
	var function string
	var size int64
	found, err := b.Find(`DELETE FROM dead WHERE id = ? RETURNING function, size`, []any{*id}, &function, &size)
	if err != nil || !found {
		return err
	}
	n := b.deadCount(function)
	n.Letters--
	n.Bytes -= size
	b.dead[function] = n
	return nil
}

func (b *batch) deadCount(function string) DeadCount {
	if n, ok := b.dead[function]; ok {
		return n
	}
	return b.s.DeadCount(function)
}
