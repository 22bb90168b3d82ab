package mqtt_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/devices/mqtt"
	"github.com/sedge-iot/sedge/devices/mqtttest"
)

const patience = 10 * time.Second // for what should take milliseconds

// A node is a client that runs, and what it hears.
type node struct {
	*mqtt.Client
	t     testing.TB
	heard chan devices.Message
	stop  func() // returns when Run has
}

// start runs a client until the test ends or stop is called.
func start(t testing.TB, config mqtt.Config, filters ...string) *node {
	t.Helper()
	if config.ClientID == "" {
		config.ClientID = "node"
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	c, err := mqtt.New(config)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Client: c, t: t, heard: make(chan devices.Message, 10_000)}
	if filters != nil {
		c.Subscribe(filters)
	}
	n.stop = run(t, c, func(m devices.Message) { n.heard <- m })
	return n
}

// run runs c until the test ends or stop is called, which waits for it.
func run(t testing.TB, c *mqtt.Client, hear func(devices.Message)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx, hear); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
	stop = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// ready waits until the client is connected, subscribed and has heard itself.
func (n *node) ready() *node {
	n.t.Helper()
	eventually(n.t, "the client is ready", func() bool {
		s := n.Status()
		return s.Connected() && s.Subscribed && s.Live
	})
	return n
}

// connected waits until both connections are up, of a client that subscribes to
// nothing.
func (n *node) connected() *node {
	n.t.Helper()
	eventually(n.t, "both connections are up", func() bool { return n.Status().Connected() })
	return n
}

// hears waits for the next message and checks its payload.
func (n *node) hears(want string) devices.Message {
	n.t.Helper()
	select {
	case m := <-n.heard:
		if got := string(m.Payload); got != want {
			n.t.Fatalf("heard %.60q on %.60s, want %.60q", got, m.Topic, want)
		}
		return m
	case <-time.After(patience):
		n.t.Fatalf("heard nothing, want %.60q; status %+v", want, n.Status())
		panic("not reached")
	}
}

// hearsUntil acknowledges and collects what comes until the payload last does.
func (n *node) hearsUntil(last string) (before []devices.Message) {
	n.t.Helper()
	for late := time.After(patience); ; {
		select {
		case m := <-n.heard:
			m.Ack.Ack()
			if string(m.Payload) == last {
				return before
			}
			before = append(before, m)
		case <-late:
			n.t.Fatalf("did not hear %q, but %d others; status %+v", last, len(before), n.Status())
		}
	}
}

// acknowledged acknowledges m and waits until the broker knows.
func (n *node) acknowledged(broker *mqtttest.Broker, m devices.Message) {
	n.t.Helper()
	m.Ack.Ack()
	line := fmt.Sprintf("Received PUBACK from node (Mid: %d,", m.PacketID)
	eventually(n.t, "the broker knows", func() bool { return strings.Contains(broker.Log(), line) })
}

// publishes publishes at QoS 1 and waits for the outcome.
func (n *node) publishes(topic, payload string) error {
	done := make(chan error, 1)
	n.Publish(devices.Publication{Topic: topic, Payload: []byte(payload), QoS: 1}, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		n.t.Fatalf("publication has no outcome; status %+v", n.Status())
		panic("not reached")
	}
}

// device is a client of its own kind, so that what it says does not rest on the
// code under test.
func device(t testing.TB, url string) paho.Client {
	t.Helper()
	url = strings.Replace(url, "mqtt://", "tcp://", 1)
	c := paho.NewClient(paho.NewClientOptions().AddBroker(url).SetClientID("device").SetAutoReconnect(false))
	await(t, "connect device", c.Connect())
	t.Cleanup(func() { c.Disconnect(100) })
	return c
}

// say publishes at QoS 1, confirmed.
func say(t testing.TB, d paho.Client, topic, payload string) {
	t.Helper()
	await(t, "publish "+topic, d.Publish(topic, 1, false, payload))
}

func await(t testing.TB, what string, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("%s: %v", what, token.Error())
	}
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !holds(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// noLeftovers checks, once all else has ended, that no goroutine is left of the
// client or of what is beneath it.
func noLeftovers(t testing.TB) {
	t.Cleanup(func() {
		eventually(t, "no goroutine of a client is left", func() bool {
			buf := make([]byte, 1<<20)
			stacks := string(buf[:runtime.Stack(buf, true)])
			return !strings.Contains(stacks, "paho.mqtt.golang.") && !strings.Contains(stacks, "sedge/devices/mqtt.")
		})
	})
}
