package broker

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/sedge-iot/sedge/devices"
)

// A Config says how a broker runs. With a listener and nothing else it is one
// for this machine's own devices that keeps nothing.
type Config struct {
	Listener net.Listener // where clients come in; the broker's from [New] on, also if that fails

	// Dir is where sessions and retained messages are kept, or "" to keep them
	// in memory only. It is created if it is missing; no other broker may use it.
	Dir string

	// Users may connect, and nobody else once there are any or a file of them is
	// named (see [ReadUsers]).
	Users     []User
	UsersFile string

	// ACLFile says who may do what (see [ReadACL]). An empty or unreadable one
	// allows nothing. Without one everything is allowed.
	ACLFile string

	TLS    *tls.Config // or nil
	Limits Limits
	Log    *slog.Logger // or nil
}

// Limits bound what clients may take. What is 0 is as said.
type Limits struct {
	Clients       int           // connected at a time: 1,000
	Sessions      int           // connected or kept: 2,000; past it the one that is away longest is forgotten
	Packet        int           // bytes: 1 MiB
	Unacked       int           // packets of one client that wait for their acknowledgement, and half as many that wait for its: 256
	Queue         int           // messages waiting for one client: 1,000
	QueueBytes    int           // which they take: 4 MiB
	Filters       int           // of one client: 1,000
	Retained      int           // topics: 10,000
	RetainedBytes int           // which they take: 16 MiB
	Expiry        time.Duration // that a session may outlive its connection: a week
}

func (l Limits) orDefaults() Limits {
	return Limits{
		Clients:       cmp.Or(l.Clients, 1000),
		Sessions:      cmp.Or(l.Sessions, 2000),
		Packet:        cmp.Or(l.Packet, 1<<20),
		Unacked:       cmp.Or(l.Unacked, 256),
		Queue:         cmp.Or(l.Queue, 1000),
		QueueBytes:    cmp.Or(l.QueueBytes, 4<<20),
		Filters:       cmp.Or(l.Filters, 1000),
		Retained:      cmp.Or(l.Retained, 10_000),
		RetainedBytes: cmp.Or(l.RetainedBytes, 16<<20),
		Expiry:        cmp.Or(l.Expiry, 7*24*time.Hour),
	}
}

// A Broker takes messages from devices to devices and to the agent. Its methods
// may be called from several goroutines.
type Broker struct {
	log      *slog.Logger
	limits   Limits
	listener net.Listener
	mochi    *mqtt.Server
	users    *users
	acl      *ACL
	aclFault string
	keeper   *keeper // or nil
	topics   *topics
	retain   *retained
	echo     *echo
	hear     atomic.Pointer[func(devices.Message)]
	over     atomic.Bool // Run has ended, or is about to
	boot     string      // differs from one start to the next
	names    atomic.Uint64
	alarm    chan struct{} // holds a token when tidy has to look again

	received, sent, dropped, denied, takeovers atomic.Uint64

	mu       sync.Mutex
	sessions map[identity]*session    // guarded by mu
	conns    map[*conn]struct{}       // guarded by mu
	wanted   map[string]*subscription // guarded by mu; by the agent
	contests contests                 // guarded by mu
	paused   chan struct{}            // guarded by mu; closed by Resume; nil unless paused
	closing  bool                     // guarded by mu
}

// New returns a broker that serves once Run is called. It refuses to be reached
// from beyond this machine without users and an ACL.
func New(cfg Config) (*Broker, error) {
	b := &Broker{
		log:      cfg.Log,
		limits:   cfg.Limits.orDefaults(),
		listener: cfg.Listener,
		topics:   newTopics(),
		boot:     rand.Text()[:10],
		alarm:    make(chan struct{}, 1),
		sessions: map[identity]*session{},
		conns:    map[*conn]struct{}{},
		wanted:   map[string]*subscription{},
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.retain = &retained{most: b.limits.Retained, mostBytes: b.limits.RetainedBytes, last: map[string]*message{}}
	b.echo = newEcho(b)
	b.mochi = newMochi(b)
	if err := b.open(cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("open broker: %w", err), b.close())
	}
	return b, nil
}

// errExposed says that the configuration would let in anyone.
var errExposed = errors.New("beyond this machine a broker needs users and an ACL")

