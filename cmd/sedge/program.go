package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/cmd/node"
	"github.com/sedge-iot/sedge/cmd/service"
	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/devices/broker"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/fleet"
	"github.com/sedge-iot/sedge/edge/hub"
	"github.com/sedge-iot/sedge/edge/keys"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/link"
	"github.com/sedge-iot/sedge/edge/member"
)

// Files of the hub in the data directory.
const (
	tokenFile  = "token"
	hubKeyFile = "hub.key"
)

// systemData is where a hub that root started keeps its data.
const systemData = node.SystemData

// A program is hub, agent and broker in one process.
type program struct {
	node      *node.Node
	broker    *broker.Broker // or nil: the owner brought one
	brokerTLS bool           // it speaks TLS
	brokerURL string         // of the owner's, for people
	ledger    *ledger.Ledger
	fleet     *fleet.Fleet
	hub       *hub.Hub
	api       net.Listener
	tokenFile string
}

// openProgram opens and binds everything, so that whatever is in the way is
// known before anything runs.
func openProgram(o upOptions, lg *slog.Logger) (_ *program, err error) {
	p := &program{brokerURL: o.MQTT.Shown(), tokenFile: filepath.Join(o.DataDir, tokenFile)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.ledger, err = ledger.Open(o.DataDir); err != nil {
		return nil, node.DataError(err)
	}
	if err := p.listen(o); err != nil {
		return nil, err
	}
	if err := p.openFleet(o, lg); err != nil {
		return nil, err
	}
	dial := o.Dial(lg)
	if o.MQTT.URL == "" {
		dial = func(*store.Store) (node.Carrier, error) { return p.openBroker(o, lg) }
	}
	if p.node, err = node.Open(o.Options, dial, lg); err != nil {
		return nil, err
	}
	p.hub, err = hub.New(hub.Config{
		Ledger:    p.ledger,
		Fleet:     p.fleet,
		Name:      o.Name,
		Version:   settings.Version(),
		TokenFile: p.tokenFile,
		Metrics:   p.node.Metrics(p.fleet),
		Checks:    func() []edge.Check { return append(p.node.Checks(), p.functionsCheck(o.Name)) },
		Logger:    lg.With("part", "hub"),
	})
	return p, err
}

// listen opens the listener of the API, at which the node dials the hub too.
func (p *program) listen(o upOptions) (err error) {
	if p.api, err = service.Listen("the API", o.listen, "choose another: sedge up --listen 127.0.0.1:7790"); err != nil {
		return err
	}
	if a, ok := p.api.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return &edge.Error{
			Code: edge.Invalid, Message: fmt.Sprintf("--listen %s is not a loopback address, and the API is for this machine only", o.listen),
			Hint: "from elsewhere it can be reached through ssh: ssh -L 7780:127.0.0.1:7780 HOST",
		}
	}
	return nil
}

// openFleet makes a fleet of the one node that is in this process.
func (p *program) openFleet(o upOptions, lg *slog.Logger) error {
	key, err := keys.Open(filepath.Join(o.DataDir, hubKeyFile))
	if err != nil {
		return fmt.Errorf("open the hub's key: %w", err)
	}
	p.fleet = fleet.New(fleet.Config{Ledger: p.ledger, Key: key, Logger: lg.With("part", "fleet")})
	here := member.Hub{URL: "ws://" + p.api.Addr().String() + link.Path, Key: key.Public().(ed25519.PublicKey), Name: o.Name}
	return member.Belong(o.DataDir, here, func(node ed25519.PublicKey) error { return p.admit(node, o.Name) })
}

// admit makes the node in this process one of the hub's, if it is not yet. It does so
// as any node does, by a join token, but gives that to itself.
func (p *program) admit(key ed25519.PublicKey, name string) error {
	_, err := p.ledger.NodeOf(context.Background(), key)
	if !errors.Is(err, ledger.ErrNotFound) {
		return err
	}
	here := ledger.Who{By: "sedge up"}
	secret := []byte(rand.Text())
	k := edge.Token{ID: strings.ToLower(rand.Text()), Uses: 1, Expires: time.Now().Add(time.Minute)}
	if err := p.ledger.MakeToken(k, sha256.Sum256(secret), here); err != nil {
		return err
	}
	_, err = p.ledger.Join(edge.Proof{Key: key, Name: name, Join: &edge.Join{Token: k.ID, Secret: secret}}, "")
	return err
}

