package mqtt

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/sedge-iot/sedge/devices"
)

// A counted connection counts the writes that reach the network.
type counted struct {
	net.Conn
	writes atomic.Int32
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// stuckWire returns a wire whose network takes nothing until the other end
// reads.
func stuckWire(t *testing.T) (*wire, *counted, net.Conn) {
	near, far := net.Pipe()
	conn := &counted{Conn: near}
	w := newWire(conn, 4096, func(bool) {}, nil)
	t.Cleanup(func() { far.Close(); w.close(errClosed) })
	return w, conn, far
}

func TestWhatGathersGoesOutInOnePiece(t *testing.T) {
	w, conn, far := stuckWire(t)
	const acks = 1000
	for id := range uint16(acks) {
		(&ack{w, id, 1}).Ack()
	}
	got := make([]byte, 4*acks)
	if _, err := io.ReadFull(far, got); err != nil {
		t.Fatal(err)
	}
	for id := range acks {
		if p := got[4*id:]; p[0] != 0x40 || p[1] != 2 || int(p[2])<<8|int(p[3]) != id {
			t.Fatalf("packet %d is %x, want its PUBACK", id, p[:4])
		}
	}
	if got := conn.writes.Load(); got > 3 { // the first, alone, and what came while it waited
		t.Errorf("%d acknowledgements took %d writes, want 3 at most", acks, got)
	}
}

// dialled returns both ends of a connection over the loopback.
func dialled(t *testing.T) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

func TestTheLastAcknowledgementArrivesThoughMuchIsUnread(t *testing.T) {
	near, far := dialled(t)
	greeted := make(chan struct{})
	w := newWire(near, 4096, func(bool) { close(greeted) }, func(devices.Message) {})
	go io.Copy(io.Discard, w) // reads as paho does, until the connection ends
	message := []byte{0x30, 103, 0, 1, 'a', 102: 'x', 104: 'x'}
	if _, err := far.Write([]byte{0x20, 2, 0, 0}); err != nil {
		t.Fatal(err)
	}
	<-greeted
	w.halt(true)
	if _, err := far.Write(bytes.Repeat(message, 2000)); err != nil {
		t.Fatal(err)
	}
	(&ack{w, 7, 1}).Ack()
	w.Write([]byte{typeDisconnect << 4, 0})
	closed := make(chan error)
	go func() { closed <- w.Close() }() // awaited below
	got, err := io.ReadAll(far)
	if want := []byte{0x40, 2, 0, 7, 0xe0, 0}; err != nil || !bytes.Equal(got, want) {
		t.Errorf("the broker reads %x, %v; want %x and the end", got, err, want)
	}
	far.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestPublishingTooMuchIsRefusedNotAwaited(t *testing.T) {
	w, _, _ := stuckWire(t)
	outcomes := map[error]int{}
	done := func(err error) { outcomes[err]++ }
	for range maxUnconfirmed {
		if err := w.publish(devices.Publication{Topic: "a", QoS: 1}, done); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.publish(devices.Publication{Topic: "a", QoS: 1}, done); !errors.Is(err, ErrFull) {
		t.Errorf("publication %d: %v, want %v", maxUnconfirmed+1, err, ErrFull)
	}
	w.fail(errClosed)
	if outcomes[devices.ErrLost] != maxUnconfirmed || len(outcomes) != 1 {
		t.Errorf("outcomes %v, want %d of %v", outcomes, maxUnconfirmed, devices.ErrLost)
	}
	if err := w.publish(devices.Publication{Topic: "a"}, done); !errors.Is(err, ErrOffline) {
		t.Errorf("after the end: %v, want %v", err, ErrOffline)
	}
}

func TestPacketIDsAreNotUsedTwiceAtATime(t *testing.T) {
	w, _, far := stuckWire(t)
	go io.Copy(io.Discard, far) // ends with the test
	told := 0
	publish := func() uint16 {
		if err := w.publish(devices.Publication{Topic: "a", QoS: 1}, func(error) { told++ }); err != nil {
			t.Fatal(err)
		}
		return w.lastID
	}
	held := publish()
	for range 70_000 { // once around and more
		id := publish()
		if id == held || id == 0 {
			t.Fatalf("id %d is used while it is not confirmed", id)
		}
		w.confirm(id)
		w.confirm(id) // a broker that confirms twice
	}
	if told != 70_000 {
		t.Errorf("%d outcomes told, want one for each", told)
	}
}

// FuzzWire feeds a wire with whatever a broker might send: it must neither
// panic nor hand on what MQTT forbids.
func FuzzWire(f *testing.F) {
	f.Add([]byte{0x20, 2, 1, 0, 0x30, 4, 0, 1, 'a', 'x', 0xd0, 0, 0x40, 2, 0, 1})
	f.Add([]byte{0x20, 2, 0, 5, 0x32, 6, 0, 1, 'a', 0, 9, 'x'})
	f.Fuzz(func(t *testing.T, stream []byte) {
		near, far := net.Pipe()
		heard := 0
		w := newWire(near, 1024, func(bool) {}, func(m devices.Message) {
			heard++
			if err := devices.CheckTopic(m.Topic); err != nil || len(m.Topic) > devices.MaxTopic || len(m.Payload) > 1024 {
				t.Errorf("heard %v", m)
			}
			if m.Ack != nil {
				m.Ack.Ack()
			}
		})
		go func() { // ends when the wire closes
			far.Write(stream)
			far.Close()
		}()
		got, err := io.ReadAll(w)
		if err != nil && w.why() == nil {
			t.Errorf("Read = %v, but the wire has no cause", err)
		}
		if heard > 0 && !w.greeted {
			t.Error("heard a message before CONNACK")
		}
		if len(got) > 0 && got[0]>>4 != typeConnack {
			t.Errorf("paho is given %x before CONNACK", got)
		}
		w.close(errClosed)
		<-w.flushed
	})
}

func TestAHaltedWireReadsNothingAndAnswersPings(t *testing.T) {
	near, far := net.Pipe()
	heard := make(chan string, 1)
	w := newWire(near, 4096, func(bool) {}, func(m devices.Message) { heard <- string(m.Payload) })
	t.Cleanup(func() { far.Close(); w.close(errClosed) })
	read := func(want ...byte) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(w, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("paho reads %x, %v, want %x", got, err, want)
		}
	}
	go far.Write([]byte{typeConnack << 4, 2, 0, 0}) // read below
	read(typeConnack<<4, 2, 0, 0)

	w.halt(true)
	read(typePingresp<<4, 0) // to what may have been asked before
	sent := make(chan struct{})
	go func() { // ends once the message is read, or the pipe is closed
		far.Write([]byte{typePublish << 4, 4, 0, 1, 'a', 'x'})
		close(sent)
	}()
	go io.ReadFull(far, make([]byte, 2)) // takes the ping, or ends with the pipe
	w.Write([]byte{typePingreq << 4, 0})
	read(typePingresp<<4, 0)
	select {
	case <-sent:
		t.Error("a message was read though the wire is halted")
	case m := <-heard:
		t.Errorf("heard %q though the wire is halted", m)
	default:
	}

	w.halt(false)
	go w.Read(make([]byte, 1)) // until the wire is closed
	<-sent
	if m := <-heard; m != "x" {
		t.Errorf("heard %q, want x", m)
	}
}
