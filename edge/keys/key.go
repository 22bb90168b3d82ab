package keys

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
)

// Open returns the ed25519 key in the file (PEM, PKCS #8), which it makes if there is
// none. Of several that make it at once all return the same.
func Open(path string) (ed25519.PrivateKey, error) {
	return open[ed25519.PrivateKey](path, func() (crypto.Signer, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	})
}

// open returns the key of type K in the file, made by generate if there is none.
func open[K crypto.Signer](path string, generate func() (crypto.Signer, error)) (K, error) {
	key, err := load[K](path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := store(path, generate); err != nil && !errors.Is(err, fs.ErrExist) {
			return key, fmt.Errorf("make a key: %w", err)
		}
		key, err = load[K](path)
	}
	if err != nil {
		return key, fmt.Errorf("open the key: %w", err)
	}
	return key, nil
}

func load[K crypto.Signer](path string) (key K, err error) {
	data, err := Read(path)
	if err != nil {
		return key, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return key, fmt.Errorf("%s holds no key", path)
	}
	any, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return key, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := any.(K)
	if !ok {
		return key, fmt.Errorf("%s holds a key of another kind: %T, not %T", path, any, key)
	}
	return key, nil
}

func store(path string, generate func() (crypto.Signer, error)) error {
	key, err := generate()
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return create(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
