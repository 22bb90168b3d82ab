package devices

import (
	"errors"
	"time"
)

// MaxTopic is the longest topic, in bytes, that reaches a function.
const MaxTopic = 512

// A Message is one PUBLISH packet as a broker handed it over. The payload is
// shared by everyone who holds the message: nobody writes to it.
type Message struct {
	Topic    string
	Payload  []byte
	QoS      byte
	Retained bool // was kept by the broker and is repeated to a new subscriber
	Dup      bool // the broker or the device has sent this packet before

	// PacketID and Session together name the packet while its session lasts.
	// Session changes when the broker has forgotten the session; PacketID is 0
	// at QoS 0.
	PacketID uint16
	Session  string

	Queued    bool      // waited at the broker while this node was away
	Truncated int       // the packet's real size in bytes if it was over the cap and Payload is only its beginning, else 0
	Time      time.Time // when this node heard it

	// Ack tells the broker that the message is done or stored. It is nil at
	// QoS 0, may be called from any goroutine, and is called at most once.
	Ack Acknowledger
}

// An Acknowledger tells the sender of a message that it need not send it again.
// Ack never blocks. Once the connection that brought the message is lost it
// does nothing, and the sender will repeat the message.
type Acknowledger interface{ Ack() }

// A Publication is a message on its way out.
type Publication struct {
	Topic   string `json:"topic"`
	Payload []byte `json:"payload"`
	QoS     byte   `json:"qos"`
	Retain  bool   `json:"retain,omitempty"`
}

// ErrLost says of a publication that its connection ended before the broker
// had confirmed it: whether the broker has it, nobody knows.
var ErrLost = errors.New("connection to the broker ended before it confirmed")
