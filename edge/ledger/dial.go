package ledger

import (
	"errors"
	"fmt"

	"github.com/sedge-iot/sedge/edge"
)

// Dialled notes that a node has dialled, and returns it with the standing that it
// has now. The counter of a node's dials only rises, so one that does not shows that
// another machine has dialled with its key: then the node is [edge.Fenced], and its
// Why names both. The counter of a node that is fenced is not kept.
//
// The error is [ErrNotFound] for a node that is not known or has departed,
// [ErrRevoked] for one that is shut out. Calls that come at about the same time are
// committed together: each waits for its commit.
func (l *Ledger) Dialled(p edge.Proof, address string) (n edge.Node, err error) {
	var refused error
	err = l.together(func(t *tx) error {
		n, refused, err = t.dialled(p, address)
		return err
	})
	if err = errors.Join(refused, err); err != nil {
		return edge.Node{}, fmt.Errorf("note dial %d of node %s: %w", p.Counter, edge.NodeID(p.Key), err)
	}
	return n, nil
}

func (t *tx) dialled(p edge.Proof, address string) (n edge.Node, refused, err error) {
	n, err = t.node(edge.NodeID(p.Key))
	switch {
	case errors.Is(err, ErrNotFound), err == nil && n.Standing == edge.Departed:
		return n, ErrNotFound, nil
	case err != nil:
		return n, nil, err
	case n.Standing == edge.Revoked:
		return n, ErrRevoked, nil
	case n.Standing == edge.Fenced:
		return n, nil, nil
	case p.Counter <= n.Counter:
		n.Standing = edge.Fenced
		n.Why = fmt.Sprintf("two machines have its key: one dialled for the %d. time from %s, and after that another for the %d. time from %s",
			n.Counter, n.Address, p.Counter, fit(address, maxName))
		if err := t.putNode(n); err != nil {
			return n, nil, err
		}
		return n, nil, t.audit(Who{"node/" + n.Name, address}, "node.cloned", "node/"+n.Name, n.Why)
	}
	n.Counter, n.Address, n.Version, n.Platform = p.Counter, fit(address, maxName), fit(p.Version, maxName), fit(p.Platform, maxName)
	_, err = t.Exec(`UPDATE nodes SET counter = $1, address = $2, version = $3, platform = $4 WHERE id = $5`,
		n.Counter, n.Address, n.Version, n.Platform, n.ID)
	return n, nil, err
}
