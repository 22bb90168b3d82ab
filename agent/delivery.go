package agent

import (
	"slices"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// A stage is how far a delivery has come. It only moves forward, but for
// running → waiting when an attempt is to be repeated.
type stage uint8

const (
	waiting    stage = iota // for its lane, a runner or the time of its retry
	running                 // an attempt is under way
	committing              // what it ended with is being stored
	handing                 // its publishes are being handed to the bus
	publishing              // they wait to be confirmed; the lane may go on
	gone
)

// A delivery is one event for one function. Its fields are guarded by the
// function's mu.
type delivery struct {
	seq      int64
	lane     *lane
	event    devices.Event
	unloaded bool // the event is in the inbox only
	size     int  // bytes of topic and payload
	heard    time.Time

	receipt  *receipt // of the message that brought it; nil once settled
	message  *receipt // the same, also when its part is settled; or nil
	identity store.Identity
	key      string          // dedupe key, or ""
	timer    *store.TimerEnd // the stored timer that it came from, or nil
	answer   func(answer)    // called once with how it ended, or nil

	stage   stage
	left    bool // gone, and left to another node
	row     bool // it has, or is getting, a row in the inbox
	counted bool // for the inbox's quota
	attempt int  // attempts used up
	due     time.Time
	suspect bool // its runner died; it must show, alone, that it was not the cause
	redo    int  // runs repeated for a state conflict, in a row
	out     []*outgoing
}

// An answer is how a delivery ended, for the one who waits for it.
type answer struct {
	invocation string
	returned   []byte
	published  []string
	failure    *functions.Failure
	took       time.Duration
}

// stored reports whether rows have to go when d ends.
func (d *delivery) stored() bool { return d.row || d.timer != nil }

// remove adds to c what takes d's rows away.
func (d *delivery) remove(c *store.Change) {
	if d.row {
		c.Drop = append(c.Drop, d.seq)
	}
	if d.timer != nil {
		c.Cancel = append(c.Cancel, *d.timer)
	}
}

// waitsFor reports whether one of d's publishes is in that state.
func (d *delivery) waitsFor(s outState) bool {
	return slices.ContainsFunc(d.out, func(og *outgoing) bool { return og.state == s })
}

// confirmed reports whether the broker has all of d's publishes.
func (d *delivery) confirmed() bool {
	return !slices.ContainsFunc(d.out, func(og *outgoing) bool { return og.state != confirmed })
}

// takeReceipt returns d's receipt, or nil if it has none or it was taken before.
func (d *delivery) takeReceipt() *receipt {
	r := d.receipt
	d.receipt = nil
	return r
}

// A laneID names a lane of a function.
type laneID struct {
	key    string
	shared bool // for the cluster: nothing of the lane is ever stored on this node
}

// A lane is the deliveries of one function that run one after another: those
// of one device, usually. It lives while there are any, or publishes of theirs.
type lane struct {
	laneID
	list   []*delivery // unfinished, in order: first those publishing, then at most one under way, then the waiting
	memory int         // bytes of events that wait in memory
	rows   int         // how many of list have a row in the inbox
	out    []*outgoing // publishes that are in the outbox, in order
	stale  int         // changes under way that take rows of it away which are over
	queued bool        // stands in the function's ready queue

	draining bool // some goroutine is handing out to the bus
}

// next returns the delivery that runs next, or nil while one is under way or
// none waits.
func (l *lane) next() *delivery {
	for _, d := range l.list {
		switch d.stage {
		case publishing:
			continue
		case waiting:
			return d
		}
		return nil
	}
	return nil
}

// committing reports whether one of the lane's deliveries is being committed:
// until that is over nothing else of the lane can be stored.
func (l *lane) committing() bool {
	for _, d := range l.list {
		if d.stage == committing || d.stage == handing {
			return true
		}
	}
	return false
}

// unsent returns the lane's publishes that are not confirmed, in order: those in
// the outbox, or, in a shared lane, those that its deliveries wait for.
func (l *lane) unsent() []*outgoing {
	if !l.shared {
		return l.out
	}
	var out []*outgoing
	for _, d := range l.list {
		for _, og := range d.out {
			if og.state != confirmed {
				out = append(out, og)
			}
		}
	}
	return out
}

func (l *lane) empty() bool { return len(l.list) == 0 && len(l.out) == 0 && l.stale == 0 }

// An outgoing is one publish of a successful attempt, until it is confirmed.
type outgoing struct {
	f    *function
	d    *delivery // nil when it is in the outbox: then its delivery is done
	lane *lane
	store.Outgoing
	state  outState
	row    bool // it is, or is getting, in the outbox
	losses int  // connections that ended on it
}

type outState uint8

const (
	sending outState = iota // the bus has it
	queued                  // to be handed to the bus
	lost                    // waits to be repeated
	confirmed
)
