package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/sqlite"
)

// Table nodes holds edge.Node by id; epoch, revision and digest are its At. changed is
// the position that the last change led to of anything but what the node itself tells
// by dialling and being there. The name is its own among nodes that are neither
// revoked nor departed. Rows are never deleted: a departed node is one whose key is
// known, and a revoked one stays so.
const (
	maxLabels = 64
	maxLabel  = 512 // bytes of a label's key, or of its value
)

const nodeColumns = `id, name, key, labels, standing, why, cordoned, joined, token, counter, address, seen, version, platform, epoch, revision, digest`

func scanNode(scan func(...any) error) (n edge.Node, err error) {
	var labels string
	var joined, seen int64
	err = scan(&n.ID, &n.Name, &n.Key, &labels, &n.Standing, &n.Why, &n.Cordoned, &joined, &n.Token, &n.Counter, &n.Address,
		&seen, &n.Version, &n.Platform, &n.At.Epoch, &n.At.Revision, &n.At.Digest)
	if err != nil {
		return edge.Node{}, err
	}
	n.Joined, n.Seen = sqlite.Time(joined), sqlite.Time(seen)
	n.Labels, err = parseLabels(labels)
	return n, err
}

// labelText returns labels as they are stored: as JSON, "" for none.
func labelText(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	text, err := json.Marshal(labels)
	if err != nil {
		panic(err) // texts always can be JSON
	}
	return string(text)
}

// fits returns [ErrInvalid] if a node cannot be kept with that name and those labels.
func fits(name string, labels map[string]string) error {
	ok := name != "" && fit(name, maxName) == name && len(labels) <= maxLabels
	for key, value := range labels {
		ok = ok && fit(key, maxLabel) == key && fit(value, maxLabel) == value
	}
	if !ok {
		return ErrInvalid
	}
	return nil
}

func parseLabels(text string) (labels map[string]string, err error) {
	if text == "" {
		return nil, nil
	}
	err = json.Unmarshal([]byte(text), &labels)
	return labels, err
}

// Node returns the node with that id, or of that name: of several the one that is
// of the fleet or waits, else the one that joined last. The error may be [ErrNotFound].
// Who is connected the ledger does not know.
func (l *Ledger) Node(ctx context.Context, idOrName string) (edge.Node, error) {
	list, err := l.nodes(ctx, `id = $1 OR name = $1 ORDER BY id = $1 DESC, standing IN ('revoked', 'departed'), joined DESC LIMIT 1`, idOrName)
	if err == nil && len(list) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return edge.Node{}, fmt.Errorf("read node %s: %w", idOrName, err)
	}
	return list[0], nil
}

// NodeOf returns the node that has the key, or [ErrNotFound].
func (l *Ledger) NodeOf(ctx context.Context, key []byte) (edge.Node, error) {
	return l.Node(ctx, edge.NodeID(key))
}

// A NodeQuery chooses nodes.
type NodeQuery struct {
	Standing edge.Standing // "" for all but the departed
	After    string        // only those that come after the node with this id; "" for the first
	Limit    int           // of how many are returned; 0 for 100, at most 1,000
}

// Nodes returns nodes, by name.
func (l *Ledger) Nodes(ctx context.Context, q NodeQuery) ([]edge.Node, error) {
	where, args := `standing <> $1`, []any{string(edge.Departed), page(q.Limit)}
	if q.Standing != "" {
		where, args[0] = `standing = $1`, string(q.Standing)
	}
	if q.After != "" {
		where, args = where+` AND (name, id) > (SELECT name, id FROM nodes WHERE id = $3)`, append(args, q.After)
	}
	list, err := l.nodes(ctx, where+` ORDER BY name, id LIMIT $2`, args...)
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	return list, nil
}

func (l *Ledger) nodes(ctx context.Context, where string, args ...any) (list []edge.Node, err error) {
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		list, err = viewNodes(ctx, tx, where, args...)
		return err
	})
	return list, err
}

func viewNodes(ctx context.Context, tx *sql.Tx, where string, args ...any) (list []edge.Node, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+nodeColumns+` FROM nodes WHERE `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		n, err := scanNode(rows.Scan)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, rows.Err()
}

// SetLabels gives a node other labels. confirmed says that the operator knows how
// many functions that takes from it.
func (l *Ledger) SetLabels(id string, labels map[string]string, confirmed bool, who Who) (edge.Node, error) {
	return l.changeNode("label", id, who, func(t *tx, n *edge.Node) (*deed, error) {
		if maps.Equal(n.Labels, labels) {
			return nil, nil
		}
		n.Labels = maps.Clone(labels)
		if err := fits(n.Name, n.Labels); err != nil {
			return nil, err
		}
		return &deed{"node.label", labelText(labels)}, t.removal(edge.Removal{}, n.ID, confirmed)
	})
}

// Rename gives a node another name, or fails with [ErrConflict] if another has it.
func (l *Ledger) Rename(id, name string, who Who) (edge.Node, error) {
	return l.changeNode("rename", id, who, func(t *tx, n *edge.Node) (*deed, error) {
		if n.Name == name {
			return nil, nil
		}
		was := n.Name
		n.Name = name
		if err := fits(n.Name, n.Labels); err != nil {
			return nil, err
		}
		return &deed{"node.rename", "from " + was}, t.nameFree(name)
	})
}

