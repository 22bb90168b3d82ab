package ledger

import (
	"fmt"
	"strconv"
)

// Table replicas holds the replicas of a hub that run: number is the order in which they
// came, beat rises with each [Ledger.Exchange]. Table sightings holds, by node, which
// replica has its session, "" for none, the counter of the dial that began that, and what the replica last
// told of the node; changed rises with each line that is written, and table meta has the
// last as sightings. Both are empty where a hub is alone.

// A Replica is one of the hubs that share a ledger.
type Replica struct {
	ID     string
	Number int64 // the one that came first has the lowest
	URL    string
	Beat   int64 // rises as long as it lives
}

// A Sighting is what a replica tells of a node.
type Sighting struct {
	Node    string // id
	Replica string // id of the one that has its session; "" for none
	Counter int64  // of the dial that began the session
	Begun   bool   // it has begun since it was last told of
	Body    []byte // JSON, the fleet's
}

// News is what a replica tells the others, and asks.
type News struct {
	Of    Replica // who tells; its Number and Beat are the ledger's to say
	Seen  []Sighting
	Dead  []Replica // that have not beaten for long; those that have by now are let live
	Since int64     // what it has read of the others; 0 for nothing
}

// Heard is what the others have told.
type Heard struct {
	Replicas []Replica // in the order in which they came
	New      bool      // who asks was not among them before: it has to tell again of all its nodes
	Seen     []Sighting
	At       int64 // Since, the next time
}

// Exchange tells the other replicas and hears what they have told. A session of a node that has
// begun takes the place of an earlier one at another replica; what is told of
// one that has lost its place is passed over. The nodes of the dead are without a session.
func (l *Ledger) Exchange(n News) (h Heard, err error) {
	err = l.update(func(t *tx) error {
		h = Heard{}
		if h.At, err = t.sightings(); err != nil {
			return err
		}
		was := h.At
		if h.New, err = t.arrive(n.Of); err != nil {
			return err
		}
		if err := t.bury(n.Dead, &h.At); err != nil {
			return err
		}
		for _, s := range n.Seen {
			if err := t.sight(s, n.Of.ID, &h.At); err != nil {
				return err
			}
		}
		if h.At != was {
			if err := t.keepSightings(h.At); err != nil {
				return err
			}
		}
		if h.Replicas, err = t.replicas(); err != nil {
			return err
		}
		h.Seen, err = t.sightingsSince(n.Since, n.Of.ID)
		return err
	})
	if err != nil {
		return Heard{}, fmt.Errorf("exchange with other replicas: %w", err)
	}
	return h, nil
}

// LeaveReplicas says that a replica ends. Its nodes are without a session.
func (l *Ledger) LeaveReplicas(id string) error {
	err := l.update(func(t *tx) error {
		at, err := t.sightings()
		if err != nil {
			return err
		}
		if err := t.forsake(id, &at); err != nil {
			return err
		}
		return t.keepSightings(at)
	})
	if err != nil {
		return fmt.Errorf("leave other replicas: %w", err)
	}
	return nil
}

func (t *tx) sightings() (at int64, err error) {
	var text string
	found, err := t.Find(`SELECT value FROM meta WHERE name = 'sightings'`, nil, &text)
	if err != nil || !found {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

func (t *tx) keepSightings(at int64) error {
	_, err := t.Exec(`INSERT INTO meta (name, value) VALUES ('sightings', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
		strconv.FormatInt(at, 10))
	return err
}

// arrive has a replica beat, and reports whether it was not there.
func (t *tx) arrive(r Replica) (fresh bool, err error) {
	var beat int64
	found, err := t.Find(`SELECT beat FROM replicas WHERE id = $1`, []any{r.ID}, &beat)
	switch {
	case err != nil:
		return false, err
	case found:
		_, err = t.Exec(`UPDATE replicas SET beat = $1, url = $2 WHERE id = $3`, beat+1, r.URL, r.ID)
		return false, err
	}
	_, err = t.Exec(`INSERT INTO replicas (id, number, url, beat) SELECT $1, coalesce(max(number), 0) + 1, $2, 1 FROM replicas`, r.ID, r.URL)
	return true, err
}

// bury takes out the dead that have not beaten since.
func (t *tx) bury(dead []Replica, at *int64) error {
	for _, d := range dead {
		var beat int64
		found, err := t.Find(`SELECT beat FROM replicas WHERE id = $1`, []any{d.ID}, &beat)
		if err != nil {
			return err
		}
		if !found || beat != d.Beat {
			continue
		}
		if err := t.forsake(d.ID, at); err != nil {
			return err
		}
	}
	return nil
}

// forsake takes out a replica.
func (t *tx) forsake(id string, at *int64) error {
	*at++
	if _, err := t.Exec(`UPDATE sightings SET replica = '', changed = $1 WHERE replica = $2`, *at, id); err != nil {
		return err
	}
	_, err := t.Exec(`DELETE FROM replicas WHERE id = $1`, id)
	return err
}

// sight keeps what a replica tells of a node, if the node is still its own.
func (t *tx) sight(s Sighting, by string, at *int64) error {
	*at++
	if s.Begun {
		_, err := t.Exec(`INSERT INTO sightings (node, replica, counter, body, changed) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (node) DO UPDATE SET replica = excluded.replica, counter = excluded.counter, body = excluded.body, changed = excluded.changed
			WHERE sightings.replica = '' OR sightings.replica = $6 OR sightings.counter <= excluded.counter`,
			s.Node, s.Replica, s.Counter, string(s.Body), *at, by)
		return err
	}
	_, err := t.Exec(`UPDATE sightings SET replica = $1, body = $2, changed = $3 WHERE node = $4 AND replica = $5 AND counter = $6`,
		s.Replica, string(s.Body), *at, s.Node, by, s.Counter)
	return err
}

func (t *tx) replicas() (list []Replica, err error) {
	rows, err := t.Query(`SELECT id, number, url, beat FROM replicas ORDER BY number`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r Replica
		if err := rows.Scan(&r.ID, &r.Number, &r.URL, &r.Beat); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

func (t *tx) sightingsSince(since int64, but string) (list []Sighting, err error) {
	rows, err := t.Query(`SELECT node, replica, counter, body FROM sightings WHERE changed > $1 AND replica <> $2`, since, but)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s Sighting
		if err := rows.Scan(&s.Node, &s.Replica, &s.Counter, &s.Body); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, rows.Err()
}
