package mqtt_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/devices/mqtt"
	"github.com/sedge-iot/sedge/devices/mqtttest"
)

// A clock counts the time in which this process was let run: on a busy machine
// the rest is nobody's fault.
type clock struct {
	last time.Time
	ran  time.Duration
}

// tick is called every few milliseconds, and at first to start the clock.
func (c *clock) tick() {
	const held = 50 * time.Millisecond
	now := time.Now()
	if gap := now.Sub(c.last); !c.last.IsZero() {
		c.ran += min(gap, held)
	}
	c.last = now
}

func TestHalfOpenLinkIsGivenUpInTime(t *testing.T) {
	noLeftovers(t)
	const keepAlive, slack, links = 2 * time.Second, 500 * time.Millisecond, 20
	broker := mqtttest.Start(t, mqtttest.Options{})
	var proxies [links]*mqtttest.Proxy
	var nodes [links]*node
	for i := range links {
		proxies[i] = mqtttest.StartProxy(t, broker.Addr())
		nodes[i] = start(t, mqtt.Config{URL: "mqtt://" + proxies[i].Addr(), ClientID: string(rune('a' + i)), KeepAlive: keepAlive}, "x").ready()
	}
	var c clock
	c.tick()
	for i, p := range proxies {
		p.Silence([][]mqtttest.Direction{nil, {mqtttest.ToTarget}, {mqtttest.FromTarget}}[i%3]...)
	}
	seen := map[int]time.Duration{}
	eventually(t, "both losses are seen on every link", func() bool {
		c.tick()
		for i, n := range nodes {
			if s := n.Status(); seen[i] == 0 && !s.In.Connected && !s.Out.Connected {
				seen[i] = c.ran
			}
		}
		return len(seen) == links
	})
	for i, n := range nodes {
		if got, want := seen[i], keepAlive*3/2+slack; got > want {
			t.Errorf("half-open link %d seen after %v, want at most %v", i, got, want)
		}
		proxies[i].Heal()
		proxies[i].Cut() // spares waiting for a CONNACK that was held back
		n.ready()
	}
}

// A tally counts the outcomes of publications, each of which must come once.
type tally struct {
	mu       sync.Mutex
	outcomes []error
	twice    int
}

func (a *tally) one() func(error) {
	var told atomic.Bool
	return func(err error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if told.Swap(true) {
			a.twice++
		}
		a.outcomes = append(a.outcomes, err)
	}
}

func (a *tally) check(t *testing.T, want int, allowed ...error) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.outcomes) != want || a.twice > 0 {
		t.Errorf("%d outcomes, %d of them told twice, want %d told once", len(a.outcomes), a.twice, want)
	}
	for _, err := range a.outcomes {
		ok := false
		for _, e := range allowed {
			ok = ok || errors.Is(err, e)
		}
		if !ok {
			t.Fatalf("outcome %v, want one of %v", err, allowed)
		}
	}
}

func (a *tally) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.outcomes)
}

func TestPublicationsOnACutLinkAreLost(t *testing.T) {
	noLeftovers(t)
	broker := mqtttest.Start(t, mqtttest.Options{})
	proxy := mqtttest.StartProxy(t, broker.Addr())
	n := start(t, mqtt.Config{URL: "mqtt://" + proxy.Addr()}).connected()
	proxy.Silence(mqtttest.FromTarget) // the broker confirms, and nobody hears it
	var a tally
	for range 1000 {
		n.Publish(devices.Publication{Topic: "a", Payload: []byte("x"), QoS: 1}, a.one())
	}
	a.check(t, 0)
	proxy.Refuse()
	proxy.Cut()
	eventually(t, "each has its outcome", func() bool { return a.count() == 1000 })
	a.check(t, 1000, devices.ErrLost)

	eventually(t, "the client is offline", func() bool { return !n.Status().Out.Connected })
	var b tally
	n.Publish(devices.Publication{Topic: "a", QoS: 1}, b.one())
	n.Publish(devices.Publication{Topic: "a", QoS: 0}, b.one())
	b.check(t, 2, mqtt.ErrOffline)
	proxy.Heal()
	n.connected()
	if err := n.publishes("a", "x"); err != nil {
		t.Errorf("publish after all = %v, want nil", err)
	}
}

func TestPublicationsHaveTheirOutcomeWhenRunReturns(t *testing.T) {
	noLeftovers(t)
	broker := mqtttest.Start(t, mqtttest.Options{})
	proxy := mqtttest.StartProxy(t, broker.Addr())
	n := start(t, mqtt.Config{URL: "mqtt://" + proxy.Addr()}).connected()
	proxy.Silence()
	var a tally
	for i := range 1000 {
		n.Publish(devices.Publication{Topic: "a", Payload: make([]byte, 100<<10), QoS: byte(i % 2)}, a.one())
	}
	began := time.Now()
	n.stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Run took %v to return on a dead link, want little more than a second", took)
	}
	a.check(t, 1000, devices.ErrLost, mqtt.ErrFull, nil)
}

func TestPublishingUnderCutsTellsEachOutcomeOnce(t *testing.T) {
	noLeftovers(t)
	broker := mqtttest.Start(t, mqtttest.Options{})
	proxy := mqtttest.StartProxy(t, broker.Addr())
	n := start(t, mqtt.Config{URL: "mqtt://" + proxy.Addr()}).connected()
	var a tally
	const rounds, each = 10, 500
	for range rounds {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range each {
					n.Publish(devices.Publication{Topic: "a", Payload: []byte("x"), QoS: byte(i % 2)}, a.one())
				}
			})
		}
		proxy.Cut()
		wg.Wait()
	}
	n.stop()
	a.check(t, rounds*4*each, nil, devices.ErrLost, mqtt.ErrOffline)
}
