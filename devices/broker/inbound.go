package broker

import (
	"errors"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sedge-iot/sedge/devices"
)

// Why a client is closed.
var (
	errClosed     = errors.New("closed")
	errDenied     = errors.New("topic may not be written")
	errMalformed  = errors.New("packet is malformed")
	errUnreleased = errors.New("too many packets at QoS 2 are not released")
)

// published takes a client's PUBLISH. An error closes the client.
func (b *Broker) published(c *conn, pk *packets.Packet) error {
	b.received.Add(1)
	if code := pk.PublishValidate(0); code != packets.CodeSuccess {
		return errMalformed
	}
	if !c.session.rules.allow(pk.TopicName, writing) {
		return b.deny(c, pk)
	}
	m := &message{
		topic:   pk.TopicName,
		payload: pk.Payload,
		qos:     pk.FixedHeader.Qos,
		retain:  pk.FixedHeader.Retain,
		from:    c.session,
	}
	if c.version == 5 {
		m.properties = wire(pk.Properties)
		m.expires = expires(pk.Properties.MessageExpiryInterval)
	}
	if m.qos == 0 {
		b.spread(m, nil, &origin{})
		return nil
	}
	if !b.proceed(c) || !c.take(len(m.payload)) {
		return errClosed
	}
	r := &receipt{conn: c, session: c.session, id: pk.PacketID, qos: m.qos, size: len(m.payload)}
	if m.qos == 2 {
		if first, err := c.session.register(r); err != nil || !first {
			return err
		}
	}
	r.left.Store(1)
	b.spread(m, r, &origin{id: pk.PacketID, dup: pk.FixedHeader.Dup})
	r.settle()
	return nil
}

// deny refuses a PUBLISH. MQTT 3.1.1 knows no way to say so but to close, if
// the client waits for an answer.
func (b *Broker) deny(c *conn, pk *packets.Packet) error {
	b.denied.Add(1)
	if !c.refused {
		c.refused = true
		b.log.Warn("client may not publish there", "client", c.who.client, "user", c.who.user, "topic", pk.TopicName)
	}
	switch {
	case pk.FixedHeader.Qos == 0:
		return nil
	case c.version < 5:
		return errDenied
	case pk.FixedHeader.Qos == 1:
		c.reply(puback, pk.PacketID, packets.ErrNotAuthorized.Code)
	default:
		c.reply(pubrec, pk.PacketID, packets.ErrNotAuthorized.Code)
	}
	return nil
}

func expires(interval uint32) int64 {
	if interval == 0 {
		return 0
	}
	return time.Now().Unix() + int64(interval)
}

// register notes a packet at QoS 2. It reports whether it is the first of its
// id; a repetition gets its PUBREC when the first one does, or again.
func (s *session) register(r *receipt) (first bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.exact[r.id]
	switch {
	case old == nil && len(s.exact) >= 4*r.conn.unackedMax:
		return false, errUnreleased
	case old == nil:
		s.exact[r.id] = r
		return true, nil
	case old.acked:
		r.conn.settle(pubrec, r.id, r.size)
	case old.conn != r.conn:
		old.conn, old.size = r.conn, r.size
	default:
		r.conn.give(r.size)
	}
	return false, nil
}

// received sends the PUBREC that is due, on the connection that waits for it now.
func (s *session) received(r *receipt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.acked = true
	r.conn.settle(pubrec, r.id, r.size)
}

// released ends a packet at QoS 2.
func (s *session) released(c *conn, id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.exact[id]
	switch {
	case r == nil:
		c.reply(pubcomp, id, packets.ErrPacketIdentifierNotFound.Code)
	case r.acked:
		delete(s.exact, id)
		c.reply(pubcomp, id, 0)
	}
}

// An origin names the packet that a message came in.
type origin struct {
	id  uint16
	dup bool
}

// spread hands a message to all who want it. r is the publisher's receipt, nil
// at QoS 0; o is nil if no packet brought the message.
func (b *Broker) spread(m *message, r *receipt, o *origin) {
	to := b.topics.route(m.topic)
	m.topic = to.topic
	if m.retain {
		b.retain.mu.Lock() // so that who subscribes meanwhile sees this message after the older ones
		b.keeper.retained(b.retain.setLocked(m), m.topic)
		b.send(to, m, r)
		b.retain.mu.Unlock()
	} else {
		b.send(to, m, r)
	}
	if !to.wanted {
		return
	}
	told := devices.Message{Topic: m.topic, Payload: m.payload, QoS: m.qos, Time: time.Now()}
	if r != nil {
		r.left.Add(1)
		told.Ack = r
	}
	if m.from == nil || o == nil {
		b.echo.add(told)
		return
	}
	told.Session, told.PacketID, told.Dup = m.from.name, o.id, o.dup
	if hear := b.hear.Load(); hear != nil {
		(*hear)(told)
	}
}

// send delivers a message to every session that wants it.
func (b *Broker) send(to *route, m *message, r *receipt) {
	for i := range to.to {
		b.sendOne(&to.to[i], m, r)
	}
	for _, group := range to.groups {
		one := to.member(group)
		b.sendOne(&one, m, r)
	}
}

func (b *Broker) sendOne(to *target, m *message, r *receipt) {
	if to.noLocal && to.session == m.from {
		return
	}
	how := live
	if m.retain && to.asPublished {
		how = published
	}
	to.session.deliver(m, *to, how, r)
}
