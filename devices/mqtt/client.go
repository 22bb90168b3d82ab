package mqtt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sedge-iot/sedge/devices"
)

// The outcomes of a publication that was not confirmed.
var (
	ErrOffline = errors.New("no connection to the broker")
	ErrFull    = errors.New("broker has too much to confirm")
)

// A Client speaks to one broker. Its methods may be called from several
// goroutines.
type Client struct {
	config Config
	to     endpoint
	out    atomic.Pointer[link] // or nil: offline

	received, truncated, malformed atomic.Int64
	live                           atomic.Bool // the canary came back on this connection

	change chan struct{} // holds a token when wanted or paused has changed

	mu       sync.Mutex
	wanted   []string // merged and sorted; nil before Subscribe
	answered bool     // the broker has answered for wanted
	paused   bool
	held     map[string]bool // filters in the broker's session, and whether the broker has confirmed so
	refused  []string        // wanted filters that the broker does not give, sorted
	status   Status
}

// New returns a client for the broker of config, or says everything that is
// wrong with config. It does not connect.
func New(config Config) (*Client, error) {
	to, err := config.settle()
	if err != nil {
		return nil, fmt.Errorf("configure mqtt: %w", err)
	}
	return &Client{
		config: config,
		to:     to,
		change: make(chan struct{}, 1),
		held:   maps.Clone(config.Held),
	}, nil
}

// Run keeps both connections until ctx is done, and returns nil then, when both
// are closed and every publication has its outcome. Messages are given to hear
// one after another, in the broker's order; hear must not block: while it does,
// nothing is read, and the broker gives the connection up. Run is called once.
func (c *Client) Run(ctx context.Context, hear func(devices.Message)) error {
	var wg sync.WaitGroup
	wg.Go(func() {
		c.keep(ctx, "outbound", &c.status.Out, c.speak)
	})
	wg.Go(func() {
		c.keep(ctx, "inbound", &c.status.In, func(ctx context.Context, up func()) error {
			return c.listen(ctx, up, hear)
		})
	})
	wg.Wait()
	return nil
}

// Publish sends p and calls done once with its outcome: nil when the broker has
// confirmed it (at QoS 0, when it is written), [devices.ErrLost] when the connection
// ended first, [ErrOffline] when there is none, [ErrFull] when some thousands
// wait for their confirmation, or what is wrong with p. It never blocks; nor
// must done, which is called before Publish returns or on a goroutine that
// serves the connection. Publications go out in the order of the calls.
func (c *Client) Publish(p devices.Publication, done func(error)) {
	c.PublishOn(c.Line(), p, done)
}

// Line names the connection that publications go out on now; nil: there is none.
// When it is named, every publication of those before has its outcome.
func (c *Client) Line() any {
	if l := c.out.Load(); l != nil {
		return l
	}
	return nil
}

// PublishOn is [Client.Publish] over that line: if it is no more, the outcome is
// [ErrOffline]. Who takes the line before looking at what is not confirmed can be
// sure that p does not overtake anything that was lost.
func (c *Client) PublishOn(line any, p devices.Publication, done func(error)) {
	if err := c.publish(line, p, done); err != nil {
		done(err)
	}
}

func (c *Client) publish(line any, p devices.Publication, done func(error)) error {
	if err := devices.CheckTopic(p.Topic); err != nil {
		return err
	}
	if p.QoS > 2 {
		return fmt.Errorf("publish at QoS %d: there is none above 2", p.QoS)
	}
	if len(p.Payload) > c.config.MaxPacket {
		return fmt.Errorf("publish %d bytes: want at most %d", len(p.Payload), c.config.MaxPacket)
	}
	l, ok := line.(*link)
	if !ok {
		return ErrOffline
	}
	return l.publish(p, done)
}

// Subscribe replaces the set of filters, in MQTT's form, whose messages are
// wanted; all are subscribed at QoS 1. It returns at once: the broker is told
// only what differs, now or when it can be reached.
func (c *Client) Subscribe(filters []string) {
	merged := devices.MergeFilters(slices.Concat(filters, []string{c.canaryTopic()}))
	c.mu.Lock()
	c.wanted, c.answered = merged, false
	c.mu.Unlock()
	c.changed()
}

// Pause stops reading from the inbound connection until Resume: for a node that can
// take nothing just now. Acknowledgements still go out, since they are what makes
// room. A pause that lasts longer than the keep-alive closes the connection, whose
// session the broker keeps.
func (c *Client) Pause() { c.setPaused(true) }

// Resume takes Pause back.
func (c *Client) Resume() { c.setPaused(false) }

func (c *Client) setPaused(to bool) {
	c.mu.Lock()
	c.paused = to
	c.mu.Unlock()
	c.changed()
}

func (c *Client) changed() {
	select {
	case c.change <- struct{}{}:
	default: // it has been told already
	}
}

// speak is one outbound connection, from dialling to its end.
func (c *Client) speak(ctx context.Context, up func()) error {
	l, err := c.dial(ctx, role{id: c.config.ClientID + "-out", clean: true, greet: func(bool) {}})
	if err != nil {
		return err
	}
	defer l.shut()
	c.out.Store(l)
	defer c.out.Store(nil)
	up()
	select {
	case <-l.ended:
	case <-ctx.Done():
	}
	return l.why()
}
