package ledger

import (
	"encoding/json"
	"fmt"

	"github.com/sedge-iot/sedge/edge"
)

// Table upgrades holds edge.UpgradeRollout as JSON, by its id; the newest keepUpgrades are
// kept.
const keepUpgrades = 20

func upgradeName(id int64) string { return fmt.Sprintf("upgrade/%d", id) }

// upgradeUnderWay returns the upgrade that is not over, if there is one.
func (t *tx) upgradeUnderWay() (u edge.UpgradeRollout, under bool, err error) {
	var body string
	under, err = t.Find(`SELECT body FROM upgrades WHERE NOT over`, nil, &body)
	if err == nil && under {
		err = json.Unmarshal([]byte(body), &u)
	}
	return u, under, err
}

// BeginUpgrade starts the rollout of a version, and gives it its id. The error is
// [ErrConflict] while another one is not over.
func (l *Ledger) BeginUpgrade(who Who, u edge.UpgradeRollout) (edge.UpgradeRollout, error) {
	err := l.update(func(t *tx) error {
		is, under, err := t.upgradeUnderWay()
		if err != nil {
			return err
		}
		if under {
			return fmt.Errorf("%w: upgrade %d is not over", ErrConflict, is.ID)
		}
		var last int64
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
		t.upgrades++
		return t.audit(who, "upgrade.begin", upgradeName(u.ID), fmt.Sprintf("%s in %d stages", u.To, len(u.Stages)))
	})
	if err != nil {
		return edge.UpgradeRollout{}, fmt.Errorf("begin upgrade to %s: %w", u.To, err)
	}
	return u, nil
}

// SteerUpgrade changes an upgrade as [Ledger.Steer] does a rollout of a function. The error
// is [ErrNotFound], or [ErrConflict] if it is over.
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
		t.upgrades++
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
