package mqtt_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices/mqtt"
	"github.com/sedge-iot/sedge/devices/mqtttest"
)

func TestMessagesThatWaitedAtTheBrokerAreQueued(t *testing.T) {
	noLeftovers(t)
	broker := mqtttest.Start(t, mqtttest.Options{})
	d := device(t, broker.URL())
	start(t, mqtt.Config{URL: broker.URL()}, "home/+").ready().stop()
	for i := range 50 { // more than mosquitto sends at once
		say(t, d, "home/hall", fmt.Sprint(i))
	}

	n := start(t, mqtt.Config{URL: broker.URL()}, "home/+")
	for i := range 50 {
		m := n.hears(fmt.Sprint(i))
		if !m.Queued {
			t.Errorf("message %d is not queued, want queued", i)
		}
		m.Ack.Ack()
	}
	n.ready()
	say(t, d, "home/hall", "fresh")
	if m := n.hears("fresh"); m.Queued {
		t.Error("a message after the canary is queued, want not")
	}
	say(t, d, "home/hall", "other")
	if got, want := n.Status().Received, int64(51); got < want {
		t.Errorf("Received = %d, want at least %d", got, want)
	}
}

func TestCanaryIsNotHandedOn(t *testing.T) {
	broker := mqtttest.Start(t, mqtttest.Options{})
	n := start(t, mqtt.Config{URL: broker.URL()}, "#").ready()
	say(t, device(t, broker.URL()), "a", "last")
	if before := n.hearsUntil("last"); len(before) > 0 {
		t.Errorf("heard %v, want only what a device said", before)
	}
}

