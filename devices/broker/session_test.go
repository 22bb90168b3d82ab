package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sedge-iot/sedge/devices"
)

func TestAMessageForOneWhoIsAwayWaitsForIt(t *testing.T) {
	for _, version := range []byte{4, 5} {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			b := run(t, Config{})
			h := hello{id: "lamp", version: version, keep: true, expiry: 3600}
			lamp := dial(t, b.Addr(), h)
			if lamp.present {
				t.Error("a new session is said to be present")
			}
			lamp.subscribe("lamp/set", 1)
			lamp.conn.Close()

			other := dial(t, b.Addr(), hello{id: "switch"})
			for i := range uint16(5) {
				other.publish("lamp/set", fmt.Sprint(i), 1, i+1)
				other.expect(packets.Puback)
			}
			lamp = dial(t, b.Addr(), h)
			if !lamp.present {
				t.Error("the session is not said to be present")
			}
			for i := range 5 {
				pk := lamp.expect(packets.Publish)
				if string(pk.Payload) != fmt.Sprint(i) || pk.FixedHeader.Qos != 1 {
					t.Errorf("got %q at QoS %d, want %d at QoS 1", pk.Payload, pk.FixedHeader.Qos, i)
				}
				lamp.puback(pk.PacketID)
			}
		})
	}
}

func TestAMessageThatWasNotAcknowledgedIsSentAgain(t *testing.T) {
	b := run(t, Config{})
	h := hello{id: "lamp", keep: true}
	lamp := dial(t, b.Addr(), h)
	lamp.subscribe("lamp/set", 1)
	publishWell(t, b, "lamp/set", "a", "b", "c")
	first := lamp.expect(packets.Publish)
	second := lamp.expect(packets.Publish)
	third := lamp.expect(packets.Publish)
	lamp.puback(second.PacketID)
	lamp.ping()
	lamp.conn.Close()

	lamp = dial(t, b.Addr(), h)
	for _, want := range []packets.Packet{first, third} {
		got := lamp.expect(packets.Publish)
		if got.PacketID != want.PacketID || string(got.Payload) != string(want.Payload) || !got.FixedHeader.Dup {
			t.Errorf("got packet %d %q dup=%v, want %d %q again", got.PacketID, got.Payload, got.FixedHeader.Dup, want.PacketID, want.Payload)
		}
	}
	lamp.nothing()
}

// publishWell has the agent publish at QoS 1.
func publishWell(t testing.TB, b *rig, topic string, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		b.Publish(devices.Publication{Topic: topic, Payload: []byte(p), QoS: 1}, func(err error) {
			if err != nil {
				t.Errorf("publish %s: %v", topic, err)
			}
		})
	}
}

func TestAClientsOwnPacketIDsTakeNothingFromIt(t *testing.T) {
	b := run(t, Config{}, "own/#")
	h := hello{id: "lamp", keep: true}
	lamp := dial(t, b.Addr(), h)
	lamp.subscribe("lamp/set", 1)
	publishWell(t, b, "lamp/set", "a", "b", "c")
	for range 3 { // ids 1 to 3, not acknowledged
		lamp.expect(packets.Publish)
	}
	for id := range uint16(3) { // the same ids, the other way
		lamp.publish("own", "x", 1, id+1)
		b.hears(t).Ack.Ack()
		lamp.expect(packets.Puback)
		lamp.publish("own", "x", 2, id+1)
		b.hears(t).Ack.Ack()
		lamp.expect(packets.Pubrec)
		lamp.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: id + 1})
		lamp.expect(packets.Pubcomp)
	}
	lamp.conn.Close()
	lamp = dial(t, b.Addr(), h)
	for _, want := range []string{"a", "b", "c"} {
		if got := lamp.expect(packets.Publish); string(got.Payload) != want {
			t.Errorf("got %q, want %q", got.Payload, want)
		}
	}
}

func TestACleanStartForgetsWhatWaited(t *testing.T) {
	b := run(t, Config{})
	lamp := dial(t, b.Addr(), hello{id: "lamp", keep: true})
	lamp.subscribe("lamp/set", 1)
	lamp.conn.Close()
	publishWell(t, b, "lamp/set", "a")
	lamp = dial(t, b.Addr(), hello{id: "lamp"})
	if lamp.present {
		t.Error("a clean session is said to be present")
	}
	lamp.nothing()
	publishWell(t, b, "lamp/set", "b")
	lamp.nothing()
	if n := b.Status().Queued; n != 0 {
		t.Errorf("%d messages are queued, want 0", n)
	}
}

