package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/sedge-iot/sedge/cmd/service"
	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/fleet"
	"github.com/sedge-iot/sedge/edge/hub"
	"github.com/sedge-iot/sedge/edge/keys"
	"github.com/sedge-iot/sedge/edge/ledger"
)

// Files in the data directory.
const (
	keyFile   = "hub.key"
	ownFile   = "ca.key" // key and certificate of the hub's own authority
	caFile    = "ca.crt" // the certificate, for people to copy
	tokenFile = "token"
)

// options are what the hub's owner may set.
type options struct {
	dataDir   string
	database  string
	dbFile    string
	listen    string
	hosts     []string
	replica   string
	cert, key string
	log       service.Log
	config    *service.ConfigFile
}

func (o *options) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.dataDir, "data-dir", "/var/lib/sedge-hub", "`DIR` where everything is kept")
	f.StringVar(&o.database, "database", "", "`URL` of a PostgreSQL database that several hubs share, like postgres://hub@db/sedge; functions, nodes and the hub's keys are kept there, so keep it secret")
	f.StringVar(&o.dbFile, "database-file", "", "`FILE` with that URL, for one with a password")
	f.StringVar(&o.listen, "listen", ":7443", "`ADDRESS` for people and nodes, TLS")
	f.StringSliceVar(&o.hosts, "host", nil, "`NAME` or address by which it is reached, several with commas; the first is told to nodes (default: those of this machine)")
	f.StringVar(&o.replica, "replica-address", "", "`ADDRESS` at which hubs that share the database reach this one, like 10.0.0.7:7443 (default: the first of this machine)")
	f.StringVar(&o.cert, "tls-cert", "", "`FILE` with a certificate for these names, PEM; without it the hub makes its own")
	f.StringVar(&o.key, "tls-key", "", "`FILE` with its key, PEM")
	o.log.AddFlags(f)
}

// A program is a hub that is ready to run.
type program struct {
	options
	ledger    *ledger.Ledger
	fleet     *fleet.Fleet
	hub       *hub.Hub
	listener  net.Listener
	tokenFile string
}

// open opens and binds everything, so that whatever is in the way is known before
// anything runs.
func open(o options, lg *slog.Logger) (_ *program, err error) {
	p := &program{options: o, tokenFile: filepath.Join(o.dataDir, tokenFile)}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	host := "" // that all replicas have
	if len(p.hosts) > 0 {
		host = p.hosts[0]
	} else {
		p.hosts = names()
	}
	if err := os.MkdirAll(o.dataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	if err = p.openLedger(); err != nil {
		return nil, err
	}
	key, err := keys.Open(filepath.Join(o.dataDir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("open the hub's key: %w", err)
	}
	conf, pin, err := p.certificate()
	if err != nil {
		return nil, err
	}
	if p.listener, err = service.Listen("people and nodes", o.listen, "choose another: --listen :8443"); err != nil {
		return nil, err
	}
	conf.DynamicRecordSizingDisabled = true // nobody can do anything with the beginning of a message
	p.listener = tls.NewListener(p.listener, conf)
	of := fleet.Config{Ledger: p.ledger, Key: key, Logger: lg.With("part", "fleet")}
	if p.database != "" {
		if of.Replica, of.Peers, err = p.among(host); err != nil {
			return nil, err
		}
	}
	p.fleet = fleet.New(of)
	p.hub, err = hub.New(hub.Config{
		Ledger: p.ledger, Fleet: p.fleet, Hosts: p.hosts, CA: pin,
		Version: settings.Version(), TokenFile: p.tokenFile, Metrics: service.Metrics(p.fleet, o.config.Metric()), Checks: o.config.Checks, Logger: lg.With("part", "hub"),
	})
	return p, err
}

// certificate returns with what the hub speaks TLS, and the pin of its authority if
// that is its own.
func (p *program) certificate() (*tls.Config, []byte, error) {
	if (p.cert == "") != (p.key == "") {
		return nil, nil, &edge.Error{
			Code: edge.Invalid, Message: "the certificate is of no use without its key, nor the key without it",
			Hint: "both are files in PEM: --tls-cert FILE --tls-key FILE",
		}
	}
	if p.cert == "" {
		return ownCertificate(p.dataDir, p.hosts)
	}
	pair, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		return nil, nil, &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("read the certificate: %s", err), Hint: "both are files in PEM: --tls-cert FILE --tls-key FILE"}
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil, nil
}

// ownCertificate makes a certificate for the hosts, of an authority of the hub's own.
func ownCertificate(dir string, hosts []string) (*tls.Config, []byte, error) {
	authority, err := keys.OpenAuthority(filepath.Join(dir, ownFile), time.Now())
	if err != nil {
		return nil, nil, fmt.Errorf("open the hub's authority: %w", err)
	}
	if err := keys.Write(filepath.Join(dir, caFile), authority.PEM()); err != nil {
		return nil, nil, fmt.Errorf("write the hub's certificate: %w", err)
	}
	server, err := authority.Server(hosts, nil)
	if err != nil {
		return nil, nil, &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("make a certificate: %s", err), Hint: "see --host"}
	}
	return server.TLS(), authority.Pin(), nil
}

// names returns the names and addresses of this machine.
func names() (all []string) {
	if name, err := os.Hostname(); err == nil {
		all = append(all, name, name+".local")
	}
	all = append(all, addresses()...)
	all = append(all, "localhost", "127.0.0.1", "::1")
	slices.Sort(all[min(2, len(all)):])
	return slices.Compact(all)
}

// addresses are those of this machine by which others reach it.
func addresses() (all []string) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil // then it is reached by its name
	}
	for _, a := range list {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLinkLocalUnicast() && !ip.IP.IsLoopback() {
			all = append(all, ip.IP.String())
		}
	}
	return all
}

// url is how people and nodes reach the hub.
func (p *program) url() string {
	at, ok := p.listener.Addr().(*net.TCPAddr)
	if !ok || !at.IP.IsUnspecified() {
		return "https://" + p.listener.Addr().String()
	}
	return "https://" + net.JoinHostPort(p.hosts[0], strconv.Itoa(at.Port))
}

// banner says where everything is and what to do next.
func (p *program) banner(w io.Writer) {
	fmt.Fprintf(w, "sedge-hub is up\n  API       %s\n  token     %s\n  data      %s\n", p.url(), p.tokenFile, p.dataDir)
	if p.cert == "" {
		fmt.Fprintf(w, "  CA        %s\n", filepath.Join(p.dataDir, caFile))
	}
	fmt.Fprintf(w, "Next, in another terminal:\n  export SEDGE_HUB_URL=%s SEDGE_TOKEN_FILE=%s", p.url(), p.tokenFile)
	if p.cert == "" {
		fmt.Fprintf(w, " SEDGE_HUB_CA=%s", filepath.Join(p.dataDir, caFile))
	}
	fmt.Fprint(w, "\n  sedge token create      # one line to paste on a node\n\n")
}

// Run serves until ctx is done; then it ends within ten seconds, the API before the links
// to the nodes, which its last answers may need, and returns nil. It is called once.
func (p *program) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	links, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g.Go(func() error { return p.fleet.Run(links) })
	g.Go(func() error {
		defer stop()
		return p.hub.Serve(ctx, p.listener)
	})
	return errors.Join(g.Wait(), p.close())
}

func (p *program) close() error {
	var errs []error
	if p.listener != nil {
		if err := p.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if p.ledger != nil {
		errs = append(errs, p.ledger.Close())
	}
	return errors.Join(errs...)
}
