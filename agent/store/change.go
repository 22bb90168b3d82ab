package store

import (
	"errors"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// A Change is what one step of a delivery alters. It is committed whole or not
// at all; changes are committed in the order in which they were handed in.
// Within a change the fields are applied from top to bottom.
type Change struct {
	State  *StateChange // checked first: a conflict or a full quota voids the whole change
	Store  []Delivery   // put into the inbox; a row of the same Seq is replaced
	Dead   []DeadLetter // new dead letters
	Drop   []int64      // inbox rows that are no more
	Undead []int64      // dead letters that were redriven or discarded
	Done   []Done       // identities of deliveries that are done and changed state
	Timers []Timer      // set; a timer of the same function, kind and key is replaced
	Cancel []TimerEnd   // timers that are no more
	Outbox []Outgoing   // publishes to come
	Sent   []int64      // publishes that the broker has confirmed
	Lazy   bool         // nobody waits: may wait up to a second for company, so that a burst costs one write
}

// ErrConflict says that a key which the attempt had read was changed by another
// since: the change is void and the attempt is to be run again.
var ErrConflict = errors.New("state was changed meanwhile")

// ErrQuota says that the function's state would outgrow its quota.
var ErrQuota = errors.New("state quota used up")

// A StateChange is what an attempt read and writes of its function's state.
type StateChange struct {
	Function string
	Quota    int64            // bytes of keys and values after the change
	Reads    map[string]int64 // key → version that was read, 0 for a missing key
	Writes   []functions.StateWrite
}

// A Delivery is a row of the inbox: one event for one function, waiting.
type Delivery struct {
	Seq      int64 // position, given by the agent: rows of a lane run in its order
	Function string
	Lane     string
	Attempt  int       // attempts used up so far
	Due      time.Time // not before; zero for at once
	Reason   string    // why it waits, for people: the last failure, or what it waited for
	Identity Identity
	Key      string        // dedupe key, or ""
	Event    devices.Event // empty in what Recover returns
	Size     int           // bytes that count for the quota: topic and payload
}

// An Identity names the packet that brought an event, while its session lasts.
// The zero value names none.
type Identity struct {
	Session  string
	PacketID uint16
	Digest   uint64 // of topic and payload
}

// A Done remembers that a delivery is done, for the case that its packet is
// repeated. There is one row for each function, session and packet id.
type Done struct {
	Function string
	Identity Identity
	Key      string    // dedupe key, or ""
	Until    time.Time // until when Key is remembered; by its monotonic reading, if it has one
}

// A DeadLetter is a delivery whose attempts are used up.
type DeadLetter struct {
	ID       int64 // given by the store, never used twice
	Function string
	Revision functions.Revision
	Lane     string
	Seq      int64 // of the delivery: a redrive keeps this order
	Attempts int
	Time     time.Time // of death
	Failure  functions.Failure
	Event    devices.Event
	InInbox  bool // Event is not set: it is that of the inbox row of the same Seq
}

// An Outgoing is a row of the outbox: a publish that waits for its PUBACK.
type Outgoing struct {
	Seq         int64 // position, given by the agent
	Function    string
	Lane        string
	Hops        int
	Publication devices.Publication
}

// A TimerKind says what a timer is for. The strings are stored.
type TimerKind string

// The kinds of timers.
const (
	TimerAfter    TimerKind = "after"    // sedge.after
	TimerHold     TimerKind = "hold"     // a trigger's hold
	TimerDebounce TimerKind = "debounce" // a trigger's debounce
)

// A TimerKey names a timer.
type TimerKey struct {
	Function string
	Kind     TimerKind
	Key      string
}

// A TimerEnd names a timer that is no more: the one whose event has the id
// Event, if it is still that, or with Event "" whichever is there.
type TimerEnd struct {
	TimerKey
	Event string
}

// A Timer is an event that comes later. Which of its clocks holds is the
// agent's to decide; the store keeps them all.
type Timer struct {
	TimerKey
	Lane    string
	Due     time.Time     // by the wall clock
	Boot    string        // the boot that BootDue belongs to
	BootDue time.Duration // on CLOCK_BOOTTIME of that boot
	Left    time.Duration // what remained when it was last stored
	Event   devices.Event // what the function will get
}