// functionsCheck says whether the node has come to the hub and has what that holds.
func (p *program) functionsCheck(name string) edge.Check {
	c := edge.Check{Name: "functions", Why: "the node is still being given its functions"}
	if n, err := p.fleet.Node(name); err == nil && n.Connected && n.At.Epoch != "" {
		c.OK, c.Why = true, ""
	}
	return c
}

func (p *program) openBroker(o upOptions, lg *slog.Logger) (node.Carrier, error) {
	certificate, err := o.brokerTLS()
	if err != nil {
		return node.Carrier{}, err
	}
	hint := fmt.Sprintf("if that is a broker, use it: sedge up --mqtt mqtt://%s\nelse choose another address: --broker-listen 127.0.0.1:1884", o.brokerListen)
	ln, err := service.Listen("the broker", o.brokerListen, hint)
	if err != nil {
		return node.Carrier{}, err
	}
	b, err := broker.New(broker.Config{
		Listener:  ln,
		Dir:       o.DataDir,
		UsersFile: o.brokerUsers,
		ACLFile:   o.brokerACL,
		TLS:       certificate,
		Log:       lg.With("part", "broker"),
	})
	if err != nil {
		return node.Carrier{}, &edge.Error{Code: edge.Invalid, Message: err.Error(), Hint: brokerHint(o)}
	}
	p.broker, p.brokerTLS = b, certificate != nil
	return carried(b), nil
}

// carried returns the broker of this process as what carries the node's messages.
// It is always there; but it may have something to say to its owner.
func carried(b *broker.Broker) node.Carrier {
	return node.Carrier{
		Bus:       b,
		Connected: func() (bool, string) { return true, strings.Join(b.Status().Faults, "; ") },
		Metrics: []prometheus.Collector{
			node.Count("sedge_broker_takeovers_total", "Connections that took their session from another, as two devices with one client id do.",
				func() float64 { return float64(b.Status().Takeovers) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "sedge_broker_faults", Help: "What is wrong with the broker now and may need somebody: /readyz?verbose says what.",
			}, func() float64 { return float64(len(b.Status().Faults)) }),
		},
	}
}

// brokerTLS returns what the broker shows of itself, or nil if it is to speak
// plainly.
func (o upOptions) brokerTLS() (*tls.Config, error) {
	if o.brokerCert == "" && o.brokerKey == "" {
		return nil, nil
	}
	hint := "both are files in PEM: --broker-tls-cert FILE --broker-tls-key FILE"
	if o.brokerCert == "" || o.brokerKey == "" {
		return nil, &edge.Error{Code: edge.Invalid, Message: "the broker's certificate is of no use without its key, nor the key without it", Hint: hint}
	}
	pair, err := tls.LoadX509KeyPair(o.brokerCert, o.brokerKey)
	if err != nil {
		return nil, &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("read the broker's certificate: %s", err), Hint: hint}
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// brokerHint says what a broker that others can reach must have, if that is
// what is wrong.
func brokerHint(o upOptions) string {
	host, _, err := net.SplitHostPort(o.brokerListen)
	if err != nil || local(host) || o.brokerUsers != "" && o.brokerACL != "" {
		return ""
	}
	return "say who may connect and what they may do: --broker-users FILE --broker-acl FILE"
}

// brokerAddr says which broker the devices are at.
func (p *program) brokerAddr() string {
	if p.broker == nil {
		return p.brokerURL
	}
	if p.brokerTLS {
		return "mqtts://" + p.broker.Addr().String()
	}
	return "mqtt://" + p.broker.Addr().String()
}

// Run serves until ctx is done; then it finishes or stores what runs, and returns nil:
// the API first, whose answers need the node, then the fleet and the node, each within
// ten seconds. It is called once.
func (p *program) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	rest, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g.Go(func() error { defer stop(); return ended("hub", p.hub.Serve(ctx, p.api)) })
	g.Go(func() error { return ended("fleet", p.fleet.Run(rest)) })
	g.Go(func() error { return ended("agent", p.node.Run(rest)) })
	return errors.Join(g.Wait(), p.close())
}

func (p *program) close() error {
	var errs []error
	if p.api != nil {
		if err := p.api.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if p.ledger != nil {
		errs = append(errs, p.ledger.Close())
	}
	if p.node != nil {
		errs = append(errs, p.node.Close())
	}
	return errors.Join(errs...)
}
