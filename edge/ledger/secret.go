package ledger

import "fmt"

// Table secrets holds, by name, what all replicas of a hub must have and nobody else
// may: its keys, and its owner's token. A hub that is alone keeps these in files, and the
// table is empty. They are as secret as the database is, and its backups.

// Secret returns the secret of that name. If there is none yet, it keeps the one that make
// returns: of several replicas that ask at once all get the same.
func (l *Ledger) Secret(name string, make func() ([]byte, error)) (secret []byte, err error) {
	err = l.update(func(t *tx) error {
		found, err := t.Find(`SELECT value FROM secrets WHERE name = $1`, []any{name}, &secret)
		if err != nil || found {
			return err
		}
		if secret, err = make(); err != nil {
			return err
		}
		_, err = t.Exec(`INSERT INTO secrets (name, value) VALUES ($1, $2)`, name, secret)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the secret %s: %w", name, err)
	}
	return secret, nil
}