func TestASecondConnectionTakesTheSessionOver(t *testing.T) {
	for _, version := range []byte{4, 5} {
		b := run(t, Config{})
		h := hello{id: "lamp", version: version, keep: true, expiry: 60}
		first := dial(t, b.Addr(), h)
		first.subscribe("lamp/set", 1)
		second := dial(t, b.Addr(), h)
		first.closed()
		if !second.present {
			t.Error("the session is not said to be present")
		}
		publishWell(t, b, "lamp/set", "a")
		second.expect(packets.Publish)
	}
}

func TestARaceForASessionHasOneWinner(t *testing.T) {
	b := run(t, Config{})
	won := make(chan *client, 20)
	for range cap(won) {
		go func() {
			c, _ := tryDial(t, b.Addr(), hello{id: "lamp", keep: true})
			won <- c
		}()
	}
	open := 0
	for range cap(won) {
		defer (<-won).conn.Close()
	}
	eventually(t, "only one connection is left", func() bool { open = b.Status().Clients; return open == 1 })
	if n := b.Status().Sessions; n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

func TestASessionExpires(t *testing.T) {
	b := run(t, Config{})
	lamp := dial(t, b.Addr(), hello{id: "lamp", version: 5, keep: true, expiry: 1})
	lamp.subscribe("a", 1)
	lamp.conn.Close()
	eventually(t, "the client has left", func() bool { return b.Status().Clients == 0 })
	b.tidyUp(time.Now().Add(2 * time.Second))
	if n := b.Status().Sessions; n != 0 {
		t.Errorf("%d sessions, want 0", n)
	}
	if r := b.topics.route("a"); len(r.to) != 0 {
		t.Error("the subscription is still there")
	}
}

func TestWills(t *testing.T) {
	will := &packets.Packet{FixedHeader: packets.FixedHeader{Retain: true, Qos: 1}, TopicName: "lamp/state", Payload: []byte("offline")}
	later := *will
	later.Properties.WillDelayInterval = 1
	t.Run("comes when the client is lost", func(t *testing.T) {
		b := run(t, Config{}, "#")
		dial(t, b.Addr(), hello{id: "lamp", will: will}).conn.Close()
		if m := b.hears(t); m.Topic != "lamp/state" || string(m.Payload) != "offline" || m.Ack == nil {
			t.Errorf("heard %+v, want the will at QoS 1", m)
		}
		dial(t, b.Addr(), hello{id: "app"}).subscribe("lamp/state", 0)
		eventually(t, "it is retained", func() bool { return b.Status().Retained == 1 })
	})
	t.Run("does not come after goodbye", func(t *testing.T) {
		b := run(t, Config{}, "#")
		dial(t, b.Addr(), hello{id: "lamp", will: will}).bye()
		b.silence(t)
	})
	t.Run("waits as long as it asks", func(t *testing.T) {
		b := run(t, Config{}, "#")
		dial(t, b.Addr(), hello{id: "lamp", version: 5, keep: true, expiry: 60, will: &later}).conn.Close()
		b.silence(t)
		b.hears(t)
	})
	t.Run("does not come if the client is back by then", func(t *testing.T) {
		b := run(t, Config{}, "#")
		h := hello{id: "lamp", version: 5, keep: true, expiry: 60, will: &later}
		dial(t, b.Addr(), h).conn.Close()
		eventually(t, "the client has left", func() bool { return b.Status().Clients == 0 })
		dial(t, b.Addr(), h)
		b.tidyUp(time.Now().Add(time.Minute))
		b.silence(t)
	})
}

func TestRetainedMessages(t *testing.T) {
	b := run(t, Config{})
	sensor := dial(t, b.Addr(), hello{id: "sensor"})
	sensor.retain("home/hall", "20")
	sensor.retain("home/hall", "21")
	sensor.retain("home", "x")
	sensor.retain("garden", "5")
	sensor.retain("garden", "")
	sensor.ping()
	app := dial(t, b.Addr(), hello{id: "app"})
	app.subscribe("home/#", 0) // means home as well
	got := map[string]string{}
	for range 2 {
		pk := app.expect(packets.Publish)
		if !pk.FixedHeader.Retain {
			t.Errorf("%s comes without the retain flag", pk.TopicName)
		}
		got[pk.TopicName] = string(pk.Payload)
	}
	if got["home/hall"] != "21" || got["home"] != "x" {
		t.Errorf("retained are %v", got)
	}
	app.subscribe("garden", 0)
	app.nothing()
	sensor.retain("home/hall", "22")
	if pk := app.expect(packets.Publish); pk.FixedHeader.Retain {
		t.Error("a live message has the retain flag")
	}
	if n := b.Status().Retained; n != 2 {
		t.Errorf("%d topics are retained, want 2", n)
	}
}

func TestTheAgentHearsRetainedMessagesOncePerFilter(t *testing.T) {
	b := run(t, Config{}, "a")
	c := dial(t, b.Addr(), hello{id: "sensor"})
	c.retain("b/1", "x")
	c.ping()
	b.silence(t)
	b.Subscribe([]string{"a", "b/+"})
	if m := b.hears(t); !m.Retained || m.Topic != "b/1" {
		t.Errorf("heard %+v, want b/1 retained", m)
	}
	b.Subscribe([]string{"b/+", "a"})
	b.silence(t)
	c.retain("b/1", "y")
	if m := b.hears(t); m.Retained {
		t.Error("a live message is said to be retained")
	}
	b.Subscribe(nil)
	c.retain("b/1", "z")
	c.ping()
	b.silence(t)
}

func TestWhatTheAgentPublishesToItselfComesBack(t *testing.T) {
	b := run(t, Config{}, "loop")
	done := make(chan error, 1)
	b.Publish(devices.Publication{Topic: "loop", Payload: []byte("x"), QoS: 1}, func(err error) { done <- err })
	m := b.hears(t)
	if m.PacketID == 0 || m.Session == "" || m.Ack == nil {
		t.Errorf("heard %+v, want a packet id, a session and an Ack", m)
	}
	select {
	case <-done:
		t.Error("done before the agent has acknowledged")
	default:
	}
	m.Ack.Ack()
	if err := <-done; err != nil {
		t.Errorf("done with %v, want nil", err)
	}

	b.Publish(devices.Publication{Topic: "loop", QoS: 1}, func(err error) { done <- err })
	m = b.hears(t)
	b.Pause()
	if err := <-done; err == nil {
		t.Error("paused: done with nil, want an error")
	}
	m.Ack.Ack()
	b.Publish(devices.Publication{Topic: "not/+/allowed"}, func(err error) { done <- err })
	if err := <-done; err == nil {
		t.Error("published to a wildcard")
	}
}

func TestSharedSubscriptionsShare(t *testing.T) {
	b := run(t, Config{})
	var members []*client
	for i := range 3 {
		c := dial(t, b.Addr(), hello{id: fmt.Sprint("worker", i)})
		c.subscribe("$share/team/jobs/#", 1)
		members = append(members, c)
	}
	away := dial(t, b.Addr(), hello{id: "away", keep: true})
	away.subscribe("$share/team/jobs/#", 1)
	away.conn.Close()
	eventually(t, "one member is away", func() bool { return b.Status().Clients == 3 })
	for range 30 {
		publishWell(t, b, "jobs/1", "x")
	}
	total := 0
	for _, c := range members {
		n := 0
		for {
			pk, err := c.read(aLittle)
			if err != nil {
				break
			}
			c.puback(pk.PacketID)
			n++
		}
		if n == 0 {
			t.Error("a member got nothing")
		}
		total += n
	}
	if total != 30 {
		t.Errorf("members got %d messages, want 30", total)
	}
}

func TestOptionsOfMQTT5(t *testing.T) {
	b := run(t, Config{})
	c := dial(t, b.Addr(), hello{id: "five", version: 5})
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1,
		Properties: packets.Properties{SubscriptionIdentifier: []int{300}},
		Filters: packets.Subscriptions{
			{Filter: "a/#", Qos: 2, RetainAsPublished: true, Identifier: 300},
			{Filter: "own", NoLocal: true, Identifier: 300},
		},
	})
	if codes := c.expect(packets.Suback).ReasonCodes; codes[0] != 1 {
		t.Errorf("granted QoS %d, want 1", codes[0])
	}
	c.publish("own", "x", 0, 0)
	c.ping() // nothing before it
	other := dial(t, b.Addr(), hello{id: "other", version: 5})
	pk := message4("a/b", "x", 1, 1)
	pk.FixedHeader.Retain = true
	pk.Properties = packets.Properties{
		ContentType: "text/plain", ResponseTopic: "answer", CorrelationData: []byte{1, 2}, MessageExpiryInterval: 60,
		User: []packets.UserProperty{{Key: "k", Val: "v"}},
	}
	other.send(pk)
	got := c.expect(packets.Publish)
	p := got.Properties
	if !got.FixedHeader.Retain || got.FixedHeader.Qos != 1 || p.ContentType != "text/plain" || p.ResponseTopic != "answer" ||
		string(p.CorrelationData) != "\x01\x02" || len(p.User) != 1 || p.User[0].Val != "v" ||
		p.MessageExpiryInterval < 58 || len(p.SubscriptionIdentifier) != 1 || p.SubscriptionIdentifier[0] != 300 {
		t.Errorf("got %+v with retain %v", p, got.FixedHeader.Retain)
	}
}
