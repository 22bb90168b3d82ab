package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/devices/mqtt"
)

// settleTime is how long the last events of a demo may wait for their answer.
const settleTime = 5 * time.Second

var rooms = []string{"hall", "stairs", "kitchen", "bathroom", "attic", "cellar", "porch", "garage"}

// A home is what a demo's devices are: in each room a motion sensor and a lamp,
// that speak to the broker as Zigbee2MQTT does.
type home struct {
	client *mqtt.Client
	tally  *tally
	stop   context.CancelFunc
	ended  chan error
}

// openHome connects a home to a broker. Close it.
func openHome(ctx context.Context, broker string) (*home, error) {
	c, err := mqtt.New(mqtt.Config{URL: broker, ClientID: "home"})
	if err != nil {
		return nil, fmt.Errorf("connect the demo's devices: %w", err)
	}
	h := &home{client: c, tally: newTally(), ended: make(chan error, 1)}
	c.Subscribe([]string{"zigbee2mqtt/+/set"})
	ctx, h.stop = context.WithCancel(ctx)
	go func() { h.ended <- c.Run(ctx, h.hear) }() // awaited by close
	err = poll(ctx, 10*time.Second, func() bool { s := c.Status(); return s.Connected() && s.Subscribed && s.Live })
	if err != nil {
		h.close()
		return nil, fmt.Errorf("connect the demo's devices: %w", err)
	}
	return h, nil
}

func (h *home) close() {
	h.stop()
	<-h.ended
}

func (h *home) devices() int { return 2 * len(rooms) }

// hear is a lamp that is told to go on.
func (h *home) hear(m devices.Message) {
	name := strings.TrimSuffix(strings.TrimPrefix(m.Topic, "zigbee2mqtt/"), "_lamp/set")
	h.tally.answered(name, m.Time)
	if m.Ack != nil {
		m.Ack.Ack()
	}
}

// live has people move about the dark rooms until ctx is done, and then waits
// for the last lamps.
func (h *home) live(ctx, running context.Context, perSecond float64) error {
	pace := rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond/100)))
	for pace.Wait(ctx) == nil {
		if err := h.move(rooms[rand.N(len(rooms))]); err != nil {
			return err
		}
	}
	if running.Err() != nil {
		return nil // the program has ended, and says itself why
	}
	// Whether all were answered, the count tells.
	_ = poll(running, settleTime, func() bool { return h.tally.count().lost() == 0 })
	return nil
}

// move is somebody who enters a dark room.
func (h *home) move(room string) error {
	payload, err := json.Marshal(map[string]any{
		"occupancy": true, "illuminance": rand.N(19), "battery": 40 + rand.N(60), "linkquality": 60 + rand.N(140),
	})
	if err != nil {
		return err
	}
	h.tally.said(room, time.Now())
	h.client.Publish(devices.Publication{Topic: "zigbee2mqtt/" + room + "_motion", Payload: payload, QoS: 1}, func(error) {})
	return nil
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
