package mqtt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/sedge-iot/sedge/devices"
)

// The control packets of MQTT 3.1.1 that concern us, by the upper half of
// their first byte.
const (
	typeConnack    = 2
	typePublish    = 3
	typePuback     = 4
	typePubrec     = 5
	typePubrel     = 6
	typePubcomp    = 7
	typeSuback     = 9
	typeUnsuback   = 11
	typePingreq    = 12
	typePingresp   = 13
	typeDisconnect = 14
)

// sample is how much of a payload is kept, in bytes, when its packet is over
// the cap.
const sample = 256

// errMalformed marks packets that MQTT forbids: where one begins and ends can
// no longer be trusted, so that the connection has to go.
var errMalformed = errors.New("malformed packet")

// A framer splits what a broker sends into packets and refuses what is none.
// It allocates no more than cap bytes for a packet (64 KiB for a topic),
// whatever length the packet announces.
type framer struct {
	r   *bufio.Reader
	cap int // bytes of a whole packet
}

// A frame is a packet whose header is read and checked, and whose body is not.
type frame struct {
	first  byte // type and flags
	header int  // bytes
	body   int  // bytes
}

func (f frame) kind() byte { return f.first >> 4 }
func (f frame) qos() byte  { return f.first >> 1 & 3 }

// next reads the header of the next packet.
func (f *framer) next() (frame, error) {
	first, err := f.r.ReadByte()
	if err != nil {
		return frame{}, err
	}
	p := frame{first: first, header: 1}
	for shift := 0; ; shift += 7 {
		if shift > 21 {
			return frame{}, fmt.Errorf("%w: length of more than four bytes", errMalformed)
		}
		b, err := f.r.ReadByte()
		if err != nil {
			return frame{}, midway(err)
		}
		p.header++
		p.body |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			return p, p.check()
		}
	}
}

// check holds what a server may send. Every kind but PUBLISH has a length of
// its own; SUBACK too, since each SUBSCRIBE of ours asks for one filter.
func (f frame) check() error {
	flags, length := byte(0), 2
	switch f.kind() {
	case typePublish:
		if f.qos() == 3 {
			return fmt.Errorf("%w: PUBLISH with QoS 3", errMalformed)
		}
		return nil
	case typeConnack, typePuback, typePubrec, typePubcomp, typeUnsuback:
	case typePubrel:
		flags = 2
	case typeSuback:
		length = 3
	case typePingresp:
		length = 0
	default:
		return fmt.Errorf("%w: type %d", errMalformed, f.kind())
	}
	if f.first&0xf != flags || f.body != length {
		return fmt.Errorf("%w: type %d with flags %d and %d bytes", errMalformed, f.kind(), f.first&0xf, f.body)
	}
	return nil
}

// small appends to buf the whole of a packet that is no PUBLISH.
func (f *framer) small(p frame, buf []byte) ([]byte, error) {
	buf = append(buf, p.first, byte(p.body))
	for range p.body {
		b, err := f.r.ReadByte()
		if err != nil {
			return nil, midway(err)
		}
		buf = append(buf, b)
	}
	return buf, nil
}

// publish reads the rest of a PUBLISH. Of one that is over the cap, or whose
// topic is longer than [devices.MaxTopic], only the beginning is kept; the rest
// is read past.
func (f *framer) publish(p frame) (devices.Message, error) {
	var scratch [2]byte
	if p.body < len(scratch) {
		return devices.Message{}, fmt.Errorf("%w: PUBLISH without a topic", errMalformed)
	}
	if _, err := io.ReadFull(f.r, scratch[:]); err != nil {
		return devices.Message{}, midway(err)
	}
	topic, id := int(binary.BigEndian.Uint16(scratch[:])), 0
	if p.qos() > 0 {
		id = 2
	}
	payload := p.body - 2 - topic - id
	if payload < 0 {
		return devices.Message{}, fmt.Errorf("%w: PUBLISH shorter than its topic", errMalformed)
	}
	keep, real := payload, 0
	if size := p.header + p.body; size > f.cap || topic > devices.MaxTopic {
		keep, real = min(payload, sample), size
	}
	body := make([]byte, topic+id+keep)
	if _, err := io.ReadFull(f.r, body); err != nil {
		return devices.Message{}, midway(err)
	}
	if _, err := f.r.Discard(payload - keep); err != nil {
		return devices.Message{}, midway(err)
	}
	m := devices.Message{
		Topic:     string(body[:topic]),
		Payload:   body[topic+id:],
		QoS:       p.qos(),
		Retained:  p.first&1 != 0,
		Dup:       p.first&8 != 0,
		Truncated: real,
	}
	if id > 0 {
		m.PacketID = binary.BigEndian.Uint16(body[topic:])
	}
	return m, settle(&m)
}

// settle refuses what MQTT forbids in a PUBLISH and shortens a long topic.
func settle(m *devices.Message) error {
	if err := devices.CheckTopic(m.Topic); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	if m.QoS > 0 && m.PacketID == 0 {
		return fmt.Errorf("%w: PUBLISH with packet id 0", errMalformed)
	}
	if len(m.Topic) > devices.MaxTopic {
		cut := devices.MaxTopic
		for !utf8.RuneStart(m.Topic[cut]) {
			cut--
		}
		m.Topic = strings.Clone(m.Topic[:cut])
	}
	return nil
}

// midway is the error of a connection that ended within a packet.
func midway(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendPublish appends p as a packet to buf.
func appendPublish(buf []byte, p devices.Publication, id uint16) []byte {
	first := byte(typePublish<<4) | p.QoS<<1
	if p.Retain {
		first |= 1
	}
	length := 2 + len(p.Topic) + len(p.Payload)
	if p.QoS > 0 {
		length += 2
	}
	buf = append(buf, first)
	for ; length > 0x7f; length >>= 7 {
		buf = append(buf, byte(length)|0x80)
	}
	buf = append(buf, byte(length))
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(p.Topic)))
	buf = append(buf, p.Topic...)
	if p.QoS > 0 {
		buf = binary.BigEndian.AppendUint16(buf, id)
	}
	return append(buf, p.Payload...)
}
