package keys_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge/keys"
)

var start = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func TestAKeyIsMadeOnceAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.key")
	made := make([]ed25519.PrivateKey, 20)
	var all sync.WaitGroup
	for i := range made {
		all.Go(func() {
			var err error
			if made[i], err = keys.Open(path); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, k := range made {
		if !k.Equal(made[0]) {
			t.Fatal("of several that made the key at once, not all have the same")
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Mode().Perm(), fs.FileMode(0o600); got != want {
		t.Errorf("mode of the key file = %v, want %v", got, want)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("%d files are left, want the key's alone", len(left))
	}
}

func TestAKeyFileThatIsNotRightIsRefusedAndStays(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if _, err := keys.OpenAuthority(ca, start); err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		data []byte
		mode fs.FileMode
		want string
	}{
		{"cut", []byte("-----BEGIN PRIVATE KEY-----\nMC4CAQ"), 0o600, "no key"},
		{"empty", nil, 0o600, "no key"},
		{"of another kind", other, 0o600, "*ecdsa.PrivateKey"},
		{"endless", bytes.Repeat([]byte("x"), 1<<20), 0o600, "more than"},
		{"open to others", other, 0o644, "chmod 600"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "node.key")
			if err := os.WriteFile(path, tt.data, tt.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := keys.Open(path); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("Open = %v, want an error with %q and the path", err, tt.want)
			}
			if data, _ := os.ReadFile(path); !bytes.Equal(data, tt.data) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestWriteReplacesAFileAsAWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.json")
	for _, text := range []string{"first", "second"} {
		if err := keys.Write(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := keys.Read(path); err != nil || string(got) != text {
			t.Errorf("Read = %q, %v, want %q", got, err, text)
		}
	}
	if _, err := keys.Read(filepath.Join(filepath.Dir(path), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of no file = %v, want fs.ErrNotExist", err)
	}
}

func TestCreateLeavesAFileThatIsThere(t *testing.T) {
	for name, create := range map[string]func(path string, data []byte) error{
		"with hard links": keys.Create,
		"without hard links": func(path string, data []byte) error {
			return keys.CreateWithoutLinks(path, data, syscall.EPERM) // as FAT says it
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "token")
			if err := create(path, []byte("first")); err != nil {
				t.Fatal(err)
			}
			if err := create(path, []byte("second")); !errors.Is(err, fs.ErrExist) {
				t.Errorf("Create of a file that is there = %v, want fs.ErrExist", err)
			}
			if got, err := keys.Read(path); err != nil || string(got) != "first" {
				t.Errorf("Read = %q, %v, want %q", got, err, "first")
			}
			if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
				t.Errorf("%d files are left, want one", len(left))
			}
		})
	}
}

func TestTheAuthorityStaysTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ca.pem")
	first, err := keys.OpenAuthority(path, start)
	if err != nil {
		t.Fatal(err)
	}
	second, err := keys.OpenAuthority(path, start.AddDate(5, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Pin(), second.Pin()) {
		t.Error("opened again, the authority has another pin")
	}
	block, _ := pem.Decode(first.PEM())
	if sum := sha256.Sum256(block.Bytes); !bytes.Equal(first.Pin(), sum[:]) {
		t.Error("the pin is not the SHA-256 of the certificate in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if years := cert.NotAfter.Sub(start).Hours() / 24 / 365; years < 19.9 || years > 20.1 {
		t.Errorf("the authority lasts %.1f years, want 20", years)
	}
}

// TestTheServersCertificateIsRenewedByItself goes through three years in weeks, at each of
// which a node that knows the pinned authority alone has to be able to verify.
func TestTheServersCertificateIsRenewedByItself(t *testing.T) {
	ca, err := keys.OpenAuthority(filepath.Join(t.TempDir(), "ca.pem"), start)
	if err != nil {
		t.Fatal(err)
	}
	now := start
	server, err := ca.Server([]string{"hub.example", "192.0.2.7", "2001:db8::7"}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	conf := server.TLS()
	serials := map[string]bool{}
	for ; now.Before(start.AddDate(3, 0, 0)); now = now.Add(7 * 24 * time.Hour) {
		cert, err := conf.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		verify(t, ca, cert, now)
		serials[cert.Leaf.SerialNumber.String()] = true
	}
	if got := len(serials); got < 4 || got > 5 {
		t.Errorf("%d certificates in three years, want one each eight months", got)
	}
}

func verify(t *testing.T, ca *keys.Authority, cert *tls.Certificate, now time.Time) {
	t.Helper()
	last, err := x509.ParseCertificate(cert.Certificate[len(cert.Certificate)-1])
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(last.Raw); !bytes.Equal(sum[:], ca.Pin()) {
		t.Fatal("the chain does not end in the pinned authority")
	}
	pool := x509.NewCertPool()
	pool.AddCert(last)
	for _, name := range []string{"hub.example", "192.0.2.7", "2001:db8::7"} {
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool, CurrentTime: now.Add(14 * 24 * time.Hour)}); err != nil {
			t.Fatalf("two weeks after %v: %v", now, err)
		}
	}
	if cert.Leaf.NotAfter.Sub(now) > 366*24*time.Hour {
		t.Fatalf("a certificate lasts until %v, want a year at most", cert.Leaf.NotAfter)
	}
}

func TestAClockSetBackGetsACertificateForItsTime(t *testing.T) {
	ca, err := keys.OpenAuthority(filepath.Join(t.TempDir(), "ca.pem"), start)
	if err != nil {
		t.Fatal(err)
	}
	now := start.AddDate(10, 0, 0) // a board that knows no better yet
	server, err := ca.Server([]string{"hub.example"}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	now = start.AddDate(0, 0, 1)
	cert, err := server.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Leaf.NotBefore.After(now) || cert.Leaf.NotAfter.Before(now) {
		t.Errorf("the certificate is for %v to %v, want for %v", cert.Leaf.NotBefore, cert.Leaf.NotAfter, now)
	}
}

func TestWhatCannotBeCertifiedIsSaid(t *testing.T) {
	ca, err := keys.OpenAuthority(filepath.Join(t.TempDir(), "ca.pem"), start)
	if err != nil {
		t.Fatal(err)
	}
	for _, hosts := range [][]string{nil, {""}, {"hüb.example"}} {
		if _, err := ca.Server(hosts, nil); err == nil {
			t.Errorf("Server(%q) = nil error, want one", hosts)
		}
	}
	late := func() time.Time { return start.AddDate(21, 0, 0) }
	if _, err := ca.Server([]string{"hub.example"}, late); err == nil || !strings.Contains(err.Error(), "run out") {
		t.Errorf("Server after 21 years = %v, want that the authority has run out", err)
	}
}