func TestBrokerThatForgotTheSessionIsToldApart(t *testing.T) {
	noLeftovers(t)
	broker := mqtttest.Start(t, mqtttest.Options{}) // keeps nothing across a restart
	n := start(t, mqtt.Config{URL: broker.URL(), Session: generations(), MaxBackoff: 200 * time.Millisecond}, "a").ready()
	for i := range 20 {
		d := device(t, broker.URL())
		say(t, d, "a", "hello")
		m := n.hears("hello")
		if want := fmt.Sprint("generation ", i+1); m.Session != want || m.Queued {
			t.Errorf("session = %q, queued = %v, want %q, not queued", m.Session, m.Queued, want)
		}
		m.Ack.Ack()
		broker.Kill()
		if err := broker.Restart(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the client is back", func() bool { return n.Status().In.Reconnects == i+1 })
		n.ready()
	}
}

func TestSubscriptionsComeBackWhenTheBrokerRestarts(t *testing.T) {
	noLeftovers(t)
	broker := mqtttest.Start(t, mqtttest.Options{Persistent: true})
	n := start(t, mqtt.Config{URL: broker.URL(), Session: generations(), MaxBackoff: 200 * time.Millisecond}, "home/+").ready()
	for i := range 20 {
		broker.Kill()
		eventually(t, "the loss is seen", func() bool { s := n.Status(); return !s.In.Connected && !s.Out.Connected })
		if err := broker.Restart(); err != nil {
			t.Fatal(err)
		}
		n.ready() // which the canary proves
		if err := n.publishes("home/hall", fmt.Sprint(i)); err != nil {
			t.Errorf("publish after restart %d: %v", i, err)
		}
		for _, m := range n.hearsUntil(fmt.Sprint(i)) {
			if !m.Dup || m.Session != "generation 1" { // what the broker had not yet saved as acknowledged
				t.Errorf("heard %+v after restart %d, want a duplicate in the same session or nothing", m, i)
			}
		}
	}
}

func TestRetainedMessagesAreNotRepeatedInAKeptSession(t *testing.T) {
	broker := mqtttest.Start(t, mqtttest.Options{})
	d := device(t, broker.URL())
	await(t, "retain", d.Publish("home/hall", 1, true, "kept"))
	proxy := mqtttest.StartProxy(t, broker.Addr())
	n := start(t, mqtt.Config{URL: "mqtt://" + proxy.Addr()}, "home/+").ready()
	m := n.hears("kept")
	if !m.Retained {
		t.Error("Retained = false, want true")
	}
	n.acknowledged(broker, m)

	proxy.Cut()
	eventually(t, "the client is back", func() bool { return n.Status().In.Reconnects == 1 })
	n.ready()
	n.Subscribe([]string{"home/+", "other"}) // nor when something else is added
	n.ready()
	say(t, d, "home/hall", "last")
	if before := n.hearsUntil("last"); len(before) > 0 {
		t.Errorf("heard %q again, want it once", before[0].Payload)
	}
}

func TestNextProcessKnowsWhatTheSessionHolds(t *testing.T) {
	broker := mqtttest.Start(t, mqtttest.Options{})
	d := device(t, broker.URL())
	await(t, "retain", d.Publish("a/1", 1, true, "kept"))
	var held map[string]bool
	config := mqtt.Config{URL: broker.URL(), Hold: func(h map[string]bool) { held = h }}

	n := start(t, config, "a/+", "b").ready()
	n.acknowledged(broker, n.hears("kept"))
	n.stop()
	if want := map[string]bool{"a/+": true, "b": true, "sedge/node/canary": true}; !maps.Equal(held, want) {
		t.Fatalf("held %v, want %v", held, want)
	}

	config.Held = maps.Clone(held)
	n = start(t, config, "a/+", "c").ready() // b is no longer wanted
	say(t, d, "b", "unwanted")
	say(t, d, "c", "last")
	if before := n.hearsUntil("last"); len(before) > 0 {
		t.Errorf("heard %q on %s, want nothing but what is wanted and new", before[0].Payload, before[0].Topic)
	}
	n.stop()

	held["a/+"] = false // as a crash between SUBSCRIBE and its answer leaves it
	config.Held = maps.Clone(held)
	n = start(t, config, "a/+", "c").ready()
	n.hears("kept").Ack.Ack()
}

func TestSubscriptionsFollowWhatIsWanted(t *testing.T) {
	broker := mqtttest.Start(t, mqtttest.Options{})
	d := device(t, broker.URL())
	n := start(t, mqtt.Config{URL: broker.URL()}, "a/1", "a/2").ready()
	n.Subscribe([]string{"a/#", "a/1"}) // the one covers the other
	n.ready()
	say(t, d, "a/1", "once")
	n.hears("once").Ack.Ack()
	n.Subscribe([]string{"b"})
	n.ready()
	say(t, d, "a/1", "unwanted")
	say(t, d, "b", "last")
	if before := n.hearsUntil("last"); len(before) > 0 {
		t.Errorf("heard %q, want it once and only while wanted", before[0].Payload)
	}
}

func TestAShortPauseKeepsTheConnectionAndItsAcknowledgements(t *testing.T) {
	noLeftovers(t)
	broker := mqtttest.Start(t, mqtttest.Options{})
	d := device(t, broker.URL())
	n := start(t, mqtt.Config{URL: broker.URL()}, "a").ready()
	say(t, d, "a", "before")
	m := n.hears("before")
	n.Pause()
	m.Ack.Ack()
	say(t, d, "a", "meanwhile")
	n.Resume()
	// What was acknowledged in the pause does not come again.
	if before := n.hearsUntil("meanwhile"); len(before) > 0 {
		t.Errorf("heard %q again", before[0].Payload)
	}
	if s := n.Status(); s.In.Reconnects > 0 {
		t.Errorf("%d reconnects, want none", s.In.Reconnects)
	}
}

func TestPauseLeavesMessagesAtTheBroker(t *testing.T) {
	noLeftovers(t)
	broker := mqtttest.Start(t, mqtttest.Options{})
	d := device(t, broker.URL())
	n := start(t, mqtt.Config{URL: broker.URL(), KeepAlive: time.Second}, "a").ready()
	n.Pause()
	eventually(t, "the inbound connection is closed", func() bool { s := n.Status(); return s.Paused && !s.In.Connected })
	say(t, d, "a", "meanwhile")
	if err := n.publishes("b", "still publishing"); err != nil {
		t.Errorf("publish while paused: %v", err)
	}
	n.Resume()
	m := n.hears("meanwhile")
	if !m.Queued {
		t.Error("Queued = false, want true")
	}
	m.Ack.Ack()
	n.ready()
}
