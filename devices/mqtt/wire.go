package mqtt

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/sedge-iot/sedge/devices"
)

// Limits of what may be on its way to the broker on one connection.
const (
	maxUnconfirmed = 32 << 10 // publications
	maxUnwritten   = 8 << 20  // bytes
)

const (
	writeTimeout = 10 * time.Second       // for the network to take what is written
	closeTimeout = time.Second            // for the same, once the connection is to close
	whyTimeout   = 200 * time.Millisecond // for the broker to say why it has closed the connection
)

// What ends a connection besides the network.
var (
	errClosed = errors.New("closed by this node")
	errSilent = errors.New("broker does not answer pings")
)

// A wire is a connection to a broker as paho uses it. What paho writes is
// gathered and sent by a goroutine of the wire's own, so that no writer ever
// waits for the network and what gathers meanwhile goes out in one piece. From
// what paho reads, messages and confirmations are taken out and go straight to
// where they belong.
type wire struct {
	net.Conn
	frames  framer
	unread  []byte                // what paho has yet to read of a packet
	greet   func(bool)            // takes the broker's word on whether it kept a session
	hear    func(devices.Message) // or nil: no message may come
	greeted bool

	mu          sync.Mutex
	more        sync.Cond // there is something to write, or closing began
	unwritten   []byte
	onWritten   []func(error) // publications at QoS 0 within unwritten
	unconfirmed map[uint16]func(error)
	lastID      uint16
	closing     bool
	parting     bool      // paho has said goodbye
	cause       error     // why the connection ended, or nil
	halted      bool      // nothing is read
	pinged      bool      // meanwhile paho asked whether the broker is there
	unhalted    sync.Cond // one of closing, cause, halted and pinged has changed

	flushed  chan struct{} // closed when nothing more will be written
	ended    chan struct{} // closed when nothing more will be read
	endReads sync.Once
}

// newWire wraps conn and starts the goroutine that writes to it: close waits
// for it.
func newWire(conn net.Conn, limit int, greet func(kept bool), hear func(devices.Message)) *wire {
	w := &wire{
		Conn:        conn,
		frames:      framer{r: bufio.NewReaderSize(conn, 16<<10), cap: limit},
		greet:       greet,
		hear:        hear,
		unconfirmed: map[uint16]func(error){},
		flushed:     make(chan struct{}),
		ended:       make(chan struct{}),
	}
	w.more.L, w.unhalted.L = &w.mu, &w.mu
	go w.flush()
	return w
}

// Read gives paho the packets that are for paho. Whatever ended the connection,
// Read returns the first cause.
func (w *wire) Read(p []byte) (int, error) {
	for len(w.unread) == 0 {
		if err := w.next(); err != nil {
			w.fail(err)
			w.endReads.Do(func() { close(w.ended) })
			return 0, w.why()
		}
	}
	n := copy(p, w.unread)
	w.unread = w.unread[n:]
	return n, nil
}

// next takes one packet from the connection.
func (w *wire) next() error {
	if w.pingedWhileHalted() {
		w.unread = append(w.unread[:0], typePingresp<<4, 0)
		return nil
	}
	p, err := w.frames.next()
	if err != nil {
		return err
	}
	if w.greeted == (p.kind() == typeConnack) {
		return fmt.Errorf("%w: type %d, CONNACK comes first and once", errMalformed, p.kind())
	}
	if p.kind() == typePublish {
		return w.message(p)
	}
	packet, err := w.frames.small(p, w.unread[:0])
	if err != nil {
		return err
	}
	switch p.kind() {
	case typePuback, typePubcomp:
		w.confirm(uint16(packet[2])<<8 | uint16(packet[3]))
		return nil
	case typeConnack:
		w.greeted = true
		if accepted := packet[3] == 0; accepted {
			w.greet(packet[2]&1 != 0)
		}
	}
	w.unread = packet
	return nil
}

// halt has nothing read from the connection, or takes that back. What is written goes
// out all the same: acknowledgements do, which is what makes room.
func (w *wire) halt(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.halted, w.pinged = on, on // the answer to an earlier question may lie unread
	w.unhalted.Broadcast()
}

// pingedWhileHalted waits while the wire is halted. It returns true if paho, which
// must not take the silence for the broker's, asks meanwhile whether that is there.
func (w *wire) pingedWhileHalted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.halted && !w.closing && w.cause == nil {
		if w.pinged {
			w.pinged = false
			return true
		}
		w.unhalted.Wait()
	}
	return false
}

func (w *wire) message(p frame) error {
	if w.hear == nil {
		return fmt.Errorf("%w: PUBLISH without a subscription", errMalformed)
	}
	m, err := w.frames.publish(p)
	if err != nil {
		return err
	}
	m.Time = time.Now()
	if m.QoS > 0 {
		m.Ack = &ack{w, m.PacketID, m.QoS}
	}
	w.hear(m)
	return nil
}

// An ack acknowledges one message on the wire that brought it.
type ack struct {
	wire *wire
	id   uint16
	qos  byte
}

