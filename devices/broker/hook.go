package broker

import (
	"log/slog"
	"math"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sedge-iot/sedge/devices"
)

// A hook is where mochi's server and the broker meet. mochi reads and checks
// packets and speaks CONNECT, SUBSCRIBE and PING; whatever has to do with a
// message never gets as far as its own sessions. RATIONALE.md says why.
type hook struct {
	mqtt.HookBase
	b *Broker
}

// newMochi returns a server without listeners, loops or state of its own.
func newMochi(b *Broker) *mqtt.Server {
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumClients = math.MaxInt64 // counted here
	caps.MaximumClientWritesPending = 1 // nothing goes out that way
	caps.MaximumSessionExpiryInterval = uint32(b.limits.Expiry / time.Second)
	caps.MaximumPacketSize = uint32(b.limits.Packet)
	caps.ReceiveMaximum = uint16(min(b.limits.Unacked, math.MaxUint16))
	caps.TopicAliasMaximum = 0
	s := mqtt.New(&mqtt.Options{
		Capabilities:            caps,
		Logger:                  slog.New(slog.DiscardHandler), // the broker has its own words
		ClientNetReadBufferSize: 4 << 10,
	})
	s.AddHook(&hook{b: b}, nil) // fails only where a hook's Init does
	return s
}

// ID names the hook.
func (h *hook) ID() string { return "sedge" }

// Provides says which of mochi's moments concern the broker.
func (h *hook) Provides(moment byte) bool {
	switch moment {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck,
		mqtt.OnSessionEstablish, mqtt.OnSessionEstablished,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPacketProcessed,
		mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribed:
		return true
	}
	return false
}

// OnConnect takes what CONNECT says out of mochi's hands: for mochi each
// connection is a client of its own, without a will and without a past.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c := cl.Net.Conn.(*conn)
	c.client = cl
	c.version = cl.Properties.ProtocolVersion
	c.who = identity{client: cl.ID}
	if h.b.users.hashes != nil {
		c.who.user = string(pk.Connect.Username)
	}
	if pk.Connect.WillFlag {
		c.will = will(pk.Connect)
		c.delay = time.Duration(pk.Connect.WillProperties.WillDelayInterval) * time.Second
	}
	cl.Properties.Will = mqtt.Will{}
	cl.ID = h.b.nextName(c.who)
	return nil
}

func will(p packets.ConnectParams) *message {
	return &message{
		topic:      p.WillTopic,
		payload:    p.WillPayload,
		qos:        p.WillQos,
		retain:     p.WillRetain,
		properties: wire(p.WillProperties),
		expires:    expires(p.WillProperties.MessageExpiryInterval),
	}
}

// OnConnectAuthenticate reports whether the client may connect, with the will
// that it has.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	c := cl.Net.Conn.(*conn)
	if len(c.who.client) > maxText {
		h.b.denied.Add(1)
		return false
	}
	if !h.b.users.check(c.who.user, pk.Connect.Password) {
		h.b.denied.Add(1)
		h.b.log.Warn("client is not who it says", "client", c.who.client, "user", c.who.user, "remote", cl.Net.Remote)
		return false
	}
	if c.will != nil && (devices.CheckTopic(c.will.topic) != nil || !h.b.acl.of(c.who).allow(c.will.topic, writing)) {
		h.b.denied.Add(1)
		h.b.log.Warn("client may not have that will", "client", c.who.client, "user", c.who.user, "topic", c.will.topic)
		return false
	}
	return true
}

// OnSessionEstablish gives the client its session before CONNACK tells of it.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, pk packets.Packet) {
	c := cl.Net.Conn.(*conn)
	g := greeting{
		clean:   pk.Connect.Clean,
		expiry:  h.b.expiryOf(c),
		window:  int(pk.Properties.ReceiveMaximum),
		largest: int(min(pk.Properties.MaximumPacketSize, math.MaxInt32)),
	}
	if err := h.b.enter(c, g); err != nil {
		h.b.log.Error("session cannot be stored: its client is turned away", "client", c.who.client, "err", err)
		c.Close()
	}
	if c.will != nil {
		c.will.from = c.session
	}
}

// expiryOf returns for how long the client wants its session kept.
func (b *Broker) expiryOf(c *conn) time.Duration {
	p := &c.client.Properties
	if p.ProtocolVersion < 5 {
		if p.Clean {
			return 0
		}
		return b.limits.Expiry
	}
	return min(time.Duration(p.Props.SessionExpiryInterval)*time.Second, b.limits.Expiry)
}

