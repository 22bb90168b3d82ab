package broker

import (
	"net"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
)

const (
	handshake = 10 * time.Second       // a client must have sent its CONNECT
	stalled   = 30 * time.Second       // a client that takes no byte for so long is closed
	linger    = time.Second            // to send what is left to a client that is being closed
	slack     = 100 * time.Millisecond // by which a read deadline may stay too early

	roomy    = 128 << 10 // bytes waiting for the kernel past which no PUBLISH is added
	overfull = 64 << 10  // bytes of everything else past that and one largest packet
	keepable = 64 << 10  // buffers that grew larger are not kept
)

// A conn is the connection of one client. Writing to it never waits: what is
// written is gathered and sent at once by the goroutine in flush, in as few
// system calls as the client takes it in.
type conn struct {
	net.Conn
	unackedMax, bytesMax, packetMax int

	wake   chan struct{} // holds a token when flush has something to do
	room   chan struct{} // holds a token when a PUBLISH has been settled
	closed chan struct{} // closed by Close
	gone   chan struct{} // closed when the client has left

	// Set by the reading goroutine while the client connects.
	client   *mqtt.Client
	session  *session
	who      identity
	will     *message
	delay    time.Duration // of the will
	version  byte
	present  bool
	deadline time.Time       // for reading
	asked    int             // filters seen in the SUBSCRIBE being read
	replay   []*subscription // whose retained messages follow the SUBACK
	refused  bool            // a refusal has been logged

	mu       sync.Mutex
	out      []byte    // guarded by mu; not yet taken by flush
	spare    []byte    // guarded by mu
	flushing bool      // guarded by mu
	starved  bool      // guarded by mu; a PUBLISH found no room
	ended    bool      // guarded by mu
	stall    time.Time // guarded by mu; the deadline for writing
	unacked  int       // guarded by mu; PUBLISHes taken and not yet settled
	bytes    int       // guarded by mu; their size
}

func newConn(c net.Conn, l Limits) *conn {
	return &conn{
		Conn:       c,
		unackedMax: l.Unacked,
		bytesMax:   l.Packet,
		packetMax:  l.Packet,
		wake:       make(chan struct{}, 1),
		room:       make(chan struct{}, 1),
		closed:     make(chan struct{}),
		gone:       make(chan struct{}),
	}
}

// Write gathers p. It returns an error only once the connection is closed.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return 0, net.ErrClosed
	}
	c.out = append(c.out, p...)
	c.addedLocked()
	return len(p), nil
}

// publish gathers a PUBLISH, or returns false if the client has too much to
// read already; then pump is called once it has caught up.
func (c *conn) publish(p *parcel) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	if len(c.out) > roomy {
		c.starved = true
		return false
	}
	c.out = p.appendTo(c.out, c.version)
	c.addedLocked()
	return true
}

// addedLocked has what was added sent, or gives the client up if it takes too
// little of what it asks for.
func (c *conn) addedLocked() {
	if len(c.out) > roomy+c.packetMax+overfull {
		c.endLocked()
		c.Conn.Close()
		return
	}
	if !c.flushing {
		c.flushing = true
		c.wake <- struct{}{} // flush took the last token before it cleared flushing
	}
}

// flush sends what is gathered until the connection is closed. It calls pump
// when there is room again after some PUBLISH found none.
func (c *conn) flush(pump func()) {
	for range c.wake {
		for {
			out, starved, ended := c.gathered()
			if starved {
				pump()
			}
			if len(out) > 0 {
				if _, err := c.Conn.Write(out); err != nil {
					c.Close()
					c.Conn.Close()
					return
				}
				c.recycle(out)
				continue
			}
			if ended {
				c.Conn.Close()
				return
			}
			if !starved {
				break
			}
		}
	}
}

// gathered takes what is to be sent. When there is nothing, flush rests.
func (c *conn) gathered() (out []byte, starved, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out, starved, ended = c.out, c.starved, c.ended
	c.out, c.spare, c.starved = c.spare, nil, false
	if len(out) == 0 && !starved {
		c.flushing = false
	}
	if now := time.Now(); len(out) > 0 && !ended && c.stall.Sub(now) < stalled-time.Second {
		c.stall = now.Add(stalled)
		c.Conn.SetWriteDeadline(c.stall)
	}
	return out, starved, ended
}

func (c *conn) recycle(out []byte) {
	if cap(out) > keepable {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spare = out[:0]
}

// Close ends the connection: nothing more is read, and what was written before
// is sent if the client takes it soon.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked()
	return nil
}

func (c *conn) endLocked() {
	if c.ended {
		return
	}
	c.ended = true
	close(c.closed)
	c.Conn.SetReadDeadline(time.Unix(1, 0))
	c.Conn.SetWriteDeadline(time.Now().Add(linger))
	if !c.flushing {
		c.flushing = true
		c.wake <- struct{}{}
	}
}

// SetDeadline sets the deadline for reading; writing has its own. A deadline
// that hardly moved is left, since moving it costs more than reading a packet.
func (c *conn) SetDeadline(t time.Time) error {
	if d := t.Sub(c.deadline); !c.deadline.IsZero() && 0 <= d && d < slack {
		return nil
	}
	c.deadline = t
	return c.Conn.SetReadDeadline(t)
}

// take waits until the client may have one more PUBLISH of n bytes
// unacknowledged. It returns false once the connection is closed. Only that
// client waits: its next packets stay unread.
func (c *conn) take(n int) bool {
	for {
		c.mu.Lock()
		if c.ended {
			c.mu.Unlock()
			return false
		}
		if c.unacked < c.unackedMax && c.bytes < c.bytesMax {
			c.unacked++
			c.bytes += n
			c.mu.Unlock()
			return true
		}
		c.mu.Unlock()
		select {
		case <-c.room:
		case <-c.closed:
			return false
		}
	}
}

// settle gathers the acknowledgement of a PUBLISH of n bytes. Once the
// connection is closed it does nothing.
func (c *conn) settle(kind byte, id uint16, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.giveLocked(n)
	if !c.ended {
		c.out = append(c.out, kind, 2, byte(id>>8), byte(id))
		c.addedLocked()
	}
}

// give takes back what take gave, without an acknowledgement.
func (c *conn) give(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.giveLocked(n)
}

func (c *conn) giveLocked(n int) {
	c.unacked--
	c.bytes -= n
	select {
	case c.room <- struct{}{}:
	default:
	}
}

// reply gathers a short packet about packet id; code is left out if it is 0.
func (c *conn) reply(kind byte, id uint16, code byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	if code == 0 || c.version < 5 {
		c.out = append(c.out, kind, 2, byte(id>>8), byte(id))
	} else {
		c.out = append(c.out, kind, 3, byte(id>>8), byte(id), code)
	}
	c.addedLocked()
}

// busy reports whether the client waits for an acknowledgement.
func (c *conn) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unacked > 0
}
