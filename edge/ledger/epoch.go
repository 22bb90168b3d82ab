package ledger

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"strings"

	"github.com/sedge-iot/sedge/edge"
)

// Table epochs holds the epochs that operators have given up, with the position that
// the next one began with. The newest hundred are kept.
const keepEpochs = 100

// AcceptEpoch begins a new epoch and remembers that the one before was given up: nodes
// that have followed it further than this ledger knows, since it was restored from a
// backup, may then follow this one. others are epochs of other ledgers, that nodes have
// followed before they came here, and that are given up too.
func (l *Ledger) AcceptEpoch(who Who, others ...string) (at edge.Position, err error) {
	err = l.update(func(t *tx) error {
		for _, epoch := range append([]string{t.at.Epoch}, others...) {
			_, err := t.Exec(`INSERT INTO epochs (epoch, position) VALUES ($1, $2) ON CONFLICT DO NOTHING`, epoch, t.bump())
			if err != nil {
				return err
			}
		}
		_, err := t.Exec(`DELETE FROM epochs WHERE position <= (SELECT position FROM epochs ORDER BY position DESC LIMIT 1 OFFSET $1)`, keepEpochs)
		if err != nil {
			return err
		}
		given := t.at.Epoch
		t.at.Epoch = rand.Text()
		at = t.at
		return t.audit(who, "epoch.accept", "epoch/"+at.Epoch, "instead of "+strings.Join(append([]string{given}, others...), ", "))
	})
	if err != nil {
		return edge.Position{}, fmt.Errorf("begin a new epoch: %w", err)
	}
	return at, nil
}

func viewEpochs(ctx context.Context, tx *sql.Tx) (list []string, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT epoch FROM epochs ORDER BY position DESC`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var epoch string
		if err := rows.Scan(&epoch); err != nil {
			return nil, err
		}
		list = append(list, epoch)
	}
	return list, rows.Err()
}
