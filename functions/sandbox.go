package functions

import (
	"context"
	"errors"
	"time"

	"github.com/sedge-iot/sedge/devices"
)

// A Sandbox runs functions in one kind of isolation: a confined child process,
// a pod. Package sandboxtest holds the tests that every Sandbox passes.
// A Sandbox may be used from several goroutines.
type Sandbox interface {
	// Start readies f and returns once it can be invoked.
	// It returns an error wrapping [ErrUnfit] if no retry can help, such as
	// code that does not load, and a [*LackError] if it waits for the node's owner.
	Start(ctx context.Context, f Function) (Instance, error)
}

// An Instance is one started revision of a function. It may be used from
// several goroutines, and serves up to the function's concurrency at a time:
// to keep to that is the caller's part.
type Instance interface {
	// Invoke starts one attempt and returns at once, without waiting for the
	// runner. Its outcome is given to r.Done, exactly once, whatever happens:
	// also when the deadline passes, the runner dies or the instance is closed.
	Invoke(inv Invocation, r Run)

	// Ended is closed when the runner has ended, by itself or by Close.
	Ended() <-chan struct{}

	// Close ends the runner and returns once it is gone and every Run is done.
	Close() error

	// Describe says where the instance runs and which walls could not be had.
	Describe() Description
}

// A Run is one attempt, seen from its instance: what the handler may ask for
// while it runs, and where its outcome goes. The methods are called on the
// instance's goroutines. Get and Publish may take their time; Log and Done must
// not block.
type Run interface {
	// Get reads a key of the function's state; a missing key is nil.
	Get(key string) ([]byte, error)
	// Peek is Get for incr: the commit will not check that the key is unchanged.
	Peek(key string) ([]byte, error)
	// Publish sends p at once, before the outcome is known ({now: true}).
	Publish(p devices.Publication) error
	// Log takes one line of the function's log.
	Log(level Level, text string)
	// Done takes the outcome.
	Done(Outcome)
}

// An Invocation is one run of one revision on one event.
type Invocation struct {
	ID      string
	Event   devices.Event
	Attempt int           // 1 is the first
	Timeout time.Duration // from the moment the runner begins; the instance enforces it
}

// An Outcome is how an attempt ended: with Err nil, its effects wait to be
// carried out; otherwise they are void.
type Outcome struct {
	Returned []byte // what the handler returned, as JSON; nil for nothing
	Effects  Effects
	Err      *Failure      // nil if the handler succeeded
	Took     time.Duration // in the runner
}

// Effects are what an attempt asked for, each kind in the handler's order.
type Effects struct {
	Publish []devices.Publication
	State   []StateWrite
	Timers  []TimerWrite
}

// A StateWrite changes one key of the function's state.
type StateWrite struct {
	Op    StateOp       `json:"op"`
	Key   string        `json:"key"`
	Value []byte        `json:"value,omitempty"` // JSON, for StateSet
	By    float64       `json:"by,omitempty"`    // for StateIncr
	TTL   time.Duration `json:"ttl,omitempty"`   // 0: for ever
}

// A StateOp is a kind of change to a key. The numbers go over the wire.
type StateOp uint8

// The changes of state.
const (
	StateSet    StateOp = 1
	StateDelete StateOp = 2
	StateIncr   StateOp = 3 // adds By to the number that is there, or to 0
)

// Limits of one state entry; the whole of a function's state is limited by its
// manifest (state.maxBytes). They hold wherever state is written.
const (
	MaxStateKey   = 512      // bytes
	MaxStateValue = 64 << 10 // bytes of JSON
)

// A TimerWrite sets (sedge.after) or cancels (sedge.cancel) a timer.
type TimerWrite struct {
	Key     string        `json:"key"` // set again under the same key, it replaces the earlier one; the runner makes one up where the handler gave none
	Cancel  bool          `json:"cancel,omitempty"`
	After   time.Duration `json:"after,omitempty"`
	Payload []byte        `json:"payload,omitempty"` // JSON
}

// MaxResult is the most that an outcome may weigh: returned value and effects, bytes.
const MaxResult = 1 << 20

// A Failure says why an attempt failed and whether another may succeed.
type Failure struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Stack   string `json:"stack,omitempty"` // in the function's source
}

func (f *Failure) Error() string { return f.Message }

// Permanent reports whether no retry can mend the failure.
func (f *Failure) Permanent() bool {
	return f.Code == CodeLoad || f.Code == CodePayload || f.Code == CodeRefused
}

// A Code names a kind of failure. The strings are stored and sent.
type Code string

// The ways in which an attempt fails.
const (
	CodeThrown  Code = "function.error"   // the handler threw
	CodeTimeout Code = "function.timeout" // the deadline passed
	CodeResult  Code = "result.invalid"   // what it returned or asked for cannot be carried out, or is over a limit
	CodeLoad    Code = "load.failed"      // the code does not load: no retry
	CodePayload Code = "payload.invalid"  // the event cannot be given to the handler: no retry
	CodeRefused Code = "permission"       // it asked for what its manifest does not permit: no retry
	CodeDied    Code = "runner.died"      // the runner ended under it, by a signal from outside or of a bug
	CodeLimit   Code = "runner.limit"     // the runner ended under it at a limit of its own, such as memory
	CodeClosed  Code = "runner.closed"    // the instance was closed under it; not the function's fault
	CodeStart   Code = "start.failed"     // no runner could be had just now

	// The agent's own.
	CodeState     Code = "state.refused"     // what it wrote of its state could not be kept: over the quota, not a number
	CodeTooLarge  Code = "payload.too_large" // the event is over the packet cap: no attempt
	CodeLoop      Code = "loop"              // the event came through too many functions: no attempt
	CodeInboxFull Code = "inbox.full"        // too much waited for the function
	CodePublish   Code = "publish.lost"      // connections kept ending on a publish of it
)

// RunnerEnded reports whether the failure may be that of another invocation on
// the same runner.
func (c Code) RunnerEnded() bool { return c == CodeDied || c == CodeLimit }

// ErrUnfit says that this node can never run the function as it stands.
var ErrUnfit = errors.New("function does not fit this node")

// A LackError says what a function needs to be started that the node has not and
// its owner can give, such as a secret. Starting it is tried until it is there.
type LackError struct {
	What string // and what to do, in words
}

func (e *LackError) Error() string { return e.What }

// A Description tells an operator where an instance runs.
type Description struct {
	Sandbox string   `json:"sandbox"`           // process, pod
	Name    string   `json:"name"`              // pid or pod name
	Walls   []string `json:"walls"`             // what confines it
	Missing []string `json:"missing,omitempty"` // what could not be had here, each with the reason
}

// A Level ranks a line of a function's log.
type Level string

// The levels, as console.debug, .log/.info, .warn and .error give them.
const (
	LevelDebug Level = "debug"
	LevelInfo  Level = "info"
	LevelWarn  Level = "warn"
	LevelError Level = "error"
)
