package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"time"
)

const (
	authorityLife = 20 * 365 * 24 * time.Hour
	serverLife    = 365 * 24 * time.Hour
	renewBefore   = serverLife / 3
	backdated     = time.Hour // for clocks that are a little behind
)

// An Authority is a hub's own certificate authority, ECDSA P-256. It may be used from
// several goroutines.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// OpenAuthority returns the authority in the files ca.key and ca.crt of the directory,
// which it makes if there is none. It lasts 20 years from now, which is to be right
// when the authority is made: on a machine whose clock is not set yet, wait.
func OpenAuthority(dir string, now time.Time) (*Authority, error) {
	key, err := open[*ecdsa.PrivateKey](filepath.Join(dir, "ca.key"), func() (crypto.Signer, error) {
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	})
	if err != nil {
		return nil, fmt.Errorf("open the certificate authority: %w", err)
	}
	path := filepath.Join(dir, "ca.crt")
	cert, err := loadCertificate(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := storeAuthority(path, key, now); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make the certificate authority: %w", err)
		}
		cert, err = loadCertificate(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the certificate authority: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("open the certificate authority: %s is not the certificate of the key beside it", path)
	}
	return &Authority{cert, key}, nil
}

// Pin returns the SHA-256 of the authority's certificate, by which nodes know it.
func (a *Authority) Pin() []byte {
	sum := sha256.Sum256(a.cert.Raw)
	return sum[:]
}

// PEM returns the authority's certificate.
func (a *Authority) PEM() []byte { return encode(a.cert.Raw) }

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// issue makes a server's certificate for names and addresses. The chain has the
// authority in it, for nodes that know no more of it than its pin.
func (a *Authority) issue(hosts []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := template(hosts[0], now, min(serverLife, a.cert.NotAfter.Sub(now)))
	leaf.KeyUsage = x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: made}, nil
}

func storeAuthority(path string, key *ecdsa.PrivateKey, now time.Time) error {
	ca := template("sedge hub", now, authorityLife)
	ca.IsCA, ca.BasicConstraintsValid, ca.MaxPathLenZero = true, true, true
	ca.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		return err
	}
	return create(path, encode(der))
}

func template(name string, now time.Time, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(slices.Concat([]byte{1}, randomBytes(15))),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-backdated),
		NotAfter:     now.Add(life),
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

func loadCertificate(path string) (*x509.Certificate, error) {
	data, err := Read(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cert, nil
}
