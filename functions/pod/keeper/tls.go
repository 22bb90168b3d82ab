package keeper

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"time"
)

// Port is where a keeper listens.
const Port = 7070

// SeedSize is the size of the seed from which a key is made, bytes.
const SeedSize = ed25519.SeedSize

// ErrStranger is returned by a handshake whose other end has not the key that is
// expected.
var ErrStranger = errors.New("the other end has another key")

// Server returns the settings of a keeper whose key is made of seed and which
// takes the connections of its agent alone.
func Server(seed []byte, agent ed25519.PublicKey) (*tls.Config, error) {
	c, err := mutual(seed, agent)
	if err != nil {
		return nil, err
	}
	c.ClientAuth = tls.RequireAnyClientCert // which VerifyConnection looks at
	c.SessionTicketsDisabled = true
	return c, nil
}

// Client returns the settings of an agent whose key is made of seed and which
// speaks to the keeper with that key alone.
func Client(seed []byte, keeper ed25519.PublicKey) (*tls.Config, error) {
	c, err := mutual(seed, keeper)
	if err != nil {
		return nil, err
	}
	c.InsecureSkipVerify = true // of names and authorities; VerifyConnection pins the key
	return c, nil
}

// Public returns the public key that belongs to a seed.
func Public(seed []byte) ed25519.PublicKey {
	return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
}

func mutual(seed []byte, other ed25519.PublicKey) (*tls.Config, error) {
	key := ed25519.NewKeyFromSeed(seed)
	cert, err := certificate(key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return ErrStranger
			}
			if got, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey); !ok || !got.Equal(other) {
				return ErrStranger
			}
			return nil
		},
	}, nil
}

// certificate wraps a key, as TLS demands. Nothing in it but the key counts.
func certificate(key ed25519.PrivateKey) (tls.Certificate, error) {
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(nil, form, form, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
