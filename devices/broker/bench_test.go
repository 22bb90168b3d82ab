package broker

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"

	"github.com/sedge-iot/sedge/devices"
)

// BenchmarkHearAndAnswer is what the broker adds to an event: a device
// publishes, the agent hears it, publishes the answer and acknowledges, and
// another device gets the answer. 64 events are on their way at a time.
func BenchmarkHearAndAnswer(b *testing.B) {
	for qos := range byte(2) {
		b.Run(string("QoS "+string('0'+rune(qos))), func(b *testing.B) { hearAndAnswer(b, qos) })
	}
}

func hearAndAnswer(b *testing.B, qos byte) {
	br, err := New(Config{Listener: listen(b, "127.0.0.1:0")})
	if err != nil {
		b.Fatal(err)
	}
	br.Subscribe([]string{"zigbee2mqtt/+"})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	answer := []byte(`{"state":"ON","brightness":80}`)
	go func() {
		done <- br.Run(ctx, func(m devices.Message) {
			br.Publish(devices.Publication{Topic: "zigbee2mqtt/hall_lamp/set", Payload: answer, QoS: qos}, func(error) {
				if m.Ack != nil {
					m.Ack.Ack()
				}
			})
		})
	}()
	defer func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}()

	lamp := dial(b, br.Addr(), hello{id: "lamp"})
	lamp.subscribe("zigbee2mqtt/+/set", qos)
	motion := dial(b, br.Addr(), hello{id: "motion"})
	packet := (&parcel{
		message: &message{topic: "zigbee2mqtt/hall_motion", payload: []byte(`{"occupancy":true,"illuminance":4,"battery":97,"linkquality":120,"last_seen":"2026-01-01T00:00:00Z"}`)},
		qos:     qos, id: 1,
	}).appendTo(nil, 4)
	room := make(chan struct{}, 64)
	b.ReportAllocs()
	b.ResetTimer()
	go func() { // ends with the connection
		w := bufio.NewWriter(motion.conn)
		for range b.N {
			select {
			case room <- struct{}{}:
			default:
				w.Flush()
				room <- struct{}{}
			}
			w.Write(packet)
		}
		w.Flush()
	}()
	if qos > 0 {
		go io.Copy(io.Discard, motion.r) // ends with the connection
	}
	take(b, lamp.conn, lamp.r, qos, room)
}

// take reads b.N PUBLISHes and acknowledges them.
func take(b *testing.B, conn net.Conn, r *bufio.Reader, qos byte, room chan struct{}) {
	w := bufio.NewWriter(conn)
	var header [4]byte
	for range b.N {
		if r.Buffered() == 0 {
			w.Flush()
		}
		if _, err := io.ReadFull(r, header[:]); err != nil {
			b.Error(err)
			return
		}
		topic := int(header[2])<<8 | int(header[3])
		r.Discard(topic)
		if qos > 0 {
			io.ReadFull(r, header[2:])
			w.Write([]byte{0x40, 2, header[2], header[3]})
			topic += 2
		}
		r.Discard(int(header[1]) - 2 - topic)
		<-room
	}
	w.Flush()
}
