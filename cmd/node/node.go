// Package node puts a node's program together: store, bus, sandboxes, agent, its part
// in a Kubernetes cluster, and the listeners of HTTP triggers and of metrics and
// health. The programs that have a node in them differ in where definitions come from
// and which bus carries messages.
//
// It promises that a node which cannot start says why and what to do, and that
// a running one ends within ten seconds of being told to.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	_ "time/tzdata" // a slim system has no zones of its own, and schedules name them

	"golang.org/x/sync/errgroup"

	"github.com/sedge-iot/sedge/agent"
	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices/mqtt"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/cluster"
	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/edge/member"
	"github.com/sedge-iot/sedge/edge/sqlite"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/pod"
	"github.com/sedge-iot/sedge/functions/process"
)

// A Node is a store, an agent and what runs functions for it.
type Node struct {
	Agent *agent.Agent

	options Options
	carrier Carrier
	lg      *slog.Logger
	store   *store.Store
	sandbox *process.Sandbox
	kube    *kube.Client   // of the cluster that this machine is a node of, or nil
	pods    *pod.Sandbox   // or nil
	cluster *cluster.Node  // or nil: it belongs to none
	member  *member.Member // or nil: it has joined no hub
	stray   error          // why it does not follow the hub that it has joined, or nil
	trigger net.Listener   // or nil
	token   string         // that HTTP triggers ask for, or ""
	ops     net.Listener   // for those who operate the node, or nil
}