// retireMochi has mochi forget the connection.
func (b *Broker) retireMochi(c *conn) {
	b.mochi.UnsubscribeClient(c.client)
	b.mochi.Clients.Delete(c.client.ID)
}

// OnPacketEncode completes what CONNACK says.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type != packets.Connack {
		return pk
	}
	c := cl.Net.Conn.(*conn)
	pk.SessionPresent = c.present && pk.ReasonCode == 0
	pk.Properties.MaximumPacketSize = uint32(h.b.limits.Packet)
	return pk
}

// OnSessionEstablished lets messages follow CONNACK.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	cl.Net.Conn.(*conn).session.begin()
}

// OnPacketRead takes every packet that belongs to a message, and passes on in
// its place the acknowledgement of nothing.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c := cl.Net.Conn.(*conn)
	switch pk.FixedHeader.Type {
	case packets.Publish:
		if err := h.b.published(c, &pk); err != nil {
			h.b.log.Info("client is closed", "client", c.who.client, "user", c.who.user, "err", err)
			return pk, packets.ErrRejectPacket
		}
	case packets.Puback:
		c.session.acknowledged(pk.PacketID)
	case packets.Pubrel:
		c.session.released(c, pk.PacketID)
	case packets.Pubrec, packets.Pubcomp: // nothing goes out at QoS 2
	default:
		return pk, nil
	}
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}}, nil
}

// OnACLCheck reports whether a client may subscribe to filter. It is asked once
// for each filter of a SUBSCRIBE, and for nothing else.
func (h *hook) OnACLCheck(cl *mqtt.Client, filter string, _ bool) bool {
	c := cl.Net.Conn.(*conn)
	c.asked++
	c.session.mu.Lock()
	most := len(c.session.subs)+c.asked > h.b.limits.Filters && c.session.subs[filter] == nil
	c.session.mu.Unlock()
	if !most && c.session.rules.allowFilter(filter) {
		return true
	}
	h.b.denied.Add(1)
	if !c.refused {
		c.refused = true
		h.b.log.Warn("client may not subscribe to that", "client", c.who.client, "user", c.who.user, "filter", filter)
	}
	return false
}

// OnSubscribe grants no more than QoS 1.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	cl.Net.Conn.(*conn).asked = 0
	for i := range pk.Filters {
		pk.Filters[i].Qos = min(pk.Filters[i].Qos, 1)
	}
	return pk
}

// OnSubscribed takes the subscriptions that were granted before SUBACK says so.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	c := cl.Net.Conn.(*conn)
	var subs []*subscription
	var handling []byte
	for i, f := range pk.Filters {
		if codes[i] >= packets.ErrUnspecifiedError.Code {
			continue
		}
		subs = append(subs, &subscription{
			session: c.session, filter: f.Filter, qos: f.Qos, noLocal: f.NoLocal, asPublished: f.RetainAsPublished, id: f.Identifier,
		})
		handling = append(handling, f.RetainHandling)
	}
	err := h.b.subscribed(c, subs, func(i int, added bool) {
		group, _ := unshare(subs[i].filter)
		if group == "" && (handling[i] == 0 || handling[i] == 1 && added) {
			c.replay = append(c.replay, subs[i])
		}
	})
	if err != nil {
		h.b.log.Error("subscription cannot be stored: its client is closed", "client", c.who.client, "err", err)
		c.Close()
	}
}

// OnUnsubscribed takes subscriptions away before UNSUBACK says so.
func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	c := cl.Net.Conn.(*conn)
	if cl.Closed() { // mochi clears up after a client that is gone; its session may stay
		return
	}
	var filters []string
	for _, f := range pk.Filters {
		filters = append(filters, f.Filter)
	}
	if err := h.b.unsubscribed(c, filters); err != nil {
		h.b.log.Error("end of a subscription cannot be stored: its client is closed", "client", c.who.client, "err", err)
		c.Close()
	}
}

// OnPacketProcessed lets retained messages follow SUBACK.
func (h *hook) OnPacketProcessed(cl *mqtt.Client, pk packets.Packet, _ error) {
	if pk.FixedHeader.Type != packets.Subscribe {
		return
	}
	c := cl.Net.Conn.(*conn)
	h.b.repeat(c.session, c.replay)
	c.replay = nil
}
