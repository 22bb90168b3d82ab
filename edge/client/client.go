// Package client is the hub's API in Go: one method for each of its verbs (see
// API.md beside package hub). It promises that every error is an [*edge.Error]
// or that of the caller's context, that no answer is read beyond a limit, and
// that nothing is sent twice. What to show a person, and when to try again, it
// leaves to its caller.
package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

const (
	patience  = 2 * time.Minute // for a whole answer; a deploy starts the function, an invoke runs it
	dialing   = 5 * time.Second
	maxAnswer = 16 << 20 // bytes
)

// A Client speaks to one hub. Its methods may be called from several goroutines.
type Client struct {
	User string // who asks, as the history shall name it; set before the first call

	url   string // without a slash at its end
	token string
	node  string // that calls are about, or "": see On
	http  *http.Client
}

// New returns a client of the hub at url, like http://127.0.0.1:7780.
func New(url, token string) *Client {
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment, // which leaves loopback alone
		DialContext:         (&net.Dialer{Timeout: dialing}).DialContext,
		TLSHandshakeTimeout: dialing,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     30 * time.Second,
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the token goes to no other place
	return &Client{
		url:   strings.TrimRight(url, "/"),
		token: token,
		http:  &http.Client{Transport: transport, CheckRedirect: stay},
	}
}

// Trust takes the hub's certificate only from these authorities, not from the
// system's. It is called before the first call.
func (c *Client) Trust(roots *x509.CertPool) {
	c.http.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}

// On returns a client of the same hub whose calls are about one node, by its name or
// id: how functions are there, its logs, trail, state and dead letters, a run by
// hand. Without it, what only a node has is asked of the one that there is.
func (c *Client) On(node string) *Client {
	on := *c
	on.node = node
	return &on
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Version returns which program the hub is.
func (c *Client) Version(ctx context.Context) (edge.Version, error) {
	return ask[edge.Version](ctx, c, call{path: path("version")})
}

// Schema returns the JSON schema of manifests.
func (c *Client) Schema(ctx context.Context) ([]byte, error) {
	return ask[[]byte](ctx, c, call{path: path("schema")})
}

// Ready returns nil if the hub and its node are ready, else an Unavailable that
// says what is not.
func (c *Client) Ready(ctx context.Context) error {
	return c.do(ctx, call{path: "/readyz"}, nil)
}

// path joins segments under /v1, each escaped so that whatever a name or a key
// consists of, dots and slashes too, it remains one segment.
func path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/v1")
	for _, s := range segments {
		b.WriteString("/" + strings.ReplaceAll(url.PathEscape(s), ".", "%2E"))
	}
	return b.String()
}
