package edge

import (
	"encoding/json"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// Protocol is the version of what hub and node say to each other. A step that an
// older side would misunderstand raises it; a new kind of message or a new field
// does not, for what is unknown is passed over. What each number added:
//
//	1  2026-11-26  everything in this file
const Protocol = 1

// Limits of what is said over a link, bytes.
const (
	MaxMessage = 2 << 20   // of one message as it is sent: the largest payload of an event fits, as base64
	MaxStep    = 256 << 10 // of a whole, a delta, or a function or list within a call: more goes in pieces
	MaxInline  = 16 << 10  // of a function that travels within the message that names it
	ChunkSize  = 32 << 10  // of a larger one, at a time
	MaxBundle  = 8 << 20   // of a function as JSON
)

// A Message is one thing that hub and node say: a pointer to one of the structs of
// this file that name a kind. See [Encode] and [Decode].
type Message interface{ Kind() Kind }

// A Kind says what a message is. The strings are sent; none is ever given another
// meaning.
type Kind string

// What the hub says.
const (
	KindWhole   Kind = "whole"
	KindDelta   Kind = "delta"
	KindChunk   Kind = "chunk"
	KindCurrent Kind = "current"
	KindCall    Kind = "call"
	KindCancel  Kind = "cancel"
)

// What a node says.
const (
	KindAt      Kind = "at"
	KindRefusal Kind = "refusal"
	KindFetch   Kind = "fetch"
	KindReport  Kind = "report"
	KindAnswer  Kind = "answer"
)

// A Ref names a function as a node is to run it. Content is left out where it is
// large or where the node has that revision: it asks for what it lacks.
type Ref struct {
	Name      string              `json:"name"`
	Revision  functions.Revision  `json:"revision"`
	Enabled   bool                `json:"enabled"`
	Signature string              `json:"signature,omitempty"` // an operator's, of name and revision; "" for none
	Function  *functions.Function `json:"function,omitempty"`
}

// A Removal names a function that a node is to run no more.
type Removal struct {
	Name     string `json:"name"`
	Purge    bool   `json:"purge,omitempty"`    // its state and dead letters go too
	Revision int64  `json:"revision,omitempty"` // of the hub, at which it was purged: what a node that was there has had since stays; 0 if that is not told
}

// A Whole is all that a node is to run. It goes to a node whose position says
// nothing to the hub, or another thing than it should.
type Whole struct {
	At        Position  `json:"at"`
	Functions []Ref     `json:"functions"`           // by name
	Purged    []Removal `json:"purged,omitempty"`    // functions of old whose state goes too, should the node have any
	Accepts   string    `json:"accepts,omitempty"`   // an epoch that an operator has given up: who is in it may go back from it to At
	Confirmed bool      `json:"confirmed,omitempty"` // an operator knows how many functions this takes away

	text []byte // as it is sent, if a Set has made it
}

// A Delta leads a node from one position to the next. A node that is not at From
// says where it is.
type Delta struct {
	From      Position  `json:"from"`
	At        Position  `json:"at"`
	Put       []Ref     `json:"put,omitempty"`
	Remove    []Removal `json:"remove,omitempty"`
	Confirmed bool      `json:"confirmed,omitempty"` // as of Whole

	text []byte // as of Whole
}

// A Chunk is a piece of a function as JSON, for a [Fetch].
type Chunk struct {
	Revision functions.Revision `json:"revision"`
	Offset   int                `json:"offset"` // bytes
	Total    int                `json:"total"`  // bytes of the whole; 0: the hub has no such revision
	Data     []byte             `json:"data"`
}

// A Current says that all is still as at At, and what time it is at the hub. It comes
// at least every [BeatTime], so that a node knows that it is not kept from news. One
// whose At is nobody's says nothing but the time: the hub waits for the node, or has
// nothing for it.
type Current struct {
	At   Position  `json:"at"`
	Time time.Time `json:"time"`
}

// BeatTime is how often either side says something at least.
const BeatTime = 30 * time.Second

// A Call asks a node for what only it has: a log, a trail, a run by hand.
type Call struct {
	ID   int64           `json:"id"` // within the session
	Verb Verb            `json:"verb"`
	Body json.RawMessage `json:"body,omitempty"` // what the verb takes
}

// A Cancel ends a call whose answer nobody waits for any more.
type Cancel struct {
	ID int64 `json:"id"`
}

// An At says where a node is: as a session begins, after each step, and when it was
// told something that does not follow on that.
type At struct {
	At        Position       `json:"at"`
	Unfit     []Unfit        `json:"unfit,omitempty"`     // functions of that position that the node cannot run, all of them
	Discarded map[string]int `json:"discarded,omitempty"` // deliveries that waited for what this step removed, by function
}

// An Unfit is a function that a node was told to run and does not, and why.
// What it ran before under that name still runs.
type Unfit struct {
	Name     string             `json:"name"`
	Revision functions.Revision `json:"revision"`
	Error    *Error             `json:"error"`
}

// A Refusal says that a node did not take what it was told, and remains where it was.
type Refusal struct {
	Of     Kind          `json:"of"`
	To     Position      `json:"to"` // where it would have led
	At     Position      `json:"at"` // where the node remains
	Reason RefusalReason `json:"reason"`
	Why    string        `json:"why"`
}

// A RefusalReason is a kind of refusal. The strings are sent.
type RefusalReason string

// Why a node refuses what it is told.
const (
	RefusedBackward  RefusalReason = "backward"  // to an earlier revision of the same epoch
	RefusedEpoch     RefusalReason = "epoch"     // to an epoch for which no operator has given up the node's
	RefusedForward   RefusalReason = "forward"   // to a revision so high that nothing could follow
	RefusedMixed     RefusalReason = "mixed"     // the functions are not those that the digest names
	RefusedMalformed RefusalReason = "malformed" // what no hub says
	RefusedEmptying  RefusalReason = "emptying"  // it takes too many functions away, and no operator has confirmed that
	RefusedUnsigned  RefusalReason = "unsigned"  // the node wants operators' signatures, and one is missing or wrong
	RefusedContent   RefusalReason = "content"   // a function is not what its revision says, too large or not to be had
	RefusedHeld      RefusalReason = "held"      // the node's owner lets it take nothing now
	RefusedFailed    RefusalReason = "failed"    // the node could not store it: it says where it is before it tries again
)

// A Fetch asks for the function of a revision from an offset on.
type Fetch struct {
	Revision functions.Revision `json:"revision"`
	Offset   int                `json:"offset"`
}

// A Report says how functions are on a node: those that have changed since the
// report before, and in the first one of a session all. A function that it names as
// gone is no more. Absent means unchanged.
type Report struct {
	Functions []FunctionReport `json:"functions,omitempty"`
	Gone      []string         `json:"gone,omitempty"`
	Faults    []Check          `json:"faults,omitempty"`  // checks that are not well, or say something
	Away      *Away            `json:"away,omitempty"`    // in the first report of a session
	Upgrade   *UpgradeReport   `json:"upgrade,omitempty"` // in the first report of a session, and when it has changed
}

// A FunctionReport is how a revision of a function does on a node. Its numbers count
// from when the node began to run it, across restarts of the agent or anew with each.
type FunctionReport struct {
	Name     string             `json:"name"`
	Revision functions.Revision `json:"revision"` // that runs
	Phase    Phase              `json:"phase"`
	Reason   string             `json:"reason,omitempty"`
	Runs     int64              `json:"runs"`                 // attempts that ended
	Failed   int64              `json:"failed"`               // of them
	P95      float64            `json:"p95Seconds,omitempty"` // of a run
	Waiting  int                `json:"waiting,omitempty"`
	Dead     int                `json:"dead,omitempty"`
	Bad      functions.Revision `json:"bad,omitempty"`   // the revision that the node has given up for this one by itself
	Error    string             `json:"error,omitempty"` // of the last attempt that failed, else why Bad was given up
}

// An Away says what happened while a node had no hub, in bounded space: sums only.
type Away struct {
	Since time.Time `json:"since"`
	Runs  int64     `json:"runs"`
	Dead  int64     `json:"dead"`
	Boots int       `json:"boots"` // starts of the agent
}

// An Answer is what a call led to, or a part of it.
type Answer struct {
	ID    int64           `json:"id"`
	Body  json.RawMessage `json:"body,omitempty"`
	Error *Error          `json:"error,omitempty"`
	More  bool            `json:"more,omitempty"` // others follow: this is a line of a log or trail
}

// A Verb says what a call asks for; beside each, what its body is and what it answers.
type Verb string

// The verbs of calls.
const (
	VerbTry         Verb = "try"          // Try → nothing, once it has been loaded without being put into force
	VerbInvoke      Verb = "invoke"       // InvokeCall → Invoked
	VerbLogs        Verb = "logs"         // Query → LogLine, each
	VerbEvents      Verb = "events"       // Query → Step, each
	VerbDead        Verb = "dead"         // Query → []DeadLetter
	VerbRedrive     Verb = "redrive"      // DeadChoice → int
	VerbDiscard     Verb = "discard"      // DeadChoice → int
	VerbStatus      Verb = "status"       // nothing → []FunctionStatus
	VerbChecks      Verb = "checks"       // nothing → []Check
	VerbState       Verb = "state"        // StateCall → []StateEntry
	VerbStateGet    Verb = "state.get"    // StateCall → StateEntry
	VerbStatePut    Verb = "state.put"    // StateCall → StateEntry
	VerbStateDelete Verb = "state.delete" // StateCall → nothing
	VerbDiagnostics Verb = "diagnostics"  // nothing → Diagnostics
)

// A Try asks whether a function loads: with the whole function, or only with its name and
// revision if it is to be fetched.
type Try struct {
	functions.Function
	Signature string `json:"signature,omitempty"` // as of [Ref]
}

// An InvokeCall asks for one run by hand.
type InvokeCall struct {
	Function string `json:"function"`
	Invoke
}

// A StateCall asks about a function's state, or changes it.
type StateCall struct {
	Function  string      `json:"function"`
	Prefix    string      `json:"prefix,omitempty"`
	After     string      `json:"after,omitempty"`
	Limit     int         `json:"limit,omitempty"`
	Entry     *StateEntry `json:"entry,omitempty"`     // its Key for get and delete
	IfVersion *int64      `json:"ifVersion,omitempty"` // nil for any
}

func (*Whole) Kind() Kind   { return KindWhole }
func (*Delta) Kind() Kind   { return KindDelta }
func (*Chunk) Kind() Kind   { return KindChunk }
func (*Current) Kind() Kind { return KindCurrent }
func (*Call) Kind() Kind    { return KindCall }
func (*Cancel) Kind() Kind  { return KindCancel }
func (*At) Kind() Kind      { return KindAt }
func (*Refusal) Kind() Kind { return KindRefusal }
func (*Fetch) Kind() Kind   { return KindFetch }
func (*Report) Kind() Kind  { return KindReport }
func (*Answer) Kind() Kind  { return KindAnswer }
