package mqtt_test

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/sedge-iot/sedge/devices/mqtt"
	"github.com/sedge-iot/sedge/devices/mqtttest"
)

func TestOversizePacketIsHandedOnTruncatedAndAcknowledged(t *testing.T) {
	noLeftovers(t)
	broker := mqtttest.Start(t, mqtttest.Options{})
	proxy := mqtttest.StartProxy(t, broker.Addr())
	n := start(t, mqtt.Config{URL: "mqtt://" + proxy.Addr(), MaxPacket: 4096}, "#").ready()
	d := device(t, broker.URL())
	long := strings.Repeat("x", 1000)
	fits := strings.Repeat("y", 4096-3-len("a")-4)
	for _, tt := range []struct {
		topic, payload         string
		wantTopic, wantPayload string
		truncated              bool
	}{
		{"a", fits, "a", fits, false},
		{"a", fits + "y", "a", fits[:256], true},
		{"a", strings.Repeat("z", 1<<20), "a", strings.Repeat("z", 256), true},
		{long, "short", long[:512], "short", true},
		{long, fits, long[:512], fits[:256], true},
	} {
		say(t, d, tt.topic, tt.payload)
		m := n.hears(tt.wantPayload)
		if m.Topic != tt.wantTopic || (m.Truncated > len(tt.topic)+len(tt.payload)) != tt.truncated {
			t.Errorf("topic of %d and payload of %d bytes: heard topic of %d, truncated %d", len(tt.topic), len(tt.payload), len(m.Topic), m.Truncated)
		}
		n.acknowledged(broker, m)
	}
	proxy.Cut() // what was acknowledged does not come again
	eventually(t, "the client is back", func() bool { return n.Status().In.Reconnects == 1 })
	n.ready()
	say(t, d, "a", "last")
	if before := n.hearsUntil("last"); len(before) > 0 {
		t.Errorf("heard %d messages again", len(before))
	}
	if got, want := n.Status().Truncated, int64(4); got != want {
		t.Errorf("Status.Truncated = %d, want %d", got, want)
	}
}

// A fake is a broker that says what it is told to, well-formed or not.
type fake struct {
	listener net.Listener
	inbound  chan net.Conn              // accepted connections that subscribe
	packets  chan packets.ControlPacket // what came on them, besides SUBSCRIBE
	wg       sync.WaitGroup
}

func startFake(t *testing.T) *fake {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{listener: l, inbound: make(chan net.Conn, 100), packets: make(chan packets.ControlPacket, 1000)}
	f.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() {
				defer conn.Close()
				f.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		f.wg.Wait()
	})
	return f
}

func (f *fake) url() string { return "mqtt://" + f.listener.Addr().String() }

func (f *fake) serve(conn net.Conn) {
	isInbound := false
	for {
		packet, err := packets.ReadPacket(conn)
		if err != nil {
			return
		}
		switch p := packet.(type) {
		case *packets.ConnectPacket:
			conn.Write([]byte{0x20, 2, 0, 0})
			if isInbound = !strings.HasSuffix(p.ClientIdentifier, "-out"); isInbound {
				f.inbound <- conn
			}
		case *packets.SubscribePacket:
			conn.Write([]byte{0x90, 3, byte(p.MessageID >> 8), byte(p.MessageID), 1})
		case *packets.PublishPacket:
			conn.Write([]byte{0x40, 2, byte(p.MessageID >> 8), byte(p.MessageID)})
		case *packets.PingreqPacket:
			conn.Write([]byte{0xd0, 0})
		default:
			f.packets <- packet
		}
	}
}

func (f *fake) next(t *testing.T) net.Conn {
	t.Helper()
	select {
	case conn := <-f.inbound:
		return conn
	case <-time.After(patience):
		t.Fatal("the client does not come back")
		panic("not reached")
	}
}

func publishPacket(topic string, flags byte, id uint16, payload string) []byte {
	var b bytes.Buffer
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload, p.MessageID, p.Qos = topic, []byte(payload), id, flags>>1&3
	p.Write(&b)
	out := b.Bytes()
	out[0] |= flags
	return out
}

