package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/devices"
)

// A Config says which broker, as whom, and how. Only URL and ClientID must be
// set.
type Config struct {
	URL      string // mqtt://host:1883 or mqtts://host:8883; tcp, ssl and tls mean the same. User and password may stand in it
	ClientID string // the broker keeps the session under it; the outbound connection adds "-out". No / + #

	Username     string
	Password     string
	PasswordFile string // read at each dial, instead of Password; its last newline does not count

	CAFile   string // PEM; default: the system's
	CertFile string // of a client certificate, PEM, with KeyFile; both read at each dial
	KeyFile  string

	KeepAlive  time.Duration // whole seconds, at least 1s; default 30s. A silent link is given up within 1.5 times that
	MaxBackoff time.Duration // the longest wait before dialling again; default 30s
	MaxPacket  int           // bytes of a packet from the broker; default 1 MiB. Larger messages are handed on truncated

	// Session is called when the broker has accepted the inbound connection,
	// before its first message, with whether the broker kept the session. Its
	// result is stamped on the messages. Default: "".
	Session func(kept bool) string

	// Held and Hold carry over from one process to the next what the broker's
	// session holds. Held is what Hold was last given, or nil if that is not
	// known: then everything is subscribed again, which brings all retained
	// messages, and nothing unwanted is unsubscribed. Hold must store its map,
	// which is the caller's to keep, before it returns. Default: not carried.
	Held map[string]bool
	Hold func(held map[string]bool)

	Logger *slog.Logger // default: none
}

// Defaults of Config.
const (
	DefaultKeepAlive  = 30 * time.Second
	DefaultMaxBackoff = 30 * time.Second
	DefaultMaxPacket  = 1 << 20
)

const dialTimeout = 10 * time.Second // for the network, TLS and CONNACK, each

// An endpoint is where a URL points to.
type endpoint struct {
	address string // host:port
	host    string
	secure  bool
}

// settle fills in the defaults and returns every fault at once.
func (c *Config) settle() (endpoint, error) {
	to, err := c.endpoint()
	faults := []error{err}
	if devices.CheckTopic(c.ClientID) != nil || strings.Contains(c.ClientID, "/") || len(c.ClientID) > 128 {
		faults = append(faults, fmt.Errorf("client id %q: want 1 to 128 bytes of text without / + #", c.ClientID))
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = DefaultKeepAlive
	}
	if c.KeepAlive%time.Second != 0 || c.KeepAlive < time.Second || c.KeepAlive > 65535*time.Second {
		faults = append(faults, fmt.Errorf("keep-alive %v: want whole seconds", c.KeepAlive))
	}
	if c.MaxBackoff == 0 {
		c.MaxBackoff = DefaultMaxBackoff
	}
	if c.MaxBackoff < leastBackoff {
		faults = append(faults, fmt.Errorf("longest wait of %v before dialling again: want at least %v", c.MaxBackoff, leastBackoff))
	}
	if c.MaxPacket == 0 {
		c.MaxPacket = DefaultMaxPacket
	}
	if c.MaxPacket < 1024 {
		faults = append(faults, fmt.Errorf("largest packet of %d bytes: want at least 1024", c.MaxPacket))
	}
	if c.Session == nil {
		c.Session = func(bool) string { return "" }
	}
	if c.Hold == nil {
		c.Hold = func(map[string]bool) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if _, err := c.password(); err != nil {
		faults = append(faults, err)
	}
	c.warnOfOpen("password file", c.PasswordFile)
	c.warnOfOpen("key file", c.KeyFile)
	if _, err := c.tls(to); err != nil {
		faults = append(faults, err)
	}
	return to, errors.Join(faults...)
}

// endpoint reads the URL and moves the user in it to Username and Password.
func (c *Config) endpoint() (endpoint, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		var why *url.Error
		if errors.As(err, &why) {
			err = why.Err // without the URL, which may hold a password
		}
		return endpoint{}, fmt.Errorf("broker URL: %w", err)
	}
	to, port := endpoint{host: u.Hostname()}, "1883"
	switch u.Scheme {
	case "mqtt", "tcp":
	case "mqtts", "ssl", "tls":
		to.secure, port = true, "8883"
	default:
		return endpoint{}, fmt.Errorf("broker URL %s: want mqtt://host:port or mqtts://host:port", u.Redacted())
	}
	if to.host == "" || strings.Trim(u.Path, "/") != "" {
		return endpoint{}, fmt.Errorf("broker URL %s: want a host and no path", u.Redacted())
	}
	if p := u.Port(); p != "" {
		port = p
	}
	to.address = net.JoinHostPort(to.host, port)
	if u.User != nil && c.Username == "" {
		c.Username = u.User.Username()
		if password, ok := u.User.Password(); ok && c.Password == "" {
			c.Password = password
		}
	}
	return to, nil
}

// password returns the password, from its file if there is one.
func (c *Config) password() (string, error) {
	if c.PasswordFile == "" {
		return c.Password, nil
	}
	text, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
}

// warnOfOpen says so if a file that is to be secret is not. A file that is
// missing is somebody else's complaint.
func (c *Config) warnOfOpen(what, file string) {
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o007 != 0 {
		c.Logger.Warn(what+" is open to every user of this machine", "file", file, "mode", info.Mode().Perm().String(), "hint", "chmod 600 "+file)
	}
}

// tls returns how to speak TLS to the broker, or nil where it is not spoken.
func (c *Config) tls(to endpoint) (*tls.Config, error) {
	if !to.secure {
		if c.CAFile != "" || c.CertFile != "" || c.KeyFile != "" {
			return nil, errors.New("certificates are given, but the broker URL does not ask for TLS: want mqtts://")
		}
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: to.host}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("CA file: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file %s: holds no certificate", c.CAFile)
		}
	}
	if c.CertFile != "" || c.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}
