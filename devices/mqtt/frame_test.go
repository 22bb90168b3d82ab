package mqtt

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/sedge-iot/sedge/devices"
)

func framerOf(stream []byte, limit int) *framer {
	return &framer{r: bufio.NewReaderSize(bytes.NewReader(stream), 4096), cap: limit}
}

func TestAnnouncedLengthIsNotAllocated(t *testing.T) {
	for name, stream := range map[string][]byte{
		"payload": {0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'a'},
		"topic":   {0x30, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 'a'},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f := framerOf(stream, 1<<20)
		p, err := f.next()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.publish(p); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v, want %v", name, err, io.ErrUnexpectedEOF)
		}
		runtime.ReadMemStats(&after)
		if got, want := after.TotalAlloc-before.TotalAlloc, uint64(256<<10); got > want {
			t.Errorf("%s: 256 MiB announced, %d bytes allocated, want at most %d", name, got, want)
		}
	}
}

func TestLongTopicIsCutBetweenCharacters(t *testing.T) {
	topic := strings.Repeat("ä", 300)
	stream := appendPublish(nil, devices.Publication{Topic: topic, QoS: 1}, 1)
	f := framerOf(stream, 1<<20)
	p, err := f.next()
	if err != nil {
		t.Fatal(err)
	}
	m, err := f.publish(p)
	if err != nil || m.Topic != topic[:512] || m.Truncated != len(stream) {
		t.Errorf("topic of %d bytes, truncated %d, %v, want 512, %d", len(m.Topic), m.Truncated, err, len(stream))
	}
}

// FuzzFramer lets paho read the same bytes: within the limits it must find the
// same message; past them, its beginning. What paho is given must be whole.
func FuzzFramer(f *testing.F) {
	f.Add([]byte{0x20, 2, 0, 0, 0xd0, 0, 0x40, 2, 0, 1, 0x90, 3, 0, 1, 1, 0x62, 2, 0, 3})
	f.Add(appendPublish(nil, devices.Publication{Topic: "a/b", Payload: []byte("hello"), QoS: 1, Retain: true}, 7))
	f.Add(appendPublish(nil, devices.Publication{Topic: "a", Payload: make([]byte, 2000)}, 0))
	f.Add(appendPublish(nil, devices.Publication{Topic: strings.Repeat("a", 600), QoS: 2}, 1))
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'a'})
	f.Fuzz(func(t *testing.T, stream []byte) {
		const limit = 1024
		fr := framerOf(stream, limit)
		for rest := stream; ; {
			p, err := fr.next()
			if err != nil {
				return
			}
			if p.kind() != typePublish {
				packet, err := fr.small(p, nil)
				if err != nil {
					return
				}
				if _, err := packets.ReadPacket(bytes.NewReader(packet)); err != nil {
					t.Fatalf("paho is given %x, which it cannot read: %v", packet, err)
				}
				if p.header == 2 && !bytes.HasPrefix(rest, packet) {
					t.Fatalf("%x is not what came", packet)
				}
				rest = rest[p.header+p.body:]
				continue
			}
			m, err := fr.publish(p)
			if err != nil {
				return
			}
			checkMessage(t, m, rest, p.header+p.body, limit)
			rest = rest[p.header+p.body:]
		}
	})
}

// checkMessage compares m with what paho makes of the packet at the head of
// rest.
func checkMessage(t *testing.T, m devices.Message, rest []byte, size, limit int) {
	t.Helper()
	read, err := packets.ReadPacket(bytes.NewReader(rest))
	if err == io.EOF {
		err = nil // paho's way to say that the payload is empty
		return
	}
	if err != nil {
		t.Fatalf("a message of %x, which paho cannot read: %v", rest[:size], err)
	}
	want := read.(*packets.PublishPacket)
	if m.QoS != want.Qos || m.Retained != want.Retain || m.Dup != want.Dup || m.PacketID != want.MessageID {
		t.Fatalf("message %+v, want %v", m, want)
	}
	if over := size > limit || len(want.TopicName) > devices.MaxTopic; over {
		if m.Truncated != size || !strings.HasPrefix(want.TopicName, m.Topic) || !bytes.HasPrefix(want.Payload, m.Payload) ||
			len(m.Topic) > devices.MaxTopic || len(m.Payload) > sample {
			t.Fatalf("message %+v of %d bytes, want the beginning of %v", m, size, want)
		}
		return
	}
	if m.Truncated != 0 || m.Topic != want.TopicName || !bytes.Equal(m.Payload, want.Payload) {
		t.Fatalf("message %+v, want %v", m, want)
	}
	if err := devices.CheckTopic(m.Topic); err != nil {
		t.Fatalf("message with %v", err)
	}
}

// FuzzPublish checks that what is published is what paho reads.
func FuzzPublish(f *testing.F) {
	f.Add("a/b", []byte("hello"), byte(1), uint16(7), true)
	f.Add("a", make([]byte, 20_000), byte(0), uint16(0), false)
	f.Fuzz(func(t *testing.T, topic string, payload []byte, qos byte, id uint16, retain bool) {
		if devices.CheckTopic(topic) != nil || qos > 2 || len(payload) == 0 {
			return
		}
		packet := appendPublish(nil, devices.Publication{Topic: topic, Payload: payload, QoS: qos, Retain: retain}, id)
		r := bytes.NewReader(packet)
		read, err := packets.ReadPacket(r)
		if err != nil || r.Len() > 0 {
			t.Fatalf("paho reads %v with %d bytes left", err, r.Len())
		}
		got := read.(*packets.PublishPacket)
		if got.TopicName != topic || !bytes.Equal(got.Payload, payload) || got.Qos != qos || got.Retain != retain || qos > 0 && got.MessageID != id {
			t.Fatalf("paho reads %v", got)
		}
	})
}
