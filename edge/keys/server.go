package keys

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"time"
)

// A Server is the certificate of a hub's server. It is kept in memory only: a hub that
// starts makes a new one, which nodes believe as they did the last.
type Server struct {
	authority *Authority
	hosts     []string
	now       func() time.Time

	mu   sync.Mutex
	cert *tls.Certificate // guarded by mu; nil before the first
}

// Server returns a certificate for the names and IP addresses, of which there is one at
// least. It lasts a year and is made anew when a third of that is left. Nil for now is
// time.Now.
func (a *Authority) Server(hosts []string, now func() time.Time) (*Server, error) {
	if len(hosts) == 0 || slices.Contains(hosts, "") {
		return nil, errors.New("a server's certificate needs a name or an address")
	}
	if now == nil {
		now = time.Now
	}
	s := &Server{authority: a, hosts: slices.Clone(hosts), now: now}
	_, err := s.Certificate(nil) // what is wrong with the names shows now
	return s, err
}

// Certificate is for tls.Config.GetCertificate.
func (s *Server) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.cert == nil || due(s.cert.Leaf, now) {
		cert, err := s.authority.issue(s.hosts, now)
		if err != nil {
			return nil, err
		}
		s.cert = cert
	}
	return s.cert, nil
}

// due says whether it is time for a new certificate. A clock that was wrong may have
// made one for another time.
func due(cert *x509.Certificate, now time.Time) bool {
	third := cert.NotAfter.Sub(cert.NotBefore) / 3
	return now.Before(cert.NotBefore) || now.After(cert.NotAfter.Add(-third))
}

// TLS returns a configuration with this certificate.
func (s *Server) TLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.Certificate}
}
