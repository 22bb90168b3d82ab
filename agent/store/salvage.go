package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/sedge-iot/sedge/edge/sqlite"
)

// A Salvage tells what became of a damaged store.
type Salvage struct {
	Path   string         // where the damaged file is kept
	Reason string         // what was found
	Rows   map[string]int // how many rows of each table were saved
}

// Report returns what Open found damaged and saved, or nil if the store was whole.
func (s *Store) Report() *Salvage { return s.salvage }

// openOrSalvage opens the file at path. If it is damaged, or was found to be
// while it ran last (suspect exists), it is set aside and what can be read of
// it goes into a new file.
func openOrSalvage(path, suspect string, schema fs.FS) (*sqlite.DB, *Salvage, error) {
	var db *sqlite.DB
	reason := errors.New("it turned out to be damaged when it ran last")
	if _, err := os.Stat(suspect); err != nil {
		if db, reason = sqlite.Open(path, schema); reason == nil {
			return db, nil, nil
		}
		if !sqlite.Damaged(reason) {
			return nil, nil, reason
		}
	}
	aside, err := sqlite.Quarantine(path, time.Now())
	if err != nil {
		return nil, nil, err
	}
	db, err = sqlite.Open(path, schema)
	if err != nil {
		return nil, nil, err
	}
	saved, err := sqlite.Salvage(aside, db)
	if err == nil {
		err = db.Update(forgetPosition)
	}
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	if err := os.Remove(suspect); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errors.Join(fmt.Errorf("salvage: %w", err), db.Close())
	}
	return db, &Salvage{Path: aside, Reason: reason.Error(), Rows: saved}, nil
}

// forgetPosition makes the hub send all definitions again: some may be lost.
func forgetPosition(tx *sqlite.Tx) error {
	_, err := tx.Exec(`DELETE FROM meta WHERE name = ?`, metaSynced)
	return err
}
