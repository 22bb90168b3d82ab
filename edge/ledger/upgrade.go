package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/sedge-iot/sedge/edge"
)

// Table releases holds edge.Release as JSON, table upgrades edge.UpgradeRollout by its
// id; one at most is not over, and the newest 50 are kept.
const keepUpgrades = 50

// PutRelease keeps a release. The error is [ErrConflict] if there is another one of that
// version and platform: what nodes may run already is not replaced.
func (l *Ledger) PutRelease(who Who, r edge.Release) error {
	err := l.update(func(t *tx) error {
		var body string
		found, err := t.Find(`SELECT body FROM releases WHERE version = $1 AND platform = $2`, []any{r.Version, r.Platform}, &body)
		if err != nil {
			return err
		}
		if found {
			return fmt.Errorf("%w: there is one", ErrConflict)
		}
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := t.Exec(`INSERT INTO releases (version, platform, body) VALUES ($1, $2, $3)`, r.Version, r.Platform, string(text)); err != nil {
			return err
		}
		return t.audit(who, "release.put", releaseName(r.Version), r.Platform+" sha256:"+r.Digest)
	})
	if err != nil {
		return fmt.Errorf("keep release %s for %s: %w", r.Version, r.Platform, err)
	}
	return nil
}

// RemoveRelease forgets a release. The error is [ErrNotFound] if there is none.
func (l *Ledger) RemoveRelease(who Who, version, platform string) error {
	err := l.update(func(t *tx) error {
		done, err := t.Exec(`DELETE FROM releases WHERE version = $1 AND platform = $2`, version, platform)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return ErrNotFound
		}
		return t.audit(who, "release.remove", releaseName(version), platform)
	})
	if err != nil {
		return fmt.Errorf("remove release %s for %s: %w", version, platform, err)
	}
	return nil
}

func releaseName(version string) string { return "release/" + version }
func upgradeName(id int64) string       { return fmt.Sprintf("upgrade/%d", id) }

// Releases returns the releases by version and platform, and the upgrades, newest first.
func (l *Ledger) Releases(ctx context.Context) (releases []edge.Release, upgrades []edge.UpgradeRollout, err error) {
	err = l.store.View(ctx, func(tx *sql.Tx) error {
		if releases, err = bodies[edge.Release](ctx, tx, `SELECT body FROM releases ORDER BY version, platform`); err != nil {
			return err
		}
		upgrades, err = bodies[edge.UpgradeRollout](ctx, tx, `SELECT body FROM upgrades ORDER BY id DESC`)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read releases: %w", err)
	}
	return releases, upgrades, nil
}

func bodies[T any](ctx context.Context, tx *sql.Tx, query string) (list []T, err error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var body string
		var one T
		if err := rows.Scan(&body); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(body), &one); err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, rows.Err()
}

// BeginUpgrade starts the rollout of a version, and gives it its id. The error is
// [ErrConflict] while another one is not over.
func (l *Ledger) BeginUpgrade(who Who, u edge.UpgradeRollout) (edge.UpgradeRollout, error) {
	err := l.update(func(t *tx) error {
		var last int64
		under, err := t.Find(`SELECT id FROM upgrades WHERE NOT over`, nil, &last)
		if err != nil {
			return err
		}
		if under {
			return fmt.Errorf("%w: upgrade %d is not over", ErrConflict, last)
		}
		if _, err := t.Find(`SELECT id FROM upgrades ORDER BY id DESC LIMIT 1`, nil, &last); err != nil {
			return err
		}
		u.ID, u.By, u.Begun, u.Since, u.State = last+1, who.By, t.now, t.now, edge.Rolling
		body, err := json.Marshal(u)
		if err != nil {
			return err
		}
		if _, err := t.Exec(`INSERT INTO upgrades (id, over, body) VALUES ($1, $2, $3)`, u.ID, false, string(body)); err != nil {
			return err
		}
		if _, err := t.Exec(`DELETE FROM upgrades WHERE id <= $1`, u.ID-keepUpgrades); err != nil {
			return err
		}
		return t.audit(who, "upgrade.begin", upgradeName(u.ID), fmt.Sprintf("%s in %d stages", u.To, len(u.Stages)))
	})
	if err != nil {
		return edge.UpgradeRollout{}, fmt.Errorf("begin upgrade to %s: %w", u.To, err)
	}
	return u, nil
}

// SteerUpgrade changes an upgrade as [Ledger.Steer] does a rollout of functions.
func (l *Ledger) SteerUpgrade(id int64, who Who, fn Steering) (u edge.UpgradeRollout, err error) {
	err = l.update(func(t *tx) error {
		var body string
		found, err := t.Find(`SELECT body FROM upgrades WHERE id = $1`, []any{id}, &body)
		if err != nil {
			return err
		}
		if !found {
			return ErrNotFound
		}
		u = edge.UpgradeRollout{}
		if err := json.Unmarshal([]byte(body), &u); err != nil {
			return err
		}
		was := u.Rollout
		if was.State.Over() {
			return fmt.Errorf("%w: it is %s", ErrConflict, was.State)
		}
		next, changed := fn(was)
		if !changed {
			return nil
		}
		u.Rollout = t.successor(was, next)
		text, err := json.Marshal(u)
		if err != nil {
			return err
		}
		if _, err := t.Exec(`UPDATE upgrades SET over = $1, body = $2 WHERE id = $3`, u.State.Over(), string(text), id); err != nil {
			return err
		}
		if u.State == was.State && u.Stage == was.Stage {
			return nil
		}
		return t.audit(who, "upgrade."+steps[u.State], upgradeName(id), fmt.Sprintf("%s, stage %d of %d, %d nodes: %s", u.To, u.Stage+1, len(u.Stages), len(u.Nodes), u.Why))
	})
	if err != nil {
		return edge.UpgradeRollout{}, fmt.Errorf("steer upgrade %d: %w", id, err)
	}
	return u, nil
}
