package broker

import (
	"cmp"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/edge/sqlite"
)

// put stores the parcel, unless it is done, and returns its row or 0.
func (p *parcel) put(tx *sqlite.Tx) (int64, error) {
	p.session.mu.Lock()
	done, id := p.done, p.id
	p.session.mu.Unlock()
	if done {
		return 0, nil
	}
	ids, err := json.Marshal(p.ids)
	if err != nil {
		return 0, err
	}
	res, err := tx.Exec(`INSERT INTO messages (user, client, seq, packet, retain, topic, payload, properties, identifiers, expires)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		p.session.who.user, p.session.who.client, int64(p.seq), id, p.retain, p.topic, blob(p.payload), blob(p.properties), string(ids), p.expires)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

// blob keeps SQLite from taking an empty value for none.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func putRetained(tx *sqlite.Tx, topic string, m *message) error {
	if m == nil {
		_, err := tx.Exec(`DELETE FROM retained WHERE topic = ?`, topic)
		return err
	}
	_, err := tx.Exec(`REPLACE INTO retained (topic, payload, properties, qos, expires) VALUES (?, ?, ?, ?, ?)`,
		topic, blob(m.payload), blob(m.properties), m.qos, m.expires)
	return err
}

// putSession stores a session as it now is.
func putSession(tx *sqlite.Tx, s *session, expiry time.Duration) error {
	_, err := tx.Exec(`INSERT INTO sessions (user, client, name, expiry) VALUES (?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET name = excluded.name, expiry = excluded.expiry`,
		s.who.user, s.who.client, s.name, int64(expiry/time.Second))
	if err != nil {
		return fmt.Errorf("store session: %w", err)
	}
	return nil
}

func putSubscription(tx *sqlite.Tx, sub *subscription) error {
	who := sub.session.who
	_, err := tx.Exec(`REPLACE INTO subscriptions (user, client, filter, qos, no_local, as_published, identifier)
		VALUES (?, ?, ?, ?, ?, ?, ?)`,
		who.user, who.client, sub.filter, sub.qos, sub.noLocal, sub.asPublished, sub.id)
	if err != nil {
		return fmt.Errorf("store subscription: %w", err)
	}
	return nil
}

func dropSubscription(tx *sqlite.Tx, who identity, filter string) error {
	_, err := tx.Exec(`DELETE FROM subscriptions WHERE user = ? AND client = ? AND filter = ?`, who.user, who.client, filter)
	if err != nil {
		return fmt.Errorf("remove subscription: %w", err)
	}
	return nil
}

// putPacketIDs notes under which ids stored messages have been sent, so that
// they are sent again under the same.
func (k *keeper) putPacketIDs(sessions []*session) error {
	return k.db.Update(func(tx *sqlite.Tx) error {
		for _, s := range sessions {
			for _, p := range s.waiting {
				if !p.dup || p.row == 0 {
					continue
				}
				if _, err := tx.Exec(`UPDATE messages SET packet = ? WHERE row = ? AND packet <> ?`, p.id, p.row, p.id); err != nil {
					return fmt.Errorf("store packet id: %w", err)
				}
			}
		}
		return nil
	})
}

// load reads what an earlier broker has kept.
func (b *Broker) load() error {
	steps := []struct {
		what string
		do   func(*sql.DB) error
	}{
		{"sessions", b.loadSessions},
		{"subscriptions", b.loadSubscriptions},
		{"messages", b.loadMessages},
		{"retained messages", b.loadRetained},
	}
	for _, step := range steps {
		if err := step.do(b.keeper.db.Read()); err != nil {
			return fmt.Errorf("load %s: %w", step.what, err)
		}
	}
	return nil
}

// each calls scan for every row of a query.
func each(db *sql.DB, query string, scan func(*sql.Rows) error) error {
	rows, err := db.Query(query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return cmp.Or(rows.Err(), rows.Close())
}

// loadSessions takes up the sessions of users who may still connect.
func (b *Broker) loadSessions(db *sql.DB) error {
	return each(db, `SELECT user, client, name, expiry FROM sessions`, func(rows *sql.Rows) error {
		var who identity
		var name string
		var seconds int64
		if err := rows.Scan(&who.user, &who.client, &name, &seconds); err != nil {
			return err
		}
		if !b.users.exists(who.user) {
			b.keeper.forget(who)
			return nil
		}
		s := newSession(b, who)
		s.name, s.kept, s.expiry = name, true, time.Duration(seconds)*time.Second
		b.sessions[who] = s
		return nil
	})
}

func (b *Broker) loadSubscriptions(db *sql.DB) error {
	query := `SELECT user, client, filter, qos, no_local, as_published, identifier FROM subscriptions`
	return each(db, query, func(rows *sql.Rows) error {
		var who identity
		var sub subscription
		if err := rows.Scan(&who.user, &who.client, &sub.filter, &sub.qos, &sub.noLocal, &sub.asPublished, &sub.id); err != nil {
			return err
		}
		if s := b.sessions[who]; s != nil && s.rules.allowFilter(sub.filter) {
			sub.session = s
			s.subscribe(&sub)
		}
		return nil
	})
}

// loadMessages queues what sessions have not acknowledged and may still read.
func (b *Broker) loadMessages(db *sql.DB) error {
	query := `SELECT row, user, client, seq, packet, retain, topic, payload, properties, identifiers, expires
		FROM messages ORDER BY user, client, seq`
	return each(db, query, func(rows *sql.Rows) error {
		var who identity
		var ids string
		p := &parcel{message: &message{qos: 1}, qos: 1}
		err := rows.Scan(&p.row, &who.user, &who.client, &p.seq, &p.id, &p.retain, &p.topic, &p.payload, &p.properties, &ids, &p.expires)
		if err != nil {
			return err
		}
		s := b.sessions[who]
		if s == nil || !s.rules.allow(p.topic, reading) {
			b.keeper.drop(p.row)
			return nil
		}
		if err := json.Unmarshal([]byte(ids), &p.ids); err != nil {
			return errors.Join(fmt.Errorf("row %d", p.row), err)
		}
		p.session, p.dup = s, p.id != 0
		s.lastSeq = p.seq
		s.bytes += p.size()
		s.waiting = append(s.waiting, p)
		return nil
	})
}

func (b *Broker) loadRetained(db *sql.DB) error {
	b.retain.mu.Lock()
	defer b.retain.mu.Unlock()
	return each(db, `SELECT topic, payload, properties, qos, expires FROM retained`, func(rows *sql.Rows) error {
		m := &message{retain: true}
		if err := rows.Scan(&m.topic, &m.payload, &m.properties, &m.qos, &m.expires); err != nil {
			return err
		}
		b.retain.setLocked(m)
		return nil
	})
}
