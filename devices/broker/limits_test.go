package broker

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sedge-iot/sedge/devices"
)

func TestMalformedPacketsCloseOnlyTheirClient(t *testing.T) {
	b := run(t, Config{Limits: Limits{Packet: 1 << 16}}, "#")
	good := dial(t, b.Addr(), hello{id: "good"})
	connected := func() *client { return dial(t, b.Addr(), hello{id: "bad"}) }
	raw := func(c *client, bytes string) { c.conn.Write([]byte(bytes)) }
	for name, do := range map[string]func() *client{
		"endless length":  func() *client { c := connected(); raw(c, "\x30\xff\xff\xff\xff\xff\x01"); return c },
		"a giant":         func() *client { c := connected(); raw(c, "\x30\xff\xff\xff\x7f"); return c },
		"QoS 3":           func() *client { c := connected(); raw(c, "\x36\x05\x00\x01a\x00\x01"); return c },
		"wildcard topic":  func() *client { c := connected(); raw(c, "\x30\x03\x00\x01#"); return c },
		"no topic":        func() *client { c := connected(); raw(c, "\x30\x02\x00\x00"); return c },
		"NUL in topic":    func() *client { c := connected(); raw(c, "\x30\x03\x00\x01\x00"); return c },
		"no UTF-8":        func() *client { c := connected(); raw(c, "\x30\x03\x00\x01\xff"); return c },
		"topic too long":  func() *client { c := connected(); raw(c, "\x30\x03\x00\x09a"); return c },
		"packet id 0":     func() *client { c := connected(); raw(c, "\x32\x05\x00\x01a\x00\x00"); return c },
		"type 0":          func() *client { c := connected(); raw(c, "\x00\x00"); return c },
		"second CONNECT":  func() *client { c := connected(); raw(c, "\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"); return c },
		"empty SUBSCRIBE": func() *client { c := connected(); raw(c, "\x82\x02\x00\x01"); return c },
		"no CONNECT":      func() *client { c := connected(); raw(c, "GET / HTTP/1.1\r\n\r\n"); return c },
		"topic alias of 5": func() *client {
			c := dial(t, b.Addr(), hello{id: "bad", version: 5})
			raw(c, "\x30\x07\x00\x01a\x03\x23\x00\x01")
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := do()
			c.t = t
			c.closed()
		})
	}
	good.publish("a", "x", 1, 1)
	b.hears(t).Ack.Ack()
	good.expect(packets.Puback)
	b.silence(t)
}

func TestAStrangerWhoSaysNothingCostsNoMemory(t *testing.T) {
	b := run(t, Config{Limits: Limits{Clients: 60}})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 50 { // each announces a large CONNECT and sends no more
		c, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write([]byte("\x10\xff\xff\x3f"))
	}
	eventually(t, "all are there", func() bool { return b.Status().Clients == 50 })
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 60<<20 {
		t.Errorf("50 strangers take %d KiB", grown>>10)
	}
}

func TestTooManyClientsAreTurnedAway(t *testing.T) {
	b := run(t, Config{Limits: Limits{Clients: 2}})
	first := dial(t, b.Addr(), hello{id: "1"})
	dial(t, b.Addr(), hello{id: "2"})
	if _, code := tryDial(t, b.Addr(), hello{id: "3"}); code == 0 {
		t.Error("a third client is let in")
	}
	first.bye()
	eventually(t, "there is room", func() bool { return b.Status().Clients == 1 })
	dial(t, b.Addr(), hello{id: "3"})
}

func TestTheSessionThatIsAwayLongestMakesRoom(t *testing.T) {
	b := run(t, Config{Limits: Limits{Sessions: 3}})
	for i := range 4 {
		c := dial(t, b.Addr(), hello{id: fmt.Sprint(i), keep: true})
		c.subscribe("a", 1)
		c.conn.Close()
		eventually(t, "the client has left", func() bool { return b.Status().Clients == 0 })
	}
	if n := b.Status().Sessions; n != 3 {
		t.Errorf("%d sessions, want 3", n)
	}
	if !dial(t, b.Addr(), hello{id: "1", keep: true}).present || dial(t, b.Addr(), hello{id: "0", keep: true}).present {
		t.Error("not the oldest one is forgotten")
	}
}

func TestAQueueKeepsTheOldestMessages(t *testing.T) {
	b := run(t, Config{Limits: Limits{Queue: 10}})
	h := hello{id: "lamp", keep: true}
	lamp := dial(t, b.Addr(), h)
	lamp.subscribe("set", 1)
	lamp.conn.Close()
	eventually(t, "the client has left", func() bool { return b.Status().Clients == 0 })
	for i := range 15 {
		publishWell(t, b, "set", fmt.Sprint(i))
	}
	if st := b.Status(); st.Queued != 10 || st.Dropped != 5 {
		t.Errorf("%d queued, %d dropped, want 10 and 5", st.Queued, st.Dropped)
	}
	lamp = dial(t, b.Addr(), h)
	for i := range 10 {
		if pk := lamp.expect(packets.Publish); string(pk.Payload) != fmt.Sprint(i) {
			t.Errorf("got %q, want %d", pk.Payload, i)
		}
	}
	lamp.nothing()
}

