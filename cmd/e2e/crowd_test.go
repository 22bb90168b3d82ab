package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/sedge-iot/sedge/devices/mqtttest"
)

// A crowd is devices that number what they say, from 1, and say it until the
// broker has it: over a lost connection they repeat, in order, what was not
// acknowledged.
type crowd struct {
	broker  string // host:port
	name    string
	devices []string
	rate    int // events a second, of all together

	sent     map[string]int // device → numbers given
	unacked  []saying       // in order
	repeated int            // sayings that were sent again over another connection
}

// A saying is an event under way.
type saying struct {
	device string
	n      int
	token  mqtt.Token // of the connection that is up
}

// crowdWindow is how many sayings may be under way at a time.
const crowdWindow = 1000

func newCrowd(broker, name string, devices, rate int) *crowd {
	c := &crowd{broker: broker, name: name, rate: rate, sent: map[string]int{}}
	for i := range devices {
		c.devices = append(c.devices, fmt.Sprintf("%s%d", name, i))
	}
	return c
}

// run speaks until stop is closed and then waits until the broker has it all.
// It returns how many events each device said.
func (c *crowd) run(ctx context.Context, stop <-chan struct{}) (map[string]int, error) {
	for {
		done, err := c.connected(ctx, stop)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%d events were not acknowledged: %w", len(c.unacked), ctx.Err())
		case done:
			return maps.Clone(c.sent), nil
		case err != nil:
			pause(ctx, 20*time.Millisecond) // the broker is away
		}
	}
}

// connected speaks over one connection. It returns true when all is said.
func (c *crowd) connected(ctx context.Context, stop <-chan struct{}) (done bool, err error) {
	lost := make(chan struct{})
	client := mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker("tcp://" + c.broker).
		SetClientID("crowd-" + c.name).
		SetAutoReconnect(false).
		SetConnectTimeout(time.Second).
		SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) }))
	if t := client.Connect(); !t.WaitTimeout(2*time.Second) || t.Error() != nil {
		return false, errors.Join(errors.New("connect crowd"), t.Error())
	}
	defer client.Disconnect(0)
	for i, s := range c.unacked {
		c.unacked[i].token = client.Publish(s.topic(), 1, false, s.payload())
		c.repeated++
	}
	tick := time.NewTicker(time.Second / time.Duration(c.rate))
	defer tick.Stop()
	for at := 0; ; {
		if err := c.forget(); err != nil {
			return false, err
		}
		select {
		case <-stop:
			if len(c.unacked) == 0 {
				return true, nil
			}
		default:
			if len(c.unacked) < crowdWindow {
				device := c.devices[at%len(c.devices)]
				at++
				c.sent[device]++
				s := saying{device: device, n: c.sent[device]}
				s.token = client.Publish(s.topic(), 1, false, s.payload())
				c.unacked = append(c.unacked, s)
			}
		}
		select {
		case <-tick.C:
		case <-lost:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// forget drops the oldest sayings that the broker has acknowledged.
func (c *crowd) forget() error {
	for len(c.unacked) > 0 {
		select {
		case <-c.unacked[0].token.Done():
			if err := c.unacked[0].token.Error(); err != nil {
				return err // the connection broke; it goes out again over the next
			}
			c.unacked = c.unacked[1:]
		default:
			return nil
		}
	}
	return nil
}

func (s saying) topic() string   { return "in/" + s.device }
func (s saying) payload() []byte { return fmt.Appendf(nil, `{"n":%d}`, s.n) }

// listen hands everything on the topics to hear until the test ends. Its session
// is kept by the broker, so that nothing is missed while the link is down.
func listen(t *testing.T, broker, topics string, hear func(output)) {
	t.Helper()
	handle := func(_ mqtt.Client, m mqtt.Message) {
		out := output{Device: strings.TrimPrefix(m.Topic(), "in/")} // an event has no more to tell
		if err := json.Unmarshal(m.Payload(), &out); err != nil {
			t.Errorf("%q on %s: %v", m.Payload(), m.Topic(), err)
			return
		}
		hear(out)
	}
	subscribed := make(chan error, 1)
	client := mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker("tcp://" + broker).
		SetClientID("listener").
		SetCleanSession(false).
		SetConnectRetry(true).
		SetConnectRetryInterval(50 * time.Millisecond).
		SetMaxReconnectInterval(50 * time.Millisecond).
		SetDefaultPublishHandler(handle).
		SetOnConnectHandler(func(c mqtt.Client) {
			token := c.Subscribe(topics, 1, handle)
			token.Wait()
			select {
			case subscribed <- token.Error():
			default: // it is not the first time
			}
		}))
	client.Connect()
	t.Cleanup(func() { client.Disconnect(100) })
	select {
	case err := <-subscribed:
		if err != nil {
			t.Fatalf("subscribe to %s: %v", topics, err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no connection to the broker to listen on")
	}
}

func TestACrowdSaysEverythingOverConnectionsThatBreak(t *testing.T) {
	broker := mqtttest.Start(t, mqtttest.Options{})
	proxy := mqtttest.StartProxy(t, broker.Addr())
	o := newOracle()
	listen(t, broker.Addr(), "in/#", o.hear)
	c := newCrowd(proxy.Addr(), "device", 3, 500)
	stop, said := make(chan struct{}), make(chan map[string]int, 1)
	go func() { // ends with the context at the latest, and says so
		sent, err := c.run(t.Context(), stop)
		if err != nil {
			t.Error(err)
		}
		said <- sent
	}()
	for i := range 5 {
		await(t, "the crowd to go on", func() error { return o.reached("", "device0", 20*(i+1)) })
		proxy.Cut()
	}
	close(stop)
	sent := <-said
	for device, n := range sent {
		await(t, "the last of "+device, func() error { return o.reached("", device, n) })
	}
	v := o.judge([]string{""}, sent)
	if len(v.lost)+len(v.inverted) > 0 {
		t.Error(v)
	}
	if v.repeated > c.repeated {
		t.Errorf("%d repeated, want at most what the crowd repeated, %d", v.repeated, c.repeated)
	}
}

// pause waits for d, or less if ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
