package mqtt

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sedge-iot/sedge/devices"
)

const (
	subackTimeout = 30 * time.Second // for the broker to answer SUBSCRIBE or UNSUBSCRIBE
	canaryTimeout = 30 * time.Second // for the canary to come back
)

var errNoSuback = errors.New("broker does not answer SUBSCRIBE")

// A hearing is what one inbound connection knows of its messages.
type hearing struct {
	session string
	kept    bool
	canary  string      // the payload that ends what was queued
	queued  atomic.Bool // the canary has not come back yet
}

func (c *Client) canaryTopic() string { return "sedge/" + c.config.ClientID + "/canary" }

// listen is one inbound connection, from dialling to its end.
func (c *Client) listen(ctx context.Context, up func(), hear func(devices.Message)) error {
	if !c.awaitResume(ctx) {
		return nil
	}
	h := &hearing{canary: rand.Text()}
	l, err := c.dial(ctx, role{
		id:    c.config.ClientID,
		greet: func(kept bool) { c.greeted(h, kept) },
		hear:  func(m devices.Message) { c.heard(h, m, hear) },
	})
	if err != nil {
		return err
	}
	defer l.shut()
	up()
	var late <-chan time.Time   // when to stop waiting for the canary
	var halted <-chan time.Time // when a pause is long enough to close; nil: there is none
	for asked := false; ; {
		if filters := c.wants(); filters != nil && halted == nil {
			if err := c.subscribe(ctx, l, filters); err != nil {
				return err
			}
			if !asked {
				asked, late = true, time.After(canaryTimeout)
				c.sendCanary(l, h)
			}
		}
		select {
		case <-l.ended:
			return l.why()
		case <-ctx.Done():
			return nil
		case <-late:
			if h.queued.Swap(false) {
				c.config.Logger.Warn("canary did not come back: messages no longer count as queued", "topic", c.canaryTopic())
			}
		case <-halted:
			return nil
		case <-c.change:
			switch paused := c.isPaused(); {
			case paused && halted == nil:
				halted = time.After(c.config.KeepAlive)
				l.halt(true)
			case !paused && halted != nil:
				halted = nil
				l.halt(false)
			}
		}
	}
}

// awaitResume returns when the client is not paused, or false if ctx is done.
func (c *Client) awaitResume(ctx context.Context) bool {
	for c.isPaused() {
		select {
		case <-c.change:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (c *Client) isPaused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paused
}

// greeted takes the broker's word on the session. It runs before the session's
// first message is read.
func (c *Client) greeted(h *hearing, kept bool) {
	h.session = c.config.Session(kept)
	h.kept = kept
	h.queued.Store(kept)
	c.live.Store(false)
	c.mu.Lock()
	c.answered = false
	if !kept {
		c.held = nil
	}
	c.mu.Unlock()
	if !kept {
		c.config.Hold(map[string]bool{})
	}
}

// heard stamps a message and hands it on; the canary it keeps.
func (c *Client) heard(h *hearing, m devices.Message, hear func(devices.Message)) {
	if m.Topic == c.canaryTopic() {
		if string(m.Payload) == h.canary {
			h.queued.Store(false)
			c.live.Store(true)
		}
		if m.Ack != nil {
			m.Ack.Ack()
		}
		return
	}
	c.received.Add(1)
	if m.Truncated > 0 {
		c.truncated.Add(1)
	}
	if m.QoS > 0 {
		m.Session = h.session
	}
	m.Queued = h.queued.Load()
	hear(m)
}

// sendCanary publishes the message that ends what was queued. At QoS 1 brokers
// deliver it after all that waited.
func (c *Client) sendCanary(l *link, h *hearing) {
	p := devices.Publication{Topic: c.canaryTopic(), Payload: []byte(h.canary), QoS: 1}
	if err := l.publish(p, func(error) {}); err != nil {
		c.config.Logger.Debug("canary not sent", "err", err) // the connection has ended
	}
}

// wants returns the filters last asked for, sorted, or nil before Subscribe.
func (c *Client) wants() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wanted
}

// subscribe brings the broker's session from what it holds to what is wanted.
// What is to change is noted as unsettled before the broker is told, and as
// settled after it has answered, so that whenever the process ends, the next one
// knows what it must ask for again.
func (c *Client) subscribe(ctx context.Context, l *link, wanted []string) error {
	add, drop := c.differences(wanted)
	if len(add)+len(drop) == 0 {
		c.settled(wanted, nil)
		return nil
	}
	c.hold(func(held map[string]bool) {
		for _, f := range slices.Concat(add, drop) {
			held[f] = false
		}
	})
	granted, refused, err := ask(ctx, l, add)
	if err != nil {
		return err
	}
	if len(drop) > 0 { // only now, so that a wider filter that replaces narrower ones leaves no gap
		if err := await(ctx, l, l.paho.Unsubscribe(drop...)); err != nil {
			return fmt.Errorf("unsubscribe: %w", err)
		}
	}
	c.hold(func(held map[string]bool) {
		for _, f := range granted {
			held[f] = true
		}
		for _, f := range slices.Concat(refused, drop) {
			delete(held, f)
		}
	})
	c.settled(wanted, refused)
	return nil
}

// differences returns what to subscribe and what to unsubscribe.
func (c *Client) differences(wanted []string) (add, drop []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range wanted {
		if !c.held[f] {
			add = append(add, f)
		}
	}
	for f := range c.held {
		if _, ok := slices.BinarySearch(wanted, f); !ok {
			drop = append(drop, f)
		}
	}
	return add, drop
}

// hold changes what is known of the broker's session and has it remembered.
func (c *Client) hold(change func(held map[string]bool)) {
	c.mu.Lock()
	if c.held == nil {
		c.held = map[string]bool{}
	}
	change(c.held)
	held := maps.Clone(c.held)
	c.mu.Unlock()
	c.config.Hold(held)
}

// ask subscribes filters, each with a packet of its own, and sorts them by the
// broker's answer.
func ask(ctx context.Context, l *link, filters []string) (granted, refused []string, err error) {
	tokens := make([]paho.Token, len(filters))
	for i, f := range filters {
		tokens[i] = l.paho.Subscribe(f, 1, nil)
	}
	for i, f := range filters {
		if err := await(ctx, l, tokens[i]); err != nil {
			return nil, nil, fmt.Errorf("subscribe %s: %w", f, err)
		}
		if code := tokens[i].(*paho.SubscribeToken).Result()[f]; code > 2 {
			refused = append(refused, f)
		} else {
			granted = append(granted, f)
		}
	}
	return granted, refused, nil
}

// settled notes that the broker has answered for the wanted filters, and which
// of them it does not give.
func (c *Client) settled(wanted, refused []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range refused {
		if !slices.Contains(c.refused, f) {
			c.config.Logger.Warn("broker refuses a subscription", "filter", f)
		}
	}
	c.refused = refused
	c.answered = slices.Equal(wanted, c.wanted) // which may have changed meanwhile
}

// await waits for the broker's answer. If the connection has ended, why it did
// says more than what paho makes of it.
func await(ctx context.Context, l *link, token paho.Token) error {
	late := time.NewTimer(subackTimeout)
	defer late.Stop()
	select {
	case <-token.Done():
		if token.Error() != nil && l.why() != nil {
			return l.why()
		}
		return token.Error()
	case <-l.ended:
		return l.why()
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		return errNoSuback
	}
}