func TestMalformedPacketClosesTheConnectionAndNoMore(t *testing.T) {
	noLeftovers(t)
	f := startFake(t)
	n := start(t, mqtt.Config{URL: f.url(), MaxPacket: 4096, MaxBackoff: 100 * time.Millisecond}, "#")
	malformed := map[string][]byte{
		"endless length":       {0x30, 0xff, 0xff, 0xff, 0xff, 0x01},
		"type 0":               {0x00, 0},
		"type 15":              {0xf0, 0},
		"CONNECT":              {0x10, 0},
		"SUBSCRIBE":            {0x82, 0},
		"second CONNACK":       {0x20, 2, 0, 0},
		"flags of PUBACK":      {0x41, 2, 0, 1},
		"long PUBACK":          {0x40, 3, 0, 1, 0},
		"short UNSUBACK":       {0xb0, 1, 0},
		"PINGRESP with a body": {0xd0, 1, 0},
		"SUBACK of two codes":  {0x90, 4, 0, 1, 0, 0},
		"SUBACK of no code":    {0x90, 2, 0, 1},
		"PUBLISH of nothing":   {0x30, 0},
		"PUBLISH of one byte":  {0x30, 1, 0},
		"topic past the end":   {0x30, 4, 0, 9, 'a', 'b'},
		"no room for the id":   {0x32, 3, 0, 1, 'a'},
		"packet id 0":          {0x32, 5, 0, 1, 'a', 0, 0},
		"QoS 3":                publishPacket("a", 6, 1, "x"),
		"empty topic":          publishPacket("", 0, 0, "x"),
		"topic not UTF-8":      publishPacket("a\xff", 0, 0, "x"),
		"topic with NUL":       publishPacket("a\x00", 0, 0, "x"),
		"topic with +":         publishPacket("a/+", 0, 0, "x"),
		"topic with #":         publishPacket("#", 2, 1, "x"),
		"long bad topic":       publishPacket(strings.Repeat("a", 3000)+"#", 2, 1, "x"),
	}
	count := int64(0)
	for name, bytes := range malformed {
		conn := f.next(t)
		conn.Write(publishPacket("a", 2, 7, "before"))
		n.hears("before").Ack.Ack()
		conn.Write(append(bytes, publishPacket("a", 2, 8, "after")...))
		count++
		eventually(t, "it is counted: "+name, func() bool { return n.Status().Malformed == count })
	}
	f.next(t)
	if len(n.heard) > 0 {
		t.Errorf("heard %+v after a malformed packet, want nothing", <-n.heard)
	}
}

func TestPublishBeforeConnackIsMalformed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	n := start(t, mqtt.Config{URL: "mqtt://" + l.Addr().String()}, "#")
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write(publishPacket("a", 0, 0, "x"))
	eventually(t, "it is counted", func() bool { return n.Status().Malformed > 0 })
	n.stop()
	if len(n.heard) > 0 {
		t.Errorf("heard %+v, want nothing", <-n.heard)
	}
}

func TestMessageAtQoS2IsCompleted(t *testing.T) {
	f := startFake(t)
	n := start(t, mqtt.Config{URL: f.url()}, "#")
	conn := f.next(t)
	conn.Write(publishPacket("a", 4, 9, "twice safe"))
	n.hears("twice safe").Ack.Ack()
	if got := fmt.Sprintf("%T", <-f.packets); got != "*packets.PubrecPacket" {
		t.Errorf("Ack sent %s, want PUBREC", got)
	}
	conn.Write([]byte{0x62, 2, 0, 9})
	if got := fmt.Sprintf("%T", <-f.packets); got != "*packets.PubcompPacket" {
		t.Errorf("PUBREL was answered with %s, want PUBCOMP", got)
	}
}

func TestBrokerThatRefusesASubscriptionIsReported(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{listener: l, packets: make(chan packets.ControlPacket, 10)}
	f.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() { defer conn.Close(); refuseSubscriptions(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); f.wg.Wait() })
	n := start(t, mqtt.Config{URL: f.url()}, "private", "public")
	eventually(t, "it is reported", func() bool { return len(n.Status().Refused) == 1 })
	if got := n.Status().Refused[0]; got != "private" {
		t.Errorf("Refused = %q, want private", got)
	}
	n.Subscribe([]string{"public"})
	eventually(t, "it is forgotten", func() bool { return len(n.Status().Refused) == 0 })
}

func refuseSubscriptions(conn net.Conn) {
	for {
		packet, err := packets.ReadPacket(conn)
		if err != nil {
			return
		}
		switch p := packet.(type) {
		case *packets.ConnectPacket:
			conn.Write([]byte{0x20, 2, 0, 0})
		case *packets.SubscribePacket:
			code := byte(1)
			if p.Topics[0] == "private" {
				code = 0x80
			}
			conn.Write([]byte{0x90, 3, byte(p.MessageID >> 8), byte(p.MessageID), code})
		}
	}
}
