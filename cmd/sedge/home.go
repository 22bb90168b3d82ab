package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/devices/mqtt"
	"github.com/sedge-iot/sedge/devices/sim"
)

// A home is the simulated one of a demo, connected to the broker as any device
// is: by a socket.
type home struct {
	world  *sim.World
	client *mqtt.Client
	tape   tape

	mu    sync.Mutex
	ears  []ear // guarded by mu
	fault error // guarded by mu; why something could not be said
}

// An ear is who wants to hear the messages of a filter.
type ear struct {
	filter devices.Filter
	hear   func(topic string, payload []byte)
}

func newHome(broker string, rate float64) (*home, error) {
	c, err := mqtt.New(mqtt.Config{URL: broker, ClientID: "home"})
	if err != nil {
		return nil, fmt.Errorf("connect the home's devices: %w", err)
	}
	h := &home{client: c, world: sim.Home(uint64(time.Now().UnixNano()))}
	h.world.Rate, h.world.QoS = rate, 1
	h.world.Spoke = func(topic string, _ []byte, at time.Time) {
		if strings.HasSuffix(topic, "/hall_motion") {
			h.tape.moved(at)
		}
	}
	h.world.Obeyed = func(device, command string, at time.Time) {
		if device == "hall_lamp" {
			h.tape.lit(command, at)
		}
	}
	return h, nil
}

// live has the home live until ctx is done and what was said last is answered.
func (h *home) live(ctx context.Context) error {
	connected, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var client sync.WaitGroup
	defer client.Wait()
	client.Go(func() { h.client.Run(connected, h.hear) }) // which only ever returns nil
	defer stop()
	return h.world.Run(ctx, sim.Bus{
		Publish:   h.publish,
		Subscribe: func(filter string, hear func(string, []byte)) error { return h.subscribe(ctx, filter, hear) },
	})
}

// publish says p, and returns why something that was said before went wrong.
func (h *home) publish(p devices.Publication) error {
	h.client.Publish(p, func(err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if errors.Is(err, mqtt.ErrFull) {
			err = errors.New("this is too fast for this machine: lower --rate")
		}
		if err != nil && h.fault == nil {
			h.fault = err
		}
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fault
}

// subscribe returns once the broker knows.
func (h *home) subscribe(ctx context.Context, filter string, hear func(string, []byte)) error {
	f, err := devices.ParseFilter(filter)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.ears = append(h.ears, ear{f, hear})
	var all []string
	for _, e := range h.ears {
		all = append(all, e.filter.String())
	}
	h.mu.Unlock()
	h.client.Subscribe(all)
	return poll(ctx, 10*time.Second, func() bool { s := h.client.Status(); return s.Connected() && s.Subscribed })
}

func (h *home) hear(m devices.Message) {
	h.mu.Lock()
	ears := h.ears
	h.mu.Unlock()
	for _, e := range ears {
		if _, ok := e.filter.Match(m.Topic); ok {
			e.hear(m.Topic, m.Payload)
		}
	}
	if m.Ack != nil {
		m.Ack.Ack()
	}
}

// A tape keeps the latest reactions, to be shown.
type tape struct {
	mu     sync.Mutex
	moves  []time.Time // guarded by mu; not answered yet, oldest first
	latest []reaction  // guarded by mu; newest last
}

// A reaction is a move in the dark, answered by the lamp.
type reaction struct {
	at      time.Time
	took    time.Duration
	command string
}

const maxLatest = 8

func (t *tape) moved(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moves = append(t.moves, at)
}

func (t *tape) lit(command string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.moves) == 0 {
		return
	}
	r := reaction{at: t.moves[0], took: at.Sub(t.moves[0]), command: command}
	t.moves = t.moves[1:]
	t.latest = append(t.latest[max(0, len(t.latest)-maxLatest+1):], r)
}

// reactions returns the latest ones, newest last.
func (t *tape) reactions() []reaction {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]reaction(nil), t.latest...)
}

// poll waits until it is so.
func poll(ctx context.Context, patience time.Duration, so func() bool) error {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
