package keys

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

const (
	authorityLife = 20 * 365 * 24 * time.Hour
	serverLife    = 365 * 24 * time.Hour
	backdated     = time.Hour // for clocks that are a little behind
)

// An Authority is a hub's own certificate authority, ECDSA P-256. It may be used from
// several goroutines.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// OpenAuthority returns the authority in the file, which it makes if there is none. Its
// key and its certificate are in one file, since a new certificate for the old key would
// be another authority to every node. It lasts 20 years from now, which is to be right: on
// a machine whose clock is not set yet, wait before the authority is made.
func OpenAuthority(path string, now time.Time) (*Authority, error) {
	blocks, err := open(path, func() ([]*pem.Block, error) { return newAuthority(now) })
	if err != nil {
		return nil, fmt.Errorf("open the certificate authority: %w", err)
	}
	key, err := findKey[*ecdsa.PrivateKey](blocks)
	if err != nil {
		return nil, fmt.Errorf("open the certificate authority: %s: %w", path, err)
	}
	i := slices.IndexFunc(blocks, func(b *pem.Block) bool { return b.Type == certificateBlock })
	if i < 0 {
		return nil, fmt.Errorf("open the certificate authority: there is no certificate in %s", path)
	}
	cert, err := x509.ParseCertificate(blocks[i].Bytes)
	if err != nil {
		return nil, fmt.Errorf("open the certificate authority: %s: %w", path, err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) || !cert.IsCA {
		return nil, fmt.Errorf("open the certificate authority: %s holds the certificate of another key, or of no authority", path)
	}
	return &Authority{cert, key}, nil
}

func newAuthority(now time.Time) ([]*pem.Block, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := template("sedge hub", now, authorityLife)
	ca.IsCA, ca.BasicConstraintsValid, ca.MaxPathLenZero = true, true, true
	ca.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	block, err := sealKey(key)
	return []*pem.Block{block, {Type: certificateBlock, Bytes: der}}, err
}

// Pin returns the SHA-256 of the authority's certificate, by which nodes know it.
func (a *Authority) Pin() []byte {
	sum := sha256.Sum256(a.cert.Raw)
	return sum[:]
}

// PEM returns the authority's certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: a.cert.Raw})
}

// issue makes a server's certificate for names and addresses. The chain has the
// authority in it, for nodes that know no more of it than its pin.
func (a *Authority) issue(hosts []string, now time.Time) (*tls.Certificate, error) {
	life := min(serverLife, a.cert.NotAfter.Sub(now))
	if life <= 0 {
		return nil, fmt.Errorf("the hub's certificate authority has run out on %s", a.cert.NotAfter.Format(time.DateOnly))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := template(hosts[0], now, life)
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
