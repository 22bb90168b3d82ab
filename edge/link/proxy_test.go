package link_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/keys"
	"github.com/sedge-iot/sedge/edge/link"
)

// A proxy is a real HTTP one on loopback, for which every name leads to one hub. If it has
// an authority it opens TLS, as those of companies do, or attackers.
type proxy struct {
	hub     *hub
	opens   *keys.Authority // or nil
	speaks  *keys.Authority // of the TLS in which it is spoken to; nil: it is spoken to in the clear
	answers string          // instead of what a proxy answers, or ""
	addr    string

	mu    sync.Mutex
	asked []*http.Request // guarded by mu
	raw   bytes.Buffer    // guarded by mu; all that went through
	plain bytes.Buffer    // guarded by mu; the same, without TLS
}

func newProxy(t *testing.T, p *proxy) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); p.serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return p
}

// serve connects a node and the hub until one of them ends.
func (p *proxy) serve(node net.Conn) {
	if p.speaks != nil {
		cert, err := p.speaks.Server([]string{"127.0.0.1"}, nil)
		if err != nil {
			return
		}
		node = tls.Server(node, cert.TLS())
	}
	req, err := http.ReadRequest(bufio.NewReader(node)) // the node says no more before the answer
	if err != nil {
		return
	}
	p.mu.Lock()
	p.asked = append(p.asked, req)
	p.mu.Unlock()
	if p.answers != "" {
		io.WriteString(node, p.answers)
		return
	}
	hub, err := net.Dial("tcp", p.hub.addr)
	if err != nil {
		return
	}
	defer hub.Close()
	io.WriteString(node, "HTTP/1.1 200 Connection established\r\n\r\n")
	node = &tap{node, p, &p.raw}
	if p.opens != nil {
		if node, hub, err = p.open(node, hub); err != nil {
			return
		}
	}
	var both sync.WaitGroup
	both.Go(func() { defer hub.Close(); io.Copy(hub, node) })
	both.Go(func() { defer node.Close(); io.Copy(node, hub) })
	both.Wait()
}

// open ends the node's TLS and makes another to the hub.
func (p *proxy) open(node, hub net.Conn) (net.Conn, net.Conn, error) {
	cert, err := p.opens.Server([]string{"hub.example"}, nil)
	if err != nil {
		return nil, nil, err
	}
	inner := tls.Server(node, cert.TLS())
	if err := inner.Handshake(); err != nil {
		return nil, nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.hub.ca.PEM())
	outer := tls.Client(hub, &tls.Config{ServerName: "hub.example", RootCAs: roots})
	return &tap{inner, p, &p.plain}, outer, outer.Handshake()
}

// A tap keeps what is read and written.
type tap struct {
	net.Conn
	p    *proxy
	kept *bytes.Buffer
}

func (t *tap) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	t.keep(b[:n])
	return n, err
}

func (t *tap) Write(b []byte) (int, error) {
	t.keep(b)
	return t.Conn.Write(b)
}

func (t *tap) keep(b []byte) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.kept.Write(b)
}

// saw returns all that the proxy saw, with TLS and without.
func (p *proxy) saw() (raw, plain []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.raw.Bytes()), slices.Clone(p.plain.Bytes())
}

// use has dials go through the proxy.
func (p *proxy) use(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy"} {
		t.Setenv(name, "")
	}
	scheme := "http"
	if p.speaks != nil {
		scheme = "https"
	}
	t.Setenv("HTTPS_PROXY", scheme+"://anna:pass%20word@"+p.addr)
}

// secretProof is one whose content nobody but the hub is to see.
var secretProof = edge.Proof{
	Name: "the-hall-node", Labels: map[string]string{"site": "the-site-label"},
	Join: &edge.Join{Token: "the-token-id", Secret: []byte("the join secret that is told to the hub alone")},
}

// leaks returns what of a session can be read in what somebody saw.
func leaks(seen []byte, more ...string) (found []string) {
	s := secretProof
	for _, word := range append(more, s.Name, s.Labels["site"], s.Join.Token, string(s.Join.Secret)) {
		for _, form := range []string{word, base64.StdEncoding.EncodeToString([]byte(word)), base64.RawURLEncoding.EncodeToString([]byte(word))} {
			if bytes.Contains(seen, []byte(form)) {
				found = append(found, form)
			}
		}
	}
	return found
}

// converse has a session of one message and its echo.
func converse(t *testing.T, d *link.Dialer, message string) error {
	t.Helper()
	conn, _, err := d.Dial(t.Context(), now(), secretProof)
	if err != nil {
		return err
	}
	if err := conn.Send([]byte(message)); err != nil {
		return err
	}
	return conn.Serve(t.Context(), func(data []byte) error {
		if string(data) != message {
			t.Errorf("%q came back, want %q", data, message)
		}
		conn.Close("")
		return nil
	})
}

func TestADialGoesThroughTheProxyOfTheEnvironment(t *testing.T) {
	h := newHub(t, echo)
	p := newProxy(t, &proxy{hub: h})
	p.use(t)
	d := h.dialer(t)
	d.URL = "wss://hub.example" + link.Path
	if err := converse(t, d, "through a proxy"); err != nil {
		t.Fatal(err)
	}
	req := p.asked[0]
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("anna:pass word"))
	if req.Method != "CONNECT" || req.Host != "hub.example:443" || req.Header.Get("Proxy-Authorization") != want {
		t.Errorf("the proxy was asked %s %s %v, want CONNECT hub.example:443 with the name and password", req.Method, req.Host, req.Header)
	}

	t.Setenv("NO_PROXY", ".example")
	var dialled string
	d.Net = func(_ context.Context, _, address string) (net.Conn, error) {
		dialled = address
		return nil, errors.New("no further")
	}
	if err := dialOnce(t, d, now()); err == nil || dialled != "hub.example:443" {
		t.Errorf("with NO_PROXY %q was dialled (%v), want the hub itself", dialled, err)
	}
}

