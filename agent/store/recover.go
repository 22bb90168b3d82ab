package store

import (
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/edge/sqlite"
)

// A row of table outbox is a publish that the broker has not confirmed:
//
//	seq                           its position, given by the agent
//	function, lane, hops          where it comes from
//	topic, qos, retain, payload   what is published
//
// A row of table timers is an event that comes later, of which there is one for
// each function, kind and key:
//
//	lane                      of the delivery that it will be
//	due, boot, bootdue, remains  when, by each of its clocks; the last two in nanoseconds
//	event, payload            what the function will get, as in the inbox

// Recovered is what an earlier run of the agent has left to do.
type Recovered struct {
	Inbox    []Delivery // in order, without their events: see [Store.Event]
	Outbox   []Outgoing // in order
	Timers   []Timer
	Done     []Done // dedupe keys that are still to be remembered; without identity
	NextSeq  int64  // above that of every delivery that is known, dead ones included
	NextSent int64  // above that of every publish in the outbox
}

// Recover returns what is left to do. It is called at start, before changes are
// handed in. A row that cannot be understood is left out, and said in the log.
func (s *Store) Recover() (r Recovered, err error) {
	steps := []struct {
		what string
		read func(*Recovered) error
	}{
		{"inbox", s.recoverInbox},
		{"outbox", s.recoverOutbox},
		{"timers", s.recoverTimers},
		{"dedupe keys", s.recoverDedupe},
		{"positions", s.recoverPositions},
	}
	for _, step := range steps {
		if err := step.read(&r); err != nil {
			return Recovered{}, fmt.Errorf("recover %s: %w", step.what, err)
		}
	}
	return r, nil
}

func (s *Store) recoverInbox(r *Recovered) error {
	return each(s.db, func(row row) error {
		var d Delivery
		var due, digest int64
		err := row.Scan(&d.Seq, &d.Function, &d.Lane, &d.Attempt, &due, &d.Reason,
			&d.Identity.Session, &d.Identity.PacketID, &digest, &d.Key, &d.Size)
		d.Due, d.Identity.Digest = sqlite.Time(due), uint64(digest)
		r.Inbox = append(r.Inbox, d)
		return err
	}, `SELECT seq, function, lane, attempt, due, reason, session, packet, digest, key, size FROM inbox ORDER BY seq`)
}

func (s *Store) recoverOutbox(r *Recovered) error {
	return each(s.db, func(row row) error {
		var o Outgoing
		p := &o.Publication
		err := row.Scan(&o.Seq, &o.Function, &o.Lane, &o.Hops, &p.Topic, &p.QoS, &p.Retain, &p.Payload)
		r.Outbox = append(r.Outbox, o)
		return err
	}, `SELECT seq, function, lane, hops, topic, qos, retain, payload FROM outbox ORDER BY seq`)
}

func (s *Store) recoverTimers(r *Recovered) error {
	return each(s.db, func(row row) error {
		var t Timer
		var due int64
		var err error
		t.Event, err = scanEvent(row, &t.Function, &t.Kind, &t.Key, &t.Lane, &due, &t.Boot, &t.BootDue, &t.Left)
		if err != nil {
			s.lg.Error("stored timer cannot be read: left out", "fn", t.Function, "key", t.Key, "err", err)
			return nil
		}
		t.Due = sqlite.Time(due)
		r.Timers = append(r.Timers, t)
		return nil
	}, `SELECT function, kind, key, lane, due, boot, bootdue, remains, event, payload FROM timers ORDER BY due`)
}

func (s *Store) recoverDedupe(r *Recovered) error {
	now, ours := time.Now(), s.time.now()
	return each(s.db, func(row row) error {
		var d Done
		var until int64
		err := row.Scan(&d.Function, &d.Key, &until)
		d.Until = now.Add(sqlite.Time(until).Sub(ours))
		r.Done = append(r.Done, d)
		return err
	}, `SELECT function, key, until FROM dedupe WHERE until > ? ORDER BY until`, ours.UnixNano())
}

func (s *Store) recoverPositions(r *Recovered) error {
	return each(s.db, func(row row) error { return row.Scan(&r.NextSeq, &r.NextSent) },
		`SELECT 1 + max((SELECT coalesce(max(seq), 0) FROM inbox), (SELECT coalesce(max(seq), 0) FROM dead)),
			1 + (SELECT coalesce(max(seq), 0) FROM outbox)`)
}

func (b *batch) send(o *Outgoing) error {
	p := o.Publication
	payload := p.Payload
	if payload == nil {
		payload = []byte{}
	}
	return b.run(`INSERT OR REPLACE INTO outbox (seq, function, lane, hops, topic, qos, retain, payload)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, o.Seq, o.Function, o.Lane, o.Hops, p.Topic, p.QoS, p.Retain, payload)
}

func (b *batch) sent(seq *int64) error {
	return b.run(`DELETE FROM outbox WHERE seq = ?`, *seq)
}

func (b *batch) setTimer(t *Timer) error {
	event, payload, err := encodeEvent(t.Event)
	if err != nil {
		return err
	}
	return b.run(`INSERT OR REPLACE INTO timers (function, kind, key, lane, due, boot, bootdue, remains, event, payload)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, t.Function, string(t.Kind), t.Key, t.Lane,
		sqlite.Nanos(t.Due), t.Boot, int64(t.BootDue), int64(t.Left), event, payload)
}

func (b *batch) cancelTimer(t *TimerEnd) error {
	return b.run(`DELETE FROM timers WHERE function = ?1 AND kind = ?2 AND key = ?3
		AND CASE WHEN ?4 = '' OR NOT json_valid(event) THEN 1 ELSE event ->> 'id' = ?4 END`,
		t.Function, string(t.Kind), t.Key, t.Event)
}
