package keys

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// What is in the files.
const (
	keyBlock         = "PRIVATE KEY" // PKCS #8
	certificateBlock = "CERTIFICATE"
)

// Open returns the ed25519 key in the file (PEM, PKCS #8), which it makes if there is
// none. Of several that make it at once all return the same.
func Open(path string) (ed25519.PrivateKey, error) {
	blocks, err := open(path, func() ([]*pem.Block, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		block, err := sealKey(key)
		return []*pem.Block{block}, err
	})
	if err != nil {
		return nil, fmt.Errorf("open the key: %w", err)
	}
	key, err := findKey[ed25519.PrivateKey](blocks)
	if err != nil {
		return nil, fmt.Errorf("open the key: %s: %w", path, err)
	}
	return key, nil
}

// open returns what is in a PEM file, which make fills if there is none.
func open(path string, make func() ([]*pem.Block, error)) ([]*pem.Block, error) {
	data, err := Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := fill(path, make); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		data, err = Read(path) // which may be that of somebody who was faster
	}
	if err != nil {
		return nil, err
	}
	var blocks []*pem.Block
	for b, rest := pem.Decode(data); b != nil; b, rest = pem.Decode(rest) {
		blocks = append(blocks, b)
	}
	return blocks, nil
}

func fill(path string, make func() ([]*pem.Block, error)) error {
	blocks, err := make()
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, b := range blocks {
		if err := pem.Encode(&text, b); err != nil {
			return err
		}
	}
	return Create(path, text.Bytes())
}

func sealKey(key crypto.Signer) (*pem.Block, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return &pem.Block{Type: keyBlock, Bytes: der}, err
}

// findKey returns the key, of type K, that is among the blocks.
func findKey[K crypto.Signer](blocks []*pem.Block) (none K, err error) {
	i := slices.IndexFunc(blocks, func(b *pem.Block) bool { return b.Type == keyBlock })
	if i < 0 {
		return none, errors.New("there is no key in the file")
	}
	key, err := x509.ParsePKCS8PrivateKey(blocks[i].Bytes)
	if err != nil {
		return none, err
	}
	k, ok := key.(K)
	if !ok {
		return none, fmt.Errorf("the key is a %T, not a %T", key, none)
	}
	return k, nil
}
