package broker

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sedge-iot/sedge/devices"
)

// patience is how long a test waits for what must come, and a little how long
// for what must not.
const (
	patience = 10 * time.Second
	aLittle  = 60 * time.Millisecond
)

// A rig is a broker that runs, and the agent's ear.
type rig struct {
	*Broker
	heard chan devices.Message
	stop  func()
}

// run starts a broker that stops with the test, or with stop. The agent wants
// filters.
func run(t testing.TB, cfg Config, filters ...string) *rig {
	t.Helper()
	cfg.Listener = listen(t, "127.0.0.1:0")
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Broker: b, heard: make(chan devices.Message, 100_000)}
	b.Subscribe(filters)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx, func(m devices.Message) { r.heard <- m }) }() // stop waits
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil once the context is done", err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

func listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// hears returns the next message that the agent is handed.
func (r *rig) hears(t testing.TB) devices.Message {
	t.Helper()
	select {
	case m := <-r.heard:
		return m
	case <-time.After(patience):
		t.Fatal("the agent hears nothing")
		panic("unreachable")
	}
}

// silence fails if the agent hears anything.
func (r *rig) silence(t testing.TB) {
	t.Helper()
	select {
	case m := <-r.heard:
		t.Fatalf("the agent hears %s %q, want nothing", m.Topic, m.Payload)
	case <-time.After(aLittle):
	}
}

// eventually waits until is holds.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		}
	}
}

// A client speaks MQTT packet by packet, so that a test decides when.
type client struct {
	t       testing.TB
	conn    net.Conn
	r       *bufio.Reader
	version byte
	present bool
}

// A hello is what a client says in CONNECT.
type hello struct {
	id, user, password string
	version            byte // 4 if 0
	keep               bool // the session
	expiry             uint32
	window             uint16
	largest            uint32
	will               *packets.Packet
}

// tryDial connects and returns the code of CONNACK.
func tryDial(t testing.TB, addr net.Addr, h hello) (*client, byte) {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &client{t: t, conn: conn, r: bufio.NewReader(conn), version: max(h.version, 4)}
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}}
	pk.Connect = packets.ConnectParams{
		ProtocolName: []byte("MQTT"), ClientIdentifier: h.id, Clean: !h.keep, Keepalive: 60,
		UsernameFlag: h.user != "", Username: []byte(h.user), PasswordFlag: h.password != "", Password: []byte(h.password),
	}
	pk.Properties.ReceiveMaximum, pk.Properties.MaximumPacketSize = h.window, h.largest
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = h.expiry, h.expiry > 0
	if h.will != nil {
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, h.will.TopicName, h.will.Payload
		pk.Connect.WillRetain, pk.Connect.WillQos = h.will.FixedHeader.Retain, h.will.FixedHeader.Qos
		pk.Connect.WillProperties = h.will.Properties
	}
	c.send(pk)
	ack, err := c.read(patience)
	if err != nil {
		return c, 0xFF
	}
	if ack.FixedHeader.Type != packets.Connack {
		t.Fatalf("got %s, want Connack", packets.PacketNames[ack.FixedHeader.Type])
	}
	c.present = ack.SessionPresent
	return c, ack.ReasonCode
}

func dial(t testing.TB, addr net.Addr, h hello) *client {
	t.Helper()
	c, code := tryDial(t, addr, h)
	if code != 0 {
		t.Fatalf("connect %+v: code %#x, want 0", h, code)
	}
	return c
}

func (c *client) send(pk packets.Packet) {
	c.t.Helper()
	pk.ProtocolVersion = c.version
	pk.Mods.AllowResponseInfo = true
	var b bytes.Buffer
	encode := map[byte]func(*bytes.Buffer) error{
		packets.Connect: pk.ConnectEncode, packets.Publish: pk.PublishEncode, packets.Puback: pk.PubackEncode,
		packets.Pubrel: pk.PubrelEncode, packets.Subscribe: pk.SubscribeEncode, packets.Unsubscribe: pk.UnsubscribeEncode,
		packets.Pingreq: pk.PingreqEncode, packets.Disconnect: pk.DisconnectEncode,
	}
	if err := encode[pk.FixedHeader.Type](&b); err != nil {
		c.t.Fatal(err)
	}
	c.conn.Write(b.Bytes()) // a closed connection is noticed by reading
}