func (b *Broker) open(cfg Config) (err error) {
	if err := b.admit(cfg); err != nil {
		return err
	}
	guarded := b.users.hashes != nil && cfg.ACLFile != ""
	if at, ok := b.Addr().(*net.TCPAddr); !guarded && !(ok && at.IP.IsLoopback()) {
		return fmt.Errorf("listen on %s: %w", b.Addr(), errExposed)
	}
	if cfg.TLS != nil {
		b.listener = tls.NewListener(b.listener, cfg.TLS)
	}
	if b.keeper, err = openKeeper(cfg.Dir, b.log, b.retain); err == nil && b.keeper != nil {
		err = b.load()
	}
	return err
}

// admit reads who may connect and who may do what.
func (b *Broker) admit(cfg Config) error {
	all := cfg.Users
	if cfg.UsersFile != "" {
		more, err := readFile(cfg.UsersFile, ReadUsers)
		if err != nil {
			return fmt.Errorf("read users: %w", err)
		}
		all = append(all[:len(all):len(all)], more...)
	}
	b.users = newUsers(all, cfg.UsersFile != "")
	if cfg.ACLFile == "" {
		b.acl = &ACL{open: true}
		return nil
	}
	acl, err := readFile(cfg.ACLFile, ReadACL)
	var unreadable *fs.PathError
	switch {
	case errors.As(err, &unreadable):
		b.aclFault = err.Error()
		acl = &ACL{}
	case err != nil:
		return fmt.Errorf("read ACL: %w", err)
	case acl.empty():
		b.aclFault = filepath.Base(cfg.ACLFile) + " has no rules"
	}
	if b.aclFault != "" {
		b.log.Error("the ACL allows nothing: no client may publish or subscribe", "why", b.aclFault)
	}
	b.acl = acl
	return nil
}

func (b *Broker) close() error {
	var errs []error
	if err := b.listener.Close(); !errors.Is(err, net.ErrClosed) {
		errs = append(errs, err)
	}
	if b.keeper != nil {
		errs = append(errs, b.keeper.db.Close())
	}
	return errors.Join(errs...)
}

// Addr returns the address that the broker listens on.
func (b *Broker) Addr() net.Addr { return b.listener.Addr() }

// nextName returns a name for a new session that no other has or had.
func (b *Broker) nextName(who identity) string {
	client := who.client[:min(len(who.client), 64)]
	return fmt.Sprintf("%s#%s%x", strings.ToValidUTF8(client, ""), b.boot, b.names.Add(1))
}

// Run serves until ctx ends; then it closes every connection, stores what must
// be kept and lets go of the address. It hands what the agent wants to hear,
// which must not wait; it may call Publish. Run is called once.
func (b *Broker) Run(ctx context.Context, hear func(devices.Message)) error {
	b.hear.Store(&hear)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	inner, stop := context.WithCancel(context.Background())
	defer stop()
	var parts, last sync.WaitGroup
	if b.keeper != nil {
		last.Go(func() { b.keeper.run(inner) })
	}
	parts.Go(func() { b.echo.run(ctx) })
	parts.Go(func() { b.tidy(ctx) })
	parts.Go(func() {
		<-ctx.Done()
		b.listener.Close()
	})
	err := b.accept(ctx)
	cancel()
	b.hear.Store(nil)
	b.over.Store(true)
	parts.Wait()
	b.echo.fail(errClosed)
	stop()
	last.Wait()
	if b.keeper != nil {
		err = cmp.Or(err, b.keeper.putPacketIDs(b.all()))
	}
	return cmp.Or(err, b.close())
}

// accept serves clients until ctx ends and all have left.
func (b *Broker) accept(ctx context.Context) error {
	var clients sync.WaitGroup
	defer clients.Wait()
	defer b.closeAll()
	for {
		c, err := b.listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept clients: %w", err)
		case err != nil: // out of file descriptors, or a client that is gone already
			b.log.Warn("cannot accept a client", "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		clients.Go(func() { b.serve(c) })
	}
}

// serve is the life of one connection.
func (b *Broker) serve(nc net.Conn) {
	c := newConn(nc, b.limits)
	if !b.register(c) {
		nc.Close()
		return
	}
	nc.SetReadDeadline(time.Now().Add(handshake))
	var writer sync.WaitGroup
	writer.Go(func() {
		c.flush(func() {
			if s := c.session; s != nil {
				s.pump()
			}
		})
	})
	err := b.mochi.EstablishConnection("", c)
	b.leave(c, err)
	c.Close()
	writer.Wait()
}

// register counts the connection in, unless there are too many.
func (b *Broker) register(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return false
	}
	if len(b.conns) >= b.limits.Clients {
		b.log.Warn("too many clients: one is turned away", "clients", len(b.conns), "remote", c.RemoteAddr().String())
		return false
	}
	b.conns[c] = struct{}{}
	return true
}
