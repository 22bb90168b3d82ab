package broker

import (
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sedge-iot/sedge/devices"
)

func TestAPublishIsAcknowledgedOnlyAfterAck(t *testing.T) {
	b := run(t, Config{}, "home/#")
	c := dial(t, b.Addr(), hello{id: "motion"})
	c.publish("home/hall", "on", 1, 7)
	m := b.hears(t)
	if m.Topic != "home/hall" || string(m.Payload) != "on" || m.QoS != 1 || m.PacketID != 7 || m.Dup || m.Session == "" {
		t.Errorf("heard %+v", m)
	}
	c.nothing()
	m.Ack.Ack()
	if pk := c.expect(packets.Puback); pk.PacketID != 7 {
		t.Errorf("PUBACK of packet %d, want 7", pk.PacketID)
	}
}

func TestAPublishThatTheAgentDoesNotWantIsAcknowledgedAtOnce(t *testing.T) {
	b := run(t, Config{}, "home/#")
	c := dial(t, b.Addr(), hello{id: "motion"})
	c.publish("garden/gate", "open", 1, 1)
	c.expect(packets.Puback)
	b.silence(t)
}

func TestAPublishAtQoS0HasNoAck(t *testing.T) {
	b := run(t, Config{}, "#")
	dial(t, b.Addr(), hello{id: "motion"}).publish("a", "1", 0, 0)
	if m := b.hears(t); m.Ack != nil || m.PacketID != 0 {
		t.Errorf("Ack = %v, PacketID = %d, want none", m.Ack, m.PacketID)
	}
}

func TestAcknowledgementsGoOutAsTheyFallDue(t *testing.T) {
	b := run(t, Config{}, "#")
	c := dial(t, b.Addr(), hello{id: "motion"})
	var heard []devices.Message
	for id := range uint16(5) {
		c.publish("a", "x", 1, id+1)
		heard = append(heard, b.hears(t))
	}
	for _, i := range []int{3, 0, 4, 2, 1} {
		heard[i].Ack.Ack()
		if got, want := c.expect(packets.Puback).PacketID, uint16(i+1); got != want {
			t.Errorf("PUBACK of packet %d, want %d", got, want)
		}
	}
}

func TestAPacketThatWasNotAcknowledgedIsHandedOverAgain(t *testing.T) {
	b := run(t, Config{}, "#")
	c := dial(t, b.Addr(), hello{id: "motion", keep: true})
	c.publish("a", "x", 1, 3)
	first := b.hears(t)
	c.conn.Close()

	c = dial(t, b.Addr(), hello{id: "motion", keep: true})
	first.Ack.Ack()
	c.nothing() // it was for the connection that is gone
	pk := message4("a", "x", 1, 3)
	pk.FixedHeader.Dup = true
	c.send(pk)
	second := b.hears(t)
	if !second.Dup || second.PacketID != 3 || second.Session != first.Session {
		t.Errorf("heard again %+v, want packet 3 of session %s with Dup", second, first.Session)
	}
	second.Ack.Ack()
	c.expect(packets.Puback)
}

func TestASessionThatIsNewHasAnotherName(t *testing.T) {
	b := run(t, Config{}, "#")
	names := map[string]bool{}
	for range 3 {
		c := dial(t, b.Addr(), hello{id: "motion"})
		c.publish("a", "x", 0, 0)
		names[b.hears(t).Session] = true
		c.bye()
	}
	if len(names) != 3 {
		t.Errorf("3 clean sessions have the names %v", names)
	}
}

func TestQoS2IsHeardOnce(t *testing.T) {
	b := run(t, Config{}, "#")
	h := hello{id: "meter", keep: true}
	c := dial(t, b.Addr(), h)
	again := message4("a", "x", 2, 9)
	again.FixedHeader.Dup = true

	c.publish("a", "x", 2, 9)
	m := b.hears(t)
	c.send(again) // impatient
	c.nothing()
	c.conn.Close()

	c = dial(t, b.Addr(), h)
	c.send(again)
	c.nothing()
	m.Ack.Ack()
	c.expect(packets.Pubrec)
	c.send(again) // as if PUBREC had been lost
	c.expect(packets.Pubrec)
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: 9})
	c.expect(packets.Pubcomp)
	b.silence(t)

	c.publish("a", "y", 2, 9) // the id comes round
	if m := b.hears(t); string(m.Payload) != "y" {
		t.Errorf("heard %q, want y", m.Payload)
	}
}

func TestOneClientThatIsNotAcknowledgedHoldsUpNobodyElse(t *testing.T) {
	b := run(t, Config{Limits: Limits{Unacked: 10}}, "#")
	slow := dial(t, b.Addr(), hello{id: "slow"})
	var heard []devices.Message
	for id := range uint16(30) {
		slow.publish("slow", fmt.Sprint(id), 1, id+1)
	}
	for range 10 {
		heard = append(heard, b.hears(t))
	}
	b.silence(t) // the rest stays unread

	quick := dial(t, b.Addr(), hello{id: "quick"})
	quick.publish("quick", "x", 1, 1)
	m := b.hears(t)
	if m.Topic != "quick" {
		t.Fatalf("heard %s, want quick", m.Topic)
	}
	m.Ack.Ack()
	quick.expect(packets.Puback)

	for i := range 30 {
		heard[i].Ack.Ack()
		slow.expect(packets.Puback)
		if i < 20 {
			heard = append(heard, b.hears(t))
		}
	}
}

func TestWhilePausedNothingIsTakenThatMustBeAcknowledged(t *testing.T) {
	b := run(t, Config{}, "#")
	busy := dial(t, b.Addr(), hello{id: "busy", keep: true})
	idle := dial(t, b.Addr(), hello{id: "idle"})
	busy.publish("a", "1", 1, 1)
	b.hears(t)
	b.Pause()
	busy.closed()
	if !b.Status().Paused {
		t.Error("Status does not say paused")
	}
	idle.publish("b", "1", 1, 1)
	b.silence(t)
	idle.nothing()

	b.Resume()
	m := b.hears(t)
	m.Ack.Ack()
	idle.expect(packets.Puback)
	busy = dial(t, b.Addr(), hello{id: "busy", keep: true})
	pk := message4("a", "1", 1, 1)
	pk.FixedHeader.Dup = true
	busy.send(pk)
	if m := b.hears(t); !m.Dup {
		t.Error("heard again without Dup")
	}
}