func TestFiltersAndRetainedTopicsAreBounded(t *testing.T) {
	b := run(t, Config{Limits: Limits{Filters: 3, Retained: 2, RetainedBytes: 100}})
	c := dial(t, b.Addr(), hello{id: "x"})
	var subs packets.Subscriptions
	for i := range 5 {
		subs = append(subs, packets.Subscription{Filter: fmt.Sprint(i)})
	}
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1, Filters: subs})
	if codes := c.expect(packets.Suback).ReasonCodes; string(codes) != "\x00\x00\x00\x80\x80" {
		t.Errorf("codes are %x", codes)
	}
	for _, topic := range []string{"a", "b", "c"} {
		c.retain(topic, "x")
	}
	c.retain("a", strings.Repeat("x", 100))
	c.ping()
	if n := b.Status().Retained; n != 2 {
		t.Errorf("%d topics are retained, want 2", n)
	}
	if m := b.retain.get("a"); string(m.payload) != "x" {
		t.Errorf("a is %q", m.payload)
	}
}

func TestTextsAreBounded(t *testing.T) {
	b := run(t, Config{}, "#")
	long := strings.Repeat("x", maxText+1)
	if _, code := tryDial(t, b.Addr(), hello{id: long}); code == 0 {
		t.Error("connected with a client id of more than 1 KiB")
	}
	c := dial(t, b.Addr(), hello{id: long[:maxText]})
	if code := c.subscribe(long, 0); code < 0x80 {
		t.Error("subscribed to a filter of more than 1 KiB")
	}
	c.publish(long, "x", 0, 0)
	if m := b.hears(t); m.Topic != long || len(m.Session) > 100 {
		t.Errorf("heard a topic of %d bytes in session %s", len(m.Topic), m.Session)
	}
	if n := len(b.topics.routes); n != 0 {
		t.Errorf("%d routes are remembered, want 0", n)
	}
}

func TestClientsThatDoNotReadHoldUpNobody(t *testing.T) {
	b := run(t, Config{Limits: Limits{Queue: 100, QueueBytes: 1 << 20}})
	var slow []*client
	for i := range 50 {
		c := dial(t, b.Addr(), hello{id: fmt.Sprint("slow", i), keep: i%2 == 0})
		c.subscribe("flood", byte(i%3))
		slow = append(slow, c)
	}
	quick := dial(t, b.Addr(), hello{id: "quick"})
	quick.subscribe("quick", 1)
	payload := make([]byte, 10<<10)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 2000 { // 20 MB for each
		b.Publish(devices.Publication{Topic: "flood", Payload: payload, QoS: 1}, func(error) {})
	}
	publishWell(t, b, "quick", "x")
	quick.puback(quick.expect(packets.Publish).PacketID)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 80<<20 {
		t.Errorf("50 clients that do not read take %d KiB", grown>>10)
	}
	if b.Status().Dropped == 0 {
		t.Error("nothing is counted as dropped")
	}
	for _, c := range slow {
		c.expect(packets.Publish)
	}
}

func TestAClientThatAsksAndDoesNotReadIsClosed(t *testing.T) {
	near, far := net.Pipe() // takes nothing that is not read
	defer far.Close()
	c := newConn(near, Limits{Packet: 1 << 12, Unacked: 1})
	done := make(chan struct{})
	go func() { // waited for below
		defer close(done)
		c.flush(func() {})
	}()
	written := 0
	for {
		n, err := c.Write([]byte{0xD0, 0})
		if err != nil {
			break
		}
		if written += n; written > 1<<20 {
			t.Fatal("1 MiB waits for a client that reads nothing")
		}
	}
	<-done
	if _, err := far.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
}

func TestWhatWasWrittenBeforeCloseIsSent(t *testing.T) {
	near, far := net.Pipe()
	c := newConn(near, Limits{Packet: 1 << 12, Unacked: 1})
	done := make(chan struct{})
	go func() { // waited for below
		defer close(done)
		c.flush(func() {})
	}()
	c.Write([]byte("last "))
	c.Write([]byte("words"))
	c.Close()
	if got, err := io.ReadAll(far); err != nil || string(got) != "last words" {
		t.Errorf("got %q, %v", got, err)
	}
	<-done
}

func TestALargestPacketOfMQTT5IsKept(t *testing.T) {
	b := run(t, Config{})
	c := dial(t, b.Addr(), hello{id: "small", version: 5, largest: 300})
	c.subscribe("#", 1)
	publishWell(t, b, "a", strings.Repeat("x", 1000), "y")
	if pk := c.expect(packets.Publish); string(pk.Payload) != "y" {
		t.Errorf("got %d bytes, want y", len(pk.Payload))
	}
}

func TestAReceiveMaximumOfMQTT5IsKept(t *testing.T) {
	b := run(t, Config{})
	c := dial(t, b.Addr(), hello{id: "narrow", version: 5, window: 2})
	c.subscribe("a", 1)
	publishWell(t, b, "a", "1", "2", "3", "4")
	for _, want := range []string{"1", "2", "3", "4"} {
		pk := c.expect(packets.Publish)
		if string(pk.Payload) != want {
			t.Errorf("got %q, want %q", pk.Payload, want)
		}
		if want != "1" {
			c.nothing()
			c.puback(pk.PacketID)
			continue
		}
		second := c.expect(packets.Publish)
		c.nothing()
		c.puback(second.PacketID)
		pk = c.expect(packets.Publish)
		c.nothing()
		c.puback(pk.PacketID)
		c.expect(packets.Publish)
		break
	}
}
