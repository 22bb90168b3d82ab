package link

import (
	"errors"
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// Why a session ends. [Conn.Serve] returns errors that wrap these.
var (
	ErrClosed = errors.New("the link is closed")
	ErrSlow   = errors.New("the other side takes its messages too slowly")
	ErrSilent = errors.New("nothing has been heard from the other side for too long")
	ErrBroken = errors.New("a message cannot be opened: it was changed, lost or sent again on the way")
)

// Why a dial fails so that dialling again alone does not help. [Dialer.Dial] returns
// errors that wrap these, a [Refused], or an [Incompatible].
var (
	// ErrWrongCA: the server's certificate is of none of the authorities that the node trusts.
	ErrWrongCA = errors.New("the certificate is of no authority that this node trusts")
	// ErrWrongTime: it is, and is not valid at this time.
	ErrWrongTime = errors.New("the certificate is not valid now")
	// ErrWrongName: it is, and is not for the name in the URL.
	ErrWrongName = errors.New("the certificate is for another name")
	// ErrWrongHub: what answers does not have the key that the node has pinned.
	ErrWrongHub = errors.New("what answers is not this node's hub: it has not signed with the hub's key")
)

// A Refused is what a hub says that does not admit the node.
type Refused struct{ Verdict edge.Verdict }

func (r *Refused) Error() string {
	if r.Verdict.Waiting {
		return "the hub waits for an operator to approve this node"
	}
	return fmt.Sprintf("the hub does not admit this node: %s", r.Verdict.Message)
}

// An Incompatible says that node and hub have no protocol in common. Each speaks those
// from the first number to the second.
type Incompatible struct{ Node, Hub [2]int }

func (i *Incompatible) Error() string {
	older := "node"
	if i.Hub[1] < i.Node[0] {
		older = "hub"
	}
	return fmt.Sprintf("the %s is older than the other side can speak with (node: protocols %d to %d, hub: %d to %d); update the %s",
		older, i.Node[0], i.Node[1], i.Hub[0], i.Hub[1], older)
}

// A Status is what answered instead of a hub: a hub that has too much to do, a proxy or
// another server.
type Status struct {
	Code  int           // of HTTP
	After time.Duration // from its Retry-After; 0: none
	Text  string        // the beginning of what it said
}

func (s *Status) Error() string {
	if s.Text == "" {
		return fmt.Sprintf("HTTP status %d instead of a websocket", s.Code)
	}
	return fmt.Sprintf("HTTP status %d instead of a websocket: %q", s.Code, s.Text)
}

// A Left says that the other side has closed the link.
type Left struct {
	Code   int // of websocket
	Reason string
}

func (l *Left) Error() string {
	return fmt.Sprintf("the other side closed the link (%d): %q", l.Code, l.Reason)
}

// RetryAfter returns how long the hub has asked the node to wait, or 0.
func RetryAfter(err error) time.Duration {
	if r, ok := errors.AsType[*Refused](err); ok {
		return max(0, r.Verdict.Retry)
	}
	if s, ok := errors.AsType[*Status](err); ok {
		return s.After
	}
	return 0
}
