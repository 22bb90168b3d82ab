package store

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge/sqlite"
)

// A row of table inbox is a delivery that waits:
//
//	seq                      its position, given by the agent
//	function, lane           what it is for
//	attempt, due, reason     how far it has come
//	session, packet, digest  the packet that brought it; "" and 0 for none
//	key                      its dedupe key, or ""
//	size                     bytes that count for the quota
//	event, payload           the event: JSON without its payload, and the payload
//
// A row of table done says that a packet's delivery is done: it changed state, or
// its message was not acknowledged when something else of its lane was stored.
// (function, packet) → session, digest. Only the rows of the present session are
// kept. A row of table dedupe remembers a dedupe key until a time that is the
// store's own.

// Event returns the event of an inbox row.
func (s *Store) Event(seq int64) (devices.Event, error) {
	var e devices.Event
	found := false
	err := each(s.db, func(row row) (err error) {
		found = true
		e, err = scanEvent(row)
		return err
	}, `SELECT event, payload FROM inbox WHERE seq = ?`, seq)
	if err == nil && !found {
		err = ErrNotFound
	}
	if err != nil {
		return devices.Event{}, fmt.Errorf("read event %d of the inbox: %w", seq, err)
	}
	return e, nil
}

// WasDone reports whether the delivery to function that the packet id brought
// is known to be done. Only a packet that says it is repeated is worth asking
// for: packet ids come round again.
func (s *Store) WasDone(function string, id Identity) (done bool, err error) {
	err = each(s.db, func(row row) error {
		var session string
		var digest int64
		err := row.Scan(&session, &digest)
		done = session == id.Session && uint64(digest) == id.Digest
		return err
	}, `SELECT session, digest FROM done WHERE function = ? AND packet = ?`, function, id.PacketID)
	if err != nil {
		return false, fmt.Errorf("ask whether packet %d is done: %w", id.PacketID, err)
	}
	return done && id != Identity{}, nil
}

func (b *batch) store(d *Delivery) error {
	event, payload, err := encodeEvent(d.Event)
	if err != nil {
		return err
	}
	return b.run(`INSERT OR REPLACE INTO inbox
		(seq, function, lane, attempt, due, reason, session, packet, digest, key, size, event, payload)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		d.Seq, d.Function, d.Lane, d.Attempt, sqlite.Nanos(d.Due), d.Reason,
		d.Identity.Session, d.Identity.PacketID, int64(d.Identity.Digest), d.Key, d.Size, event, payload)
}

func (b *batch) drop(seq *int64) error {
	return b.run(`DELETE FROM inbox WHERE seq = ?`, *seq)
}

func (b *batch) remember(d *Done) error {
	if d.Identity != (Identity{}) {
		err := b.run(`INSERT INTO done (function, packet, session, digest) VALUES (?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET session = excluded.session, digest = excluded.digest`,
			d.Function, d.Identity.PacketID, d.Identity.Session, int64(d.Identity.Digest))
		if err != nil {
			return err
		}
	}
	if d.Key == "" {
		return nil
	}
	if err := b.sweep(); err != nil {
		return err
	}
	return b.run(`INSERT INTO dedupe (function, key, until) VALUES (?, ?, ?)
		ON CONFLICT DO UPDATE SET until = excluded.until`, d.Function, d.Key, b.now.Add(time.Until(d.Until)).UnixNano())
}

// encodeEvent returns the two columns in which an event is stored.
func encodeEvent(e devices.Event) (event string, payload []byte, err error) {
	payload = e.Payload
	if payload == nil {
		payload = []byte{}
	}
	e.Payload = nil
	text, err := json.Marshal(e)
	if err != nil {
		return "", nil, fmt.Errorf("encode event: %w", err)
	}
	return string(text), payload, nil
}

// decodeEvent undoes encodeEvent.
func decodeEvent(event string, payload []byte) (e devices.Event, err error) {
	if err := json.Unmarshal([]byte(event), &e); err != nil {
		return devices.Event{}, fmt.Errorf("decode event: %w", err)
	}
	e.Payload = payload
	return e, nil
}

// scanEvent reads the columns event and payload, after those that into takes.
func scanEvent(row row, into ...any) (devices.Event, error) {
	var event string
	var payload []byte
	if err := row.Scan(append(into, &event, &payload)...); err != nil {
		return devices.Event{}, err
	}
	return decodeEvent(event, payload)
}