// Ack sends the PUBACK; at QoS 2 the PUBREC, after which paho completes the
// exchange.
func (a *ack) Ack() {
	kind := byte(typePuback)
	if a.qos == 2 {
		kind = typePubrec
	}
	a.wire.Write([]byte{kind << 4, 2, byte(a.id >> 8), byte(a.id)}) // if it is too late the broker repeats the message
}

// Write takes a whole packet to be sent.
func (w *wire) Write(packet []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing || w.cause != nil {
		return 0, net.ErrClosed
	}
	if w.halted && packet[0]>>4 == typePingreq {
		w.pinged = true
		w.unhalted.Broadcast()
	}
	w.parting = w.parting || packet[0]>>4 == typeDisconnect
	w.unwritten = append(w.unwritten, packet...)
	w.more.Signal()
	return len(packet), nil
}

// publish sends p and has done called with its outcome, unless it returns an
// error. It counts packet ids down, since paho counts those of its own up.
func (w *wire) publish(p devices.Publication, done func(error)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closing || w.cause != nil:
		return ErrOffline
	case len(w.unconfirmed) >= maxUnconfirmed || len(w.unwritten) > maxUnwritten:
		return ErrFull
	case p.QoS == 0:
		w.onWritten = append(w.onWritten, done)
	default:
		for w.lastID--; w.lastID == 0 || w.unconfirmed[w.lastID] != nil; {
			w.lastID--
		}
		w.unconfirmed[w.lastID] = done
	}
	w.unwritten = appendPublish(w.unwritten, p, w.lastID)
	w.more.Signal()
	return nil
}

func (w *wire) confirm(id uint16) {
	w.mu.Lock()
	done := w.unconfirmed[id]
	delete(w.unconfirmed, id)
	w.mu.Unlock()
	if done != nil {
		done(nil)
	}
}

// flush writes what gathers until the wire is closed or fails.
func (w *wire) flush() {
	defer close(w.flushed)
	var spare []byte
	for {
		batch, written, ok := w.gathered(spare)
		if !ok {
			return
		}
		_, err := w.Conn.Write(batch)
		for _, done := range written {
			done(lostIf(err))
		}
		if err != nil {
			w.hearWhy(err)
			w.fail(err)
			return
		}
		if spare = batch[:0]; cap(spare) > 64<<10 {
			spare = nil // grew in a burst
		}
	}
}

// hearWhy gives a broker that has closed the connection a moment to have said why: it refuses
// a certificate, and what we wrote meanwhile fails.
func (w *wire) hearWhy(err error) {
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		return
	}
	late := time.NewTimer(whyTimeout)
	defer late.Stop()
	select {
	case <-w.ended:
	case <-late.C:
	}
}

// gathered waits for something to write and takes it, leaving spare to gather
// the next in. It returns false when there is nothing and will be nothing.
func (w *wire) gathered(spare []byte) ([]byte, []func(error), bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.unwritten) == 0 && !w.closing && w.cause == nil {
		w.more.Wait()
	}
	if len(w.unwritten) == 0 || w.cause != nil {
		return nil, nil, false
	}
	timeout := writeTimeout
	if w.closing {
		timeout = closeTimeout
	}
	w.Conn.SetWriteDeadline(time.Now().Add(timeout))
	batch, written := w.unwritten, w.onWritten
	w.unwritten, w.onWritten = spare, nil
	return batch, written, true
}

// fail ends the connection at once. Only the first cause is kept. Every
// publication without an outcome is lost.
func (w *wire) fail(cause error) {
	w.mu.Lock()
	if w.cause == nil {
		w.cause = cause
	}
	lost := w.onWritten
	for _, done := range w.unconfirmed {
		lost = append(lost, done)
	}
	w.onWritten, w.unconfirmed = nil, map[uint16]func(error){}
	w.more.Signal()
	w.unhalted.Broadcast()
	w.mu.Unlock()
	w.Conn.Close()
	for _, done := range lost {
		done(devices.ErrLost)
	}
}

// Close is for paho, which on its own account closes only a connection on which
// a ping was not answered, and otherwise after its goodbye.
func (w *wire) Close() error {
	w.finish()
	w.mu.Lock()
	parting := w.parting
	w.mu.Unlock()
	if parting {
		w.linger()
	}
	w.fail(errSilent)
	return nil
}

// linger waits until the broker has closed the connection as well, but not for long. One
// that is closed while something in it is unread is reset, and then the broker may never
// read the last that was sent: acknowledgements.
func (w *wire) linger() {
	if half, ok := w.Conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	late := time.NewTimer(closeTimeout)
	defer late.Stop()
	select {
	case <-w.ended:
	case <-late.C:
	}
}

// close sends what has gathered and ends the connection.
func (w *wire) close(cause error) {
	w.finish()
	w.fail(cause)
}

// finish sends what has gathered, if the network takes it within closeTimeout.
func (w *wire) finish() {
	w.mu.Lock()
	if !w.closing {
		w.closing = true
		w.Conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	}
	w.more.Signal()
	w.unhalted.Broadcast()
	w.mu.Unlock()
	<-w.flushed
}

// why returns what ended the connection, or nil.
func (w *wire) why() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause
}

func lostIf(err error) error {
	if err != nil {
		return devices.ErrLost
	}
	return nil
}
