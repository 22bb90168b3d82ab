package mqtt_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/devices/mqtt"
	"github.com/sedge-iot/sedge/devices/mqtttest"
)

// generations makes a Config.Session that counts sessions.
func generations() func(bool) string {
	n := 0
	return func(kept bool) string {
		if !kept {
			n++
		}
		return fmt.Sprint("generation ", n)
	}
}

func TestUnacknowledgedMessageComesAgain(t *testing.T) {
	noLeftovers(t)
	broker := mqtttest.Start(t, mqtttest.Options{})
	proxy := mqtttest.StartProxy(t, broker.Addr())
	n := start(t, mqtt.Config{URL: "mqtt://" + proxy.Addr(), Session: generations()}, "home/+").ready()
	d := device(t, broker.URL())

	say(t, d, "home/hall", "acknowledged")
	n.hears("acknowledged").Ack.Ack()
	say(t, d, "home/hall", "not acknowledged")
	first := n.hears("not acknowledged")
	if first.Dup || first.QoS != 1 || first.PacketID == 0 || first.Queued || first.Session != "generation 1" || first.Time.IsZero() {
		t.Errorf("first = %+v, want a fresh message of generation 1", first)
	}

	proxy.Cut()
	again := n.hears("not acknowledged")
	if !again.Dup || again.PacketID != first.PacketID || again.Session != first.Session {
		t.Errorf("again = %+v, want a duplicate of %+v", again, first)
	}
	first.Ack.Ack() // too late, and harmless
	again.Ack.Ack()
	say(t, d, "home/hall", "last")
	n.hears("last").Ack.Ack()
}

func TestPublicationIsConfirmedByTheBroker(t *testing.T) {
	noLeftovers(t)
	broker := mqtttest.Start(t, mqtttest.Options{})
	n := start(t, mqtt.Config{URL: broker.URL()}, "#").ready()
	for qos := range byte(3) {
		done := make(chan error, 1)
		n.Publish(devices.Publication{Topic: "a", Payload: []byte{qos}, QoS: qos}, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Errorf("Publish at QoS %d = %v, want nil", qos, err)
		}
	}
	for _, p := range []devices.Publication{
		{Topic: ""}, {Topic: "a/+"}, {Topic: "a\x00"}, {Topic: "a", QoS: 3}, {Topic: "a", Payload: make([]byte, 2<<20)},
	} {
		done := make(chan error, 1)
		n.Publish(p, func(err error) { done <- err })
		if err := <-done; err == nil || errors.Is(err, mqtt.ErrOffline) {
			t.Errorf("Publish(%.10q, QoS %d, %d bytes) = %v, want a refusal", p.Topic, p.QoS, len(p.Payload), err)
		}
	}
}