// read returns the next packet.
func (c *client) read(within time.Duration) (pk packets.Packet, err error) {
	c.conn.SetReadDeadline(time.Now().Add(within))
	first, err := c.r.ReadByte()
	if err != nil {
		return pk, err
	}
	pk.ProtocolVersion = c.version
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	n, _, err := packets.DecodeLength(c.r)
	if err != nil {
		return pk, err
	}
	body := make([]byte, n)
	for read := 0; read < n; {
		m, err := c.r.Read(body[read:])
		if err != nil {
			return pk, err
		}
		read += m
	}
	decode := map[byte]func([]byte) error{
		packets.Connack: pk.ConnackDecode, packets.Publish: pk.PublishDecode, packets.Puback: pk.PubackDecode,
		packets.Pubrec: pk.PubrecDecode, packets.Pubcomp: pk.PubcompDecode, packets.Suback: pk.SubackDecode,
		packets.Unsuback: pk.UnsubackDecode, packets.Disconnect: pk.DisconnectDecode,
		packets.Pingresp: func([]byte) error { return nil },
	}
	f := decode[pk.FixedHeader.Type]
	if f == nil {
		return pk, fmt.Errorf("unexpected packet of type %d", pk.FixedHeader.Type)
	}
	return pk, f(body)
}

// expect returns the next packet, which is of the kind.
func (c *client) expect(kind byte) packets.Packet {
	c.t.Helper()
	pk, err := c.read(patience)
	if err != nil {
		c.t.Fatalf("waiting for %s: %v", packets.PacketNames[kind], err)
	}
	if pk.FixedHeader.Type != kind {
		c.t.Fatalf("got %s of packet %d on %q, want %s", packets.PacketNames[pk.FixedHeader.Type], pk.PacketID, pk.TopicName, packets.PacketNames[kind])
	}
	return pk
}

// nothing fails if any packet comes.
func (c *client) nothing() {
	c.t.Helper()
	if pk, err := c.read(aLittle); err == nil {
		c.t.Fatalf("got %s of packet %d on %q, want nothing", packets.PacketNames[pk.FixedHeader.Type], pk.PacketID, pk.TopicName)
	} else if !os.IsTimeout(err) {
		c.t.Fatalf("closed (%v), want silence", err)
	}
}

// closed fails unless the broker closes the connection.
func (c *client) closed() {
	c.t.Helper()
	for {
		pk, err := c.read(patience)
		switch {
		case err == nil && pk.FixedHeader.Type == packets.Disconnect:
		case err == nil:
			c.t.Fatalf("got %s, want the connection closed", packets.PacketNames[pk.FixedHeader.Type])
		case os.IsTimeout(err):
			c.t.Fatal("the connection stays open")
		default:
			return
		}
	}
}

// ping proves that everything sent before has been read and is answered.
func (c *client) ping() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	c.expect(packets.Pingresp)
}

func (c *client) bye() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	c.closed()
}

// message returns a PUBLISH.
func message4(topic, payload string, qos byte, id uint16) packets.Packet {
	return packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos},
		TopicName:   topic, Payload: []byte(payload), PacketID: id,
	}
}

func (c *client) publish(topic, payload string, qos byte, id uint16) {
	c.t.Helper()
	c.send(message4(topic, payload, qos, id))
}

func (c *client) retain(topic, payload string) {
	c.t.Helper()
	pk := message4(topic, payload, 0, 0)
	pk.FixedHeader.Retain = true
	c.send(pk)
}

func (c *client) puback(id uint16) {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id})
}

// subscribe returns the code that the SUBACK gives; what was retained is still
// to be read.
func (c *client) subscribe(filter string, qos byte) byte {
	c.t.Helper()
	c.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1,
		Filters: packets.Subscriptions{{Filter: filter, Qos: qos}},
	})
	return c.expect(packets.Suback).ReasonCodes[0]
}

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