// Open opens the store of the data directory and makes an agent that goes on
// where the last one stopped, on the bus that dial returns. Close the node when
// it has run, or if it is not to run.
func Open(o Options, dial func(*store.Store) (Carrier, error), lg *slog.Logger) (_ *Node, err error) {
	n := &Node{options: o, lg: lg}
	if n.store, err = store.Open(o.DataDir, lg.With("part", "store")); err != nil {
		return nil, DataError(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	secrets, err := openSecrets(o)
	if err != nil {
		return nil, err
	}
	n.sandbox = process.New(process.Config{
		Command: []string{"/proc/self/exe", RunnerCommand}, // this very program, also when its file was replaced
		Secrets: secrets.read,
		Logger:  lg.With("part", "process"),
	})
	noPods, err := n.openPods(secrets)
	if err != nil {
		return nil, err
	}
	if n.carrier, err = dial(n.store); err != nil {
		return nil, err
	}
	if err := n.share(); err != nil {
		return nil, err
	}
	if err := errors.Join(n.listenTrigger(o), n.listenOps(o)); err != nil {
		return nil, err
	}
	n.Agent, err = agent.New(agent.Config{
		Node:      o.Name,
		Bus:       n.carrier.Bus,
		Cluster:   n.carrier.Cluster,
		Store:     n.store,
		Sandboxes: sandboxes(n.sandbox, n.pods, noPods),
		Logger:    lg.With("part", "agent"),
		Connected: n.carrier.Connected,
		AckFirst:  ackFirst(lg),
	})
	if err != nil {
		return nil, err
	}
	n.join()
	return n, n.belong(o)
}

// current returns the revision of a function that is in force. It is called once the
// node runs.
func (n *Node) current(name string) (functions.Revision, bool) { return n.Agent.Current(name) }

// ackFirst reports whether the node is to break its promise on purpose, so that
// the test of the promise can show that it would notice.
func ackFirst(lg *slog.Logger) bool {
	if os.Getenv("SEDGE_UNSAFE_ACK_FIRST") != "1" {
		return false
	}
	lg.Error("events are acknowledged before their work is done: what runs is lost in a crash")
	return true
}

// Dial returns how to reach a broker of the owner's.
func (o Options) Dial(lg *slog.Logger) func(*store.Store) (Carrier, error) {
	return func(st *store.Store) (Carrier, error) {
		s, err := openSession(o.DataDir, o.Name, o.MQTT.Shown())
		if err != nil {
			return Carrier{}, err
		}
		lg := lg.With("part", "mqtt")
		config := o.mqtt(s.Client, lg)
		config.Session = func(kept bool) string { return sessionOf(st, kept, lg) }
		config.Held = s.Held
		config.Hold = func(held map[string]bool) { s.hold(held, lg) }
		c, err := mqtt.New(config)
		if err != nil {
			return Carrier{}, &edge.Error{Code: edge.Invalid, Message: err.Error(), Hint: "like --mqtt mqtt://localhost:1883"}
		}
		return Carrier{
			Bus:       c,
			Connected: func() (bool, string) { return connected(c.Status()) },
			Metrics:   linkMetrics(c.Status),
		}, nil
	}
}

// mqtt returns how to reach that broker under the client id, all but its session.
func (o Options) mqtt(client string, lg *slog.Logger) mqtt.Config {
	return mqtt.Config{
		URL:          o.MQTT.URL,
		ClientID:     client,
		Username:     o.MQTT.Username,
		PasswordFile: o.MQTT.PasswordFile,
		CAFile:       o.MQTT.CAFile,
		CertFile:     o.MQTT.CertFile,
		KeyFile:      o.MQTT.KeyFile,
		KeepAlive:    o.MQTT.KeepAlive,
		MaxBackoff:   min(o.MQTT.KeepAlive, mqtt.DefaultMaxBackoff),
		Logger:       lg,
	}
}

// sessionOf returns the generation of the broker's session. A store that cannot
// say gives none, and then repeated messages are not recognised.
func sessionOf(st *store.Store, kept bool, lg *slog.Logger) string {
	s, err := st.Session(kept)
	if err != nil {
		lg.Error("repeated messages will not be recognised", "err", err)
	}
	return s
}

// hold notes what the broker's session holds. What cannot be noted is asked for
// again at the next start, which only costs retained messages.
func (s *session) hold(held map[string]bool, lg *slog.Logger) {
	s.Held = held
	if err := s.save(); err != nil {
		lg.Warn("subscriptions will be made anew at the next start", "err", err)
	}
}

func connected(s mqtt.Status) (bool, string) {
	switch {
	case !s.In.Connected && s.In.LastError != "":
		return false, s.In.LastError
	case !s.Out.Connected && s.Out.LastError != "":
		return false, s.Out.LastError
	case !s.Connected():
		return false, "not connected yet"
	case len(s.Refused) > 0:
		return false, fmt.Sprintf("the broker refuses %q", s.Refused)
	case !s.Subscribed:
		return false, "the broker has not confirmed the subscriptions yet"
	}
	return true, ""
}

// Run runs functions until ctx is done, and returns nil then. Runners are the
// last to go: until then what runs is brought to an end.
func (n *Node) Run(ctx context.Context) error {
	walls, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var walled errgroup.Group // awaited below
	walled.Go(func() error { return n.sandbox.Run(walls) })
	if n.pods != nil {
		walled.Go(func() error { return n.pods.Run(walls) })
		defer context.AfterFunc(ctx, n.pods.Leave)()
	}

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.Agent.Run(ctx) })
	if n.cluster != nil {
		g.Go(func() error { return n.cluster.Run(ctx) })
	}
	if n.member != nil {
		g.Go(func() error { return n.member.Run(ctx) })
	}
	if n.trigger != nil {
		g.Go(func() error { return n.serve(ctx, "http triggers", n.trigger, n.guarded(n.Agent.Trigger())) })
	}
	if n.ops != nil {
		g.Go(func() error { return n.serve(ctx, "metrics and health", n.ops, n.opsHandler()) })
	}
	g.Go(func() error { return n.watchdog(ctx) })
	err := g.Wait()
	stop()
	return errors.Join(err, walled.Wait())
}

// TriggerAddr returns where HTTP triggers are served, or "".
func (n *Node) TriggerAddr() string { return addr(n.trigger) }

// OpsAddr returns where metrics and health are served, or "".
func (n *Node) OpsAddr() string { return addr(n.ops) }

func addr(ln net.Listener) string {
	if ln == nil {
		return ""
	}
	return ln.Addr().String()
}

// Close lets go of the data directory. It must not be called while Run runs.
func (n *Node) Close() error {
	var errs []error
	for _, ln := range []net.Listener{n.trigger, n.ops} {
		if ln == nil {
			continue
		}
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, n.store.Close())...)
}

// DataError says what to do about a data directory that cannot be used.
func DataError(err error) error {
	if locked, ok := errors.AsType[*sqlite.LockedError](err); ok {
		hint := "stop it, or give this one a place of its own: --data-dir DIR"
		return &edge.Error{Code: edge.Conflict, Message: fmt.Sprintf("%s is in use by process %d", locked.Dir, locked.PID), Hint: hint}
	}
	if errors.Is(err, os.ErrPermission) {
		return &edge.Error{Code: edge.Internal, Message: err.Error(), Hint: "choose a folder that you may write to: --data-dir DIR"}
	}
	return err
}
