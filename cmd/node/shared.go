package node

import (
	"context"
	"log/slog"
	"sync"

	"github.com/sedge-iot/sedge/agent"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/devices/mqtt"
	"github.com/sedge-iot/sedge/edge"
)

// A Lease is what the nodes of a cluster share: which of them leads, and what the
// one that does must know of the cluster's session at the broker. What is written
// through it the next holder reads. Its methods may be called from several
// goroutines.
type Lease interface {
	// Lead and Holder are those of [agent.Cluster].
	Lead(ctx context.Context, lead func(ctx context.Context)) error
	Holder() string

	// Client returns the client id under which the broker keeps the session: the
	// same on every node, and for ever. Who leads knows it; before, it may be "".
	Client() string

	// Generation returns the name of that session, on which the ids of events rest:
	// the one before if the broker has kept it, or else one that there never was, on
	// this node or any other. It is called by the holder at each connection, before
	// the first message, and must have written a new name when it returns. Only if
	// that is not to be had it returns "": then repeated messages may be mistaken.
	Generation(kept bool) string

	// Held and Hold are those of [mqtt.Config], for that session. Held is called at
	// each begin of a lead.
	Held() map[string]bool
	Hold(held map[string]bool)
}

// Cluster makes the node one of those that share the lease, at the broker of the
// options.
func (o Options) Cluster(lease Lease, lg *slog.Logger) (*agent.Cluster, error) {
	const someone = "sedge-cluster" // whoever it will be: the rest can be checked now
	b := &clusterBus{lease: lease, config: o.mqtt(someone, lg.With("part", "mqtt", "of", "cluster"))}
	b.config.Session, b.config.Hold = lease.Generation, lease.Hold
	if _, err := mqtt.New(b.config); err != nil {
		return nil, &edge.Error{Code: edge.Invalid, Message: "cluster: " + err.Error(), Hint: "like --mqtt mqtt://broker:1883"}
	}
	return &agent.Cluster{Bus: b, Lead: lease.Lead, Holder: lease.Holder, Connected: b.connected}, nil
}

// A clusterBus speaks to the broker as the cluster, while this node leads it. Each
// run is a client of its own: between two of them other nodes have changed what the
// session holds.
type clusterBus struct {
	lease  Lease
	config mqtt.Config

	mu      sync.Mutex
	filters []string
	paused  bool
	client  *mqtt.Client // or nil: this node does not lead
}

// Run takes the cluster's session over and hears until ctx is done.
func (b *clusterBus) Run(ctx context.Context, hear func(devices.Message)) error {
	config := b.config
	config.ClientID, config.Held = b.lease.Client(), b.lease.Held()
	c, err := mqtt.New(config)
	if err != nil {
		return err
	}
	b.begin(c)
	defer b.end()
	return c.Run(ctx, hear)
}

func (b *clusterBus) begin(c *mqtt.Client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.client = c
	c.Subscribe(b.filters)
	if b.paused {
		c.Pause()
	}
}

func (b *clusterBus) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.client = nil
}

// Subscribe sets the filters to hear, now and whenever this node leads.
func (b *clusterBus) Subscribe(filters []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.filters = filters
	if b.client != nil {
		b.client.Subscribe(filters)
	}
}

// Line names the connection of the client that leads, if one does.
func (b *clusterBus) Line() any {
	if c := b.leading(); c != nil {
		return c.Line()
	}
	return nil
}

// PublishOn sends p while this node leads; at other times it has no connection.
func (b *clusterBus) PublishOn(line any, p devices.Publication, done func(error)) {
	if c := b.leading(); c != nil {
		c.PublishOn(line, p, done)
		return
	}
	done(mqtt.ErrOffline)
}

func (b *clusterBus) leading() *mqtt.Client {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.client
}

// Pause leaves what comes with the broker, until Resume.
func (b *clusterBus) Pause() { b.setPaused(true) }

// Resume takes Pause back.
func (b *clusterBus) Resume() { b.setPaused(false) }

func (b *clusterBus) setPaused(to bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.paused = to
	switch {
	case b.client == nil:
	case to:
		b.client.Pause()
	default:
		b.client.Resume()
	}
}

func (b *clusterBus) connected() (bool, string) {
	c := b.leading()
	if c == nil {
		return false, "this node does not lead the cluster"
	}
	return connected(c.Status())
}
