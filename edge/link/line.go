package link

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"

	"golang.org/x/net/http/httpproxy"
)

// reachMax is how many bytes are read at most before the websocket stands: a proxy's
// answer, certificates, the hub's answer.
const reachMax = 256 << 10

// A metered is a connection from which only so much is read until it is through.
type metered struct {
	net.Conn
	left    atomic.Int64 // bytes
	through atomic.Bool
}

func (m *metered) Read(p []byte) (int, error) {
	if m.through.Load() {
		return m.Conn.Read(p)
	}
	if m.left.Load() <= 0 {
		return 0, errors.New("too much is said before there is a websocket")
	}
	n, err := m.Conn.Read(p)
	m.left.Add(-int64(n))
	return n, err
}

// line connects to the address, through a proxy if the environment says so.
func (d *Dialer) line(ctx context.Context, u *url.URL, network, address string) (net.Conn, error) {
	web := *u
	web.Scheme = map[string]string{"wss": "https", "ws": "http"}[u.Scheme]
	proxy, err := httpproxy.FromEnvironment().ProxyFunc()(&web)
	if err != nil {
		return nil, fmt.Errorf("find the proxy: %w", err)
	}
	if proxy == nil {
		return d.connect(ctx, network, address)
	}
	conn, err := d.throughProxy(ctx, proxy, network, address)
	if err != nil {
		return nil, fmt.Errorf("go through the proxy %s: %w", proxy.Host, err)
	}
	return conn, nil
}

func (d *Dialer) connect(ctx context.Context, network, address string) (net.Conn, error) {
	if d.Net != nil {
		return d.Net(ctx, network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// throughProxy has an HTTP proxy connect to the address. (That of gorilla panics at a status
// without a text, and reads answers without an end.)
func (d *Dialer) throughProxy(ctx context.Context, proxy *url.URL, network, address string) (net.Conn, error) {
	usual := map[string]string{"http": "80", "https": "443"}[proxy.Scheme]
	if usual == "" {
		return nil, fmt.Errorf("its scheme %.20q is neither http nor https, which alone are spoken", proxy.Scheme)
	}
	conn, err := d.connect(ctx, network, net.JoinHostPort(proxy.Hostname(), cmp.Or(proxy.Port(), usual)))
	if err != nil {
		return nil, err
	}
	if proxy.Scheme == "https" {
		if conn, err = d.secured(ctx, conn, proxy.Hostname()); err != nil {
			return nil, err
		}
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	if err := ask(conn, proxy, address); err != nil {
		return nil, errors.Join(context.Cause(ctx), err, conn.Close())
	}
	if !stop() {
		return nil, context.Cause(ctx)
	}
	return conn, nil
}

// secured begins TLS with a proxy. Its certificate says nothing of the hub's, so an error about it is
// not handed on as one.
func (d *Dialer) secured(ctx context.Context, conn net.Conn, host string) (net.Conn, error) {
	roots, err := d.foreign()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	inner := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: host})
	if err := inner.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("begin TLS with it: %v", err)
	}
	return inner, nil
}

// ask says CONNECT.
func ask(conn net.Conn, proxy *url.URL, address string) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if proxy.User != nil {
		secret, _ := proxy.User.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(proxy.User.Username()+":"+secret)))
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	m := &metered{Conn: conn}
	m.left.Store(handshakeMax)
	r := bufio.NewReader(m) // nothing comes behind the answer: the hub does not speak first
	answer, err := http.ReadResponse(r, req)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %d", answer.StatusCode)
	}
	return nil
}