// Approve makes a node that waits, or that was fenced, a member of the fleet. Of one
// that was fenced the next dial is believed, whatever its counter.
func (l *Ledger) Approve(id string, who Who) (edge.Node, error) {
	return l.changeNode("approve", id, who, func(_ *tx, n *edge.Node) (*deed, error) {
		if n.Standing == edge.Member {
			return nil, nil
		}
		d := &deed{"node.approve", "it was " + string(n.Standing)}
		if n.Standing == edge.Fenced {
			n.Counter = 0
		}
		n.Standing, n.Why = edge.Member, ""
		return d, nil
	})
}

// Cordon makes that a node keeps what it runs and gets nothing new, or lets it again.
func (l *Ledger) Cordon(id string, on bool, who Who) (edge.Node, error) {
	return l.changeNode("cordon", id, who, func(_ *tx, n *edge.Node) (*deed, error) {
		if n.Cordoned == on {
			return nil, nil
		}
		n.Cordoned = on
		if on {
			return &deed{"node.cordon", ""}, nil
		}
		return &deed{"node.uncordon", ""}, nil
	})
}

// Fence keeps everything new from a node until somebody approves it.
func (l *Ledger) Fence(id, why string, who Who) (edge.Node, error) {
	return l.changeNode("fence", id, who, func(_ *tx, n *edge.Node) (*deed, error) {
		if n.Standing == edge.Fenced && n.Why == why {
			return nil, nil
		}
		n.Standing, n.Why = edge.Fenced, why
		return &deed{"node.fence", why}, nil
	})
}

// Revoke shuts a node out for ever. Its name is free for another.
func (l *Ledger) Revoke(id, why string, who Who) (edge.Node, error) {
	return l.changeNode("revoke", id, who, func(_ *tx, n *edge.Node) (*deed, error) {
		n.Standing, n.Why = edge.Revoked, why
		return &deed{"node.revoke", why}, nil
	})
}

// RemoveNode takes a node out of the fleet. Its name is free for another, and it may
// join again with a join token.
func (l *Ledger) RemoveNode(id string, who Who) (edge.Node, error) {
	return l.changeNode("remove", id, who, func(_ *tx, n *edge.Node) (*deed, error) {
		n.Standing, n.Why, n.Cordoned = edge.Departed, "", false
		return &deed{"node.remove", ""}, nil
	})
}

// A deed is what the audit log is told of a change.
type deed struct{ action, detail string }

// changeNode changes a node as fn has it, which returns nil for no change. It raises
// the position. Of a node that has departed the error is [ErrNotFound], of one that
// is revoked [ErrRevoked].
func (l *Ledger) changeNode(verb, id string, who Who, fn func(*tx, *edge.Node) (*deed, error)) (n edge.Node, err error) {
	err = l.update(func(t *tx) error {
		n, err = t.node(id)
		switch {
		case err != nil:
			return err
		case n.Standing == edge.Departed:
			return ErrNotFound
		case n.Standing == edge.Revoked:
			return ErrRevoked
		}
		d, err := fn(t, &n)
		if err != nil || d == nil {
			return err
		}
		if err := t.putNode(n); err != nil {
			return err
		}
		return t.audit(who, d.action, "node/"+n.Name, d.detail)
	})
	if err != nil {
		return edge.Node{}, fmt.Errorf("%s node %s: %w", verb, id, err)
	}
	return n, nil
}

// node returns the node with that id, or [ErrNotFound].
func (t *tx) node(id string) (n edge.Node, err error) {
	n, err = scanNode(func(into ...any) error {
		found, err := t.Find(`SELECT `+nodeColumns+` FROM nodes WHERE id = $1`, []any{id}, into...)
		if err == nil && !found {
			err = ErrNotFound
		}
		return err
	})
	return n, err
}

// nameFree returns an [ErrConflict] if a node has the name.
func (t *tx) nameFree(name string) error {
	var id string
	found, err := t.Find(`SELECT id FROM nodes WHERE name = $1 AND standing NOT IN ('revoked', 'departed')`, []any{name}, &id)
	if err == nil && found {
		err = fmt.Errorf("%w: %s is the name of node %s", ErrConflict, name, id)
	}
	return err
}

// putNode writes a node, new or changed, and raises the position.
func (t *tx) putNode(n edge.Node) error {
	_, err := t.Exec(`INSERT INTO nodes (`+nodeColumns+`, changed)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, labels = excluded.labels, standing = excluded.standing, why = excluded.why,
			cordoned = excluded.cordoned, joined = excluded.joined, token = excluded.token, counter = excluded.counter,
			address = excluded.address, version = excluded.version, platform = excluded.platform, changed = excluded.changed`,
		n.ID, n.Name, n.Key, labelText(n.Labels), string(n.Standing), n.Why, n.Cordoned, sqlite.Nanos(n.Joined), n.Token, n.Counter,
		n.Address, sqlite.Nanos(n.Seen), n.Version, n.Platform, n.At.Epoch, n.At.Revision, n.At.Digest, t.bump())
	return err
}

// A Seen says when a node was last connected, and where it was.
type Seen struct {
	ID   string
	Time time.Time
	At   edge.Position
}

// SaveSeen writes where nodes are, of up to a thousand in one transaction. Nobody is
// told of it.
func (l *Ledger) SaveSeen(list []Seen) error {
	for some := range slices.Chunk(list, maxTogether) {
		err := l.update(func(t *tx) error {
			for _, s := range some {
				_, err := t.Exec(`UPDATE nodes SET seen = $1, epoch = $2, revision = $3, digest = $4 WHERE id = $5`,
					sqlite.Nanos(s.Time), s.At.Epoch, s.At.Revision, s.At.Digest, s.ID)
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("save where %d nodes are: %w", len(list), err)
		}
	}
	return nil
}