func TestAProxyIsSpokenToInTLSIfTheEnvironmentSaysSo(t *testing.T) {
	h := newHub(t, echo)
	authority, stranger := newAuthority(t), newAuthority(t)
	p := newProxy(t, &proxy{hub: h, speaks: authority})
	p.use(t)
	d := h.dialer(t)
	d.URL, d.Trust.Extra = "wss://hub.example"+link.Path, authority.PEM()
	if err := converse(t, d, "through TLS"); err != nil {
		t.Fatal(err)
	}
	if req := p.asked[0]; req.Method != "CONNECT" || req.Host != "hub.example:443" || req.Header.Get("Proxy-Authorization") == "" {
		t.Errorf("the proxy was asked %s %s %v, want CONNECT hub.example:443 with the name and password", req.Method, req.Host, req.Header)
	}
	for _, extra := range [][]byte{nil, stranger.PEM(), h.ca.PEM()} { // the hub's authority does not stand for proxies
		d := h.dialer(t)
		d.URL, d.Trust.Extra = "wss://hub.example"+link.Path, extra
		if extra != nil && bytes.Equal(extra, h.ca.PEM()) {
			d.Trust.Extra, d.Trust.Own = nil, extra
		}
		asked := len(p.asked)
		if err := dialOnce(t, d, now()); err == nil || !strings.Contains(err.Error(), "certificate") || len(p.asked) != asked {
			t.Errorf("Dial = %v, want that the proxy is not trusted, and is told nothing", err)
		}
	}
}

func TestAProxyThatWillNotIsTold(t *testing.T) {
	h := newHub(t, echo)
	for answer, want := range map[string]string{
		"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n":           "it answers 407",
		"HTTP/1.1 403\r\n\r\n":                                         "it answers 403",
		"SSH-2.0-OpenSSH\r\n":                                          "malformed HTTP",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10) + "\r": "too much is said",
	} {
		p := newProxy(t, &proxy{hub: h, answers: answer})
		p.use(t)
		d := h.dialer(t)
		d.URL = "wss://hub.example" + link.Path
		err := dialOnce(t, d, now())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), p.addr) || strings.Contains(err.Error(), "pass") {
			t.Errorf("to %.40q Dial = %v, want %q, the proxy's address and not its password", answer, err, want)
		}
	}
	t.Setenv("HTTPS_PROXY", "socks5://127.0.0.1:1")
	d := h.dialer(t)
	d.URL = "wss://hub.example" + link.Path
	if err := dialOnce(t, d, now()); err == nil || !strings.Contains(err.Error(), "socks5") {
		t.Errorf("with a proxy of another kind Dial = %v, want that said", err)
	}
}

func TestAProxyThatOpensTLSSeesNothingOfTheSession(t *testing.T) {
	h := newHub(t, echo)
	p := newProxy(t, &proxy{hub: h, opens: newAuthority(t)})
	p.use(t)
	d := h.dialer(t)
	d.URL = "wss://hub.example" + link.Path
	d.Trust.Extra = p.opens.PEM()
	if err := converse(t, d, "the lamp is on"); err != nil {
		t.Fatal(err)
	}
	raw, plain := p.saw()
	if !bytes.Contains(plain, []byte("ephemeral")) {
		t.Fatal("the proxy has not seen the hello: this test shows nothing")
	}
	if found := leaks(append(raw, plain...), "the lamp is on", "admitted"); len(found) > 0 {
		t.Errorf("the proxy could read %q", found)
	}
}

func TestAMachineInTheMiddleWithAnotherAuthorityGetsNoByte(t *testing.T) {
	h := newHub(t, echo)
	p := newProxy(t, &proxy{hub: h, opens: newAuthority(t)})
	p.use(t)
	for _, trust := range []link.Trust{{Pin: h.ca.Pin()}, {Own: h.ca.PEM()}, {}} {
		d := h.dialer(t)
		d.URL, d.Trust = "wss://hub.example"+link.Path, trust
		if err := converse(t, d, "the lamp is on"); !errors.Is(err, link.ErrWrongCA) {
			t.Errorf("Dial = %v, want ErrWrongCA", err)
		}
	}
	raw, plain := p.saw()
	if len(plain) > 0 || len(raw) == 0 {
		t.Errorf("it could read %d bytes of the %d it saw, want none of some", len(plain), len(raw))
	}
	if found := leaks(raw, "the lamp is on"); len(found) > 0 {
		t.Errorf("it saw %q", found)
	}
}

func TestAFalseHubWithATrustedCertificateGetsTheHelloAlone(t *testing.T) {
	h := newHub(t, echo)
	p := newProxy(t, &proxy{hub: newHubAt(t, h.ca, time.Now(), echo), opens: newAuthority(t)})
	p.use(t)
	d := h.dialer(t)
	d.URL = "wss://hub.example" + link.Path
	d.Trust.Extra = p.opens.PEM()
	if err := converse(t, d, "the lamp is on"); !errors.Is(err, link.ErrWrongHub) {
		t.Errorf("Dial = %v, want ErrWrongHub", err)
	}
	raw, plain := p.saw()
	if !bytes.Contains(plain, []byte(`"ephemeral"`)) {
		t.Fatal("the false hub has not even seen the hello: this test shows nothing")
	}
	if found := leaks(append(raw, plain...), "the lamp is on"); len(found) > 0 {
		t.Errorf("the false hub could read %q", found)
	}
}
