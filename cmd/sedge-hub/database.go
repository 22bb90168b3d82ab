package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/keys"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/ledger/postgres"
)

// connectTime is how long the database may take to be there.
const connectTime = 30 * time.Second

// openLedger opens the ledger, in the database if there is to be one. Then the keys and
// the token, which are files in the data directory, are those of all replicas.
func (p *program) openLedger() (err error) {
	if p.dbFile != "" {
		if p.database != "" {
			return &edge.Error{Code: edge.Invalid, Message: "the database is given twice", Hint: "either --database URL or --database-file FILE"}
		}
		url, err := keys.Read(p.dbFile)
		if err != nil {
			return fmt.Errorf("read the database's URL: %w", err)
		}
		if p.database = strings.TrimSpace(string(url)); p.database == "" {
			return &edge.Error{Code: edge.Invalid, Message: p.dbFile + " is empty", Hint: "it is to hold a URL like postgres://hub:password@db/sedge"}
		}
	}
	if p.database == "" {
		p.ledger, err = ledger.Open(p.dataDir)
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), connectTime)
	defer stop()
	if p.ledger, err = postgres.Open(ctx, p.database); err != nil {
		return err
	}
	return p.share()
}

// share makes the hub's secrets the same in all replicas: those of the one that had the
// database first.
func (p *program) share() error {
	own := map[string]func(path string) error{
		keyFile:   func(path string) error { _, err := keys.Open(path); return err },
		tokenFile: func(path string) error { return keys.Write(path, []byte(rand.Text()+"\n")) },
	}
	if p.cert == "" {
		own[ownFile] = func(path string) error { _, err := keys.OpenAuthority(path, time.Now()); return err }
	}
	for name, make := range own {
		if err := p.shareFile(name, make); err != nil {
			return err
		}
	}
	return nil
}

// shareFile makes a file what it is at all replicas; make makes it where it is at none. A
// file that is another hub's is left as it is, and refused: nodes have pinned what is in it.
func (p *program) shareFile(name string, make func(path string) error) error {
	path := filepath.Join(p.dataDir, name)
	own, err := keys.Read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	secret, err := p.ledger.Secret(name, func() ([]byte, error) {
		if own != nil {
			return own, nil
		}
		if err := make(path); err != nil {
			return nil, err
		}
		own, err = keys.Read(path)
		return own, err
	})
	switch {
	case err != nil:
		return err
	case own == nil:
		return keys.Write(path, secret)
	case !bytes.Equal(own, secret):
		return &edge.Error{
			Code: edge.Conflict, Message: fmt.Sprintf("%s is not that of the hub in the database", path),
			Hint: "if this machine is to be a replica of that hub, move the file away; if not, give it another database",
		}
	}
	return nil
}
