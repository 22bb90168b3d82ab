package store

import (
	"crypto/rand"
	"fmt"
)

// Session returns the generation of the broker's session: it stays while the
// broker keeps the session, and is another one when the broker has forgotten it
// (kept is false) or none was ever known. With a new generation the deliveries
// that are known to be done are forgotten: their packet ids mean nothing now.
func (s *Store) Session(kept bool) (string, error) {
	var session string
	err := s.do(func(b *batch) error {
		if kept && b.session != "" {
			session = b.session
			return nil
		}
		session = rand.Text()[:12]
		b.session = session
		if err := b.run(`DELETE FROM done`); err != nil {
			return err
		}
		return b.setMeta(metaSession, session)
	})
	if err != nil {
		return "", fmt.Errorf("note the broker's session: %w", err)
	}
	return session, nil
}

// A row of table gates is what a function's triggers remember: function, and
// JSON that is the agent's to understand.

// SaveGate keeps what the triggers of a function remember. What is kept already
// is not written again.
func (s *Store) SaveGate(function string, memory []byte) error {
	return s.do(func(b *batch) error {
		return b.run(`INSERT INTO gates (function, memory) VALUES (?, ?)
			ON CONFLICT DO UPDATE SET memory = excluded.memory WHERE memory <> excluded.memory`, function, string(memory))
	})
}

// LoadGate returns what SaveGate has kept, or nil.
func (s *Store) LoadGate(function string) (memory []byte, err error) {
	err = each(s.db, func(row row) error { return row.Scan(&memory) },
		`SELECT memory FROM gates WHERE function = ?`, function)
	if err != nil {
		return nil, fmt.Errorf("read what the triggers of %s remember: %w", function, err)
	}
	return memory, nil
}
