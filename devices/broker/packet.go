package broker

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// First bytes of the packets that are written here.
const (
	publish byte = 0x30
	puback  byte = 0x40
	pubrec  byte = 0x50
	pubcomp byte = 0x70
)

// Properties of MQTT 5 that are written here.
const (
	expiryProperty       = 0x02
	subscriptionProperty = 0x0B
)

// A message is a PUBLISH on its way to whoever wants it. It never changes.
type message struct {
	topic      string
	payload    []byte
	properties []byte // of MQTT 5, as on the wire, without their length and those that the broker sets
	expires    int64  // unix seconds, or 0
	qos        byte
	retain     bool
	from       *session // or nil
}

// A parcel is one message for one session. What may change is guarded by the
// session's mu.
type parcel struct {
	*message
	session *session
	ids     []int // subscription identifiers
	seq     uint64
	due     time.Time // to be stored; guarded by the keeper's mu
	receipt *receipt  // to be settled when the parcel is done or stored, or nil
	row     int64     // in the database, or 0
	id      uint16    // of the packet, or 0 before it is sent
	qos     byte
	retain  bool // the flag that the client sees
	replay  bool // was retained before the subscription
	dup     bool
	done    bool // acknowledged, or nobody waits for it any more
}

// appendTo appends the parcel as a PUBLISH packet.
func (p *parcel) appendTo(b []byte, version byte) []byte {
	first := publish | p.qos<<1
	if p.dup {
		first |= 8
	}
	if p.retain {
		first |= 1
	}
	n := 2 + len(p.topic) + len(p.payload)
	if p.qos > 0 {
		n += 2
	}
	var properties int
	if version == 5 {
		properties = p.propertiesLen()
		n += lengthLen(properties) + properties
	}
	b = appendLength(append(b, first), n)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.topic)))
	b = append(b, p.topic...)
	if p.qos > 0 {
		b = binary.BigEndian.AppendUint16(b, p.id)
	}
	if version == 5 {
		b = p.appendProperties(appendLength(b, properties))
	}
	return append(b, p.payload...)
}

func (p *parcel) propertiesLen() int {
	n := len(p.properties)
	if p.expires > 0 {
		n += 5
	}
	for _, id := range p.ids {
		n += 1 + lengthLen(id)
	}
	return n
}

func (p *parcel) appendProperties(b []byte) []byte {
	b = append(b, p.properties...)
	if p.expires > 0 {
		left := max(p.expires-time.Now().Unix(), 1)
		b = binary.BigEndian.AppendUint32(append(b, expiryProperty), uint32(left))
	}
	for _, id := range p.ids {
		b = appendLength(append(b, subscriptionProperty), id)
	}
	return b
}

// size is about what the parcel takes in memory, and at least its packet's.
func (p *parcel) size() int {
	return len(p.topic) + len(p.payload) + len(p.properties) + 5*len(p.ids) + 100
}

// appendLength appends n as MQTT's variable byte integer.
func appendLength(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func lengthLen(n int) int {
	l := 1
	for ; n >= 0x80; n >>= 7 {
		l++
	}
	return l
}

// wire returns those properties of a PUBLISH that are handed on as they came.
func wire(p packets.Properties) []byte {
	if p.ContentType == "" && p.ResponseTopic == "" && len(p.CorrelationData) == 0 && len(p.User) == 0 && !p.PayloadFormatFlag {
		return nil
	}
	on := packets.Properties{
		ContentType:       p.ContentType,
		ResponseTopic:     p.ResponseTopic,
		CorrelationData:   p.CorrelationData,
		User:              p.User,
		PayloadFormat:     p.PayloadFormat,
		PayloadFormatFlag: p.PayloadFormatFlag,
	}
	var b bytes.Buffer
	on.Encode(packets.Publish, packets.Mods{AllowResponseInfo: true}, &b, 0)
	for b.Len() > 0 { // the length goes before the properties and ends with a byte below 0x80
		if c, _ := b.ReadByte(); c < 0x80 {
			break
		}
	}
	return b.Bytes()
}
