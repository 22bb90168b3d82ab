package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certificate makes one for a host that no authority stands for, and a file with it.
func certificate(t *testing.T, host string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "hub.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func TestReplicasTrustTheCertificateThatTheyAreGivenAndNoOther(t *testing.T) {
	shown, file := certificate(t, "hub.example.org")
	_, other := certificate(t, "hub.example.org")
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{shown}}
	srv.StartTLS()
	defer srv.Close()
	for name, c := range map[string]struct {
		file, host string
		trusted    bool
	}{
		"the same":            {file, "hub.example.org", true},
		"of another host":     {file, "hub.example.com", false},
		"of its address":      {file, "", false},
		"another certificate": {other, "hub.example.org", false},
	} {
		t.Run(name, func(t *testing.T) {
			asks, err := trusting(c.file, c.host)
			if err != nil {
				t.Fatal(err)
			}
			defer asks.CloseIdleConnections()
			answer, err := asks.Get(srv.URL)
			if err == nil {
				answer.Body.Close()
			}
			if trusted := err == nil; trusted != c.trusted {
				t.Errorf("trusted = %v (%v), want %v", trusted, err, c.trusted)
			}
		})
	}
}
