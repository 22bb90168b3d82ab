package link

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
)

// A Trust says which authorities a node believes that a server is the one that it is
// named. The hub's key is another matter: whoever TLS lets pass still has to have that.
type Trust struct {
	Pin   []byte // SHA-256 of the certificate of the hub's own authority, which the hub sends; or nil
	Own   []byte // certificates of the hub's own authorities, PEM; or nil
	Extra []byte // certificates of others, PEM, like that of a proxy which opens TLS; or nil
}

// A Clock is what a node knows about the time.
type Clock struct {
	Now     time.Time
	Floor   time.Time // has passed for certain: the hub has said so, or the program was built then
	Trusted bool      // Now has been set by somebody who knows, like NTP
}

// time is that at which certificates are judged. A trusted clock is right even where it
// is before the floor, which a hub may have got wrong.
func (c Clock) time() time.Time {
	if c.Trusted || c.Now.After(c.Floor) {
		return c.Now
	}
	return c.Floor
}

// within returns a time at which all the certificates are valid and that may be now,
// as far as the node knows. There is none if the clock is trusted, or if it is certain
// that one has run out.
func (c Clock) within(chain []*x509.Certificate) (time.Time, bool) {
	from, to := chain[0].NotBefore, chain[0].NotAfter
	for _, cert := range chain[1:] {
		if cert.NotBefore.After(from) {
			from = cert.NotBefore
		}
		if cert.NotAfter.Before(to) {
			to = cert.NotAfter
		}
	}
	if c.Trusted || to.Before(c.Floor) || to.Before(from) {
		return time.Time{}, false
	}
	t := c.time()
	if t.Before(from) {
		t = from
	}
	if t.After(to) {
		t = to
	}
	return t, true
}

// An anchor is a certificate that was found by its pin.
type anchor struct {
	pin  []byte
	cert *x509.Certificate
}

// pool returns the authorities as far as they are known; nil means the system's.
func (d *Dialer) pool() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if d.Trust.Pin == nil && d.Trust.Own == nil {
		if d.Trust.Extra == nil {
			return nil, nil
		}
		return d.foreign()
	}
	if err := appendPEM(pool, d.Trust.Own, d.Trust.Extra); err != nil {
		return nil, err
	}
	if d.found != nil && bytes.Equal(d.found.pin, d.Trust.Pin) {
		pool.AddCert(d.found.cert)
	}
	return pool, nil
}

// foreign returns the system's authorities and those of others: of whom is not the hub, such as a
// proxy that speaks TLS.
func (d *Dialer) foreign() (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the system's authorities: %w", err)
	}
	return pool, appendPEM(pool, d.Trust.Extra)
}

func appendPEM(pool *x509.CertPool, all ...[]byte) error {
	for _, pem := range all {
		if pem != nil && !pool.AppendCertsFromPEM(pem) {
			return errors.New("there is no certificate in the PEM of the authorities to trust")
		}
	}
	return nil
}

// reach makes the websocket. Where only more knowledge is missing to verify the server, of
// the authority that is pinned or of the time, it takes that from the certificates which the
// server has shown, and dials again: what verifies is always crypto/tls itself.
func (d *Dialer) reach(ctx context.Context, u *url.URL, clock Clock) (*websocket.Conn, error) {
	at := clock.time()
	var anchored, adjusted bool
	for {
		pool, err := d.pool()
		if err != nil {
			return nil, err
		}
		ws, err := d.open(ctx, u, &tls.Config{
			MinVersion: tls.VersionTLS12,
			RootCAs:    pool,
			Time:       func() time.Time { return at },
		})
		failed, ok := errors.AsType[*tls.CertificateVerificationError](err)
		if !ok || len(failed.UnverifiedCertificates) == 0 {
			return ws, err
		}
		if stranger(failed) && !anchored && d.anchor(failed.UnverifiedCertificates) {
			anchored = true
			continue
		}
		if untimely(failed) && !adjusted {
			if t, ok := clock.within(failed.UnverifiedCertificates); ok {
				at, adjusted = t, true
				continue
			}
		}
		return nil, distrust(failed)
	}
}

// anchor looks for the pinned authority among the certificates, and keeps it.
func (d *Dialer) anchor(chain []*x509.Certificate) bool {
	for _, cert := range chain {
		if sum := sha256.Sum256(cert.Raw); cert.IsCA && bytes.Equal(sum[:], d.Trust.Pin) {
			d.found = &anchor{d.Trust.Pin, cert}
			return true
		}
	}
	return false
}

func stranger(err error) bool {
	_, ok := errors.AsType[x509.UnknownAuthorityError](err)
	return ok
}

func untimely(err error) bool {
	e, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && e.Reason == x509.Expired
}

// distrust gives the failed verification its kind.
func distrust(err error) error {
	kind := ErrWrongCA
	if untimely(err) {
		kind = ErrWrongTime
	} else if _, ok := errors.AsType[x509.HostnameError](err); ok {
		kind = ErrWrongName
	}
	return fmt.Errorf("%w: %w", kind, err)
}
