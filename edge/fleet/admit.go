package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/selector"
)

const (
	approvalRetry = 5 * time.Second  // after which a node that waits for approval comes again
	troubleRetry  = 10 * time.Second // after which one comes again that the hub could not look up
	maxName       = 63
	maxVersion    = 64 // bytes
)

// admit decides about a node that has proved that it has its key. A node that is not
// admitted hears nothing of the reason, which is in the audit.
func (f *Fleet) admit(_ context.Context, p edge.Proof, remote string) edge.Verdict {
	address, _, err := net.SplitHostPort(remote)
	if err != nil {
		address = remote
	}
	p.Version, p.Platform = clipped(p.Version), clipped(p.Platform)
	n, err := f.enrol(p, address)
	switch {
	case err == nil:
	case refusable(err):
		f.refuse(p, address, err)
		return edge.Verdict{Code: edge.Denied, Message: "this node is not admitted; the hub's audit says why"}
	default:
		f.Logger.Error("node cannot be looked up", "node", edge.NodeID(p.Key), "err", err)
		return edge.Verdict{Code: edge.Unavailable, Message: "the hub cannot look the node up now", Retry: troubleRetry}
	}
	v := edge.Verdict{ID: n.ID, Name: n.Name}
	if n.Standing != edge.Member { // it waits, or was fenced: either way an operator has to approve it
		f.counts.refused.Add(1)
		v.Waiting, v.Retry = true, approvalRetry
		v.Code, v.Message = edge.Forbidden, "an operator of the hub has to approve this node"
		return v
	}
	v.Admitted, v.Epoch = true, f.epoch()
	return v
}

// errUnknown says that a node comes for the first time and shows nothing.
var errUnknown = errors.New("no node has its key, and it shows no join token")

// enrol has the ledger note the dial, or add the node.
func (f *Fleet) enrol(p edge.Proof, address string) (edge.Node, error) {
	n, err := f.Ledger.Dialled(p, address)
	if !errors.Is(err, ledger.ErrNotFound) {
		return n, err
	}
	if p.Join == nil {
		return n, errUnknown
	}
	if err := checkProof(p); err != nil {
		return n, err
	}
	return f.Ledger.Join(p, address)
}

// checkProof refuses a name or labels that no node can have.
func checkProof(p edge.Proof) error {
	fits := func(c rune) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '.' }
	if p.Name == "" || len(p.Name) > maxName || strings.ContainsFunc(p.Name, func(c rune) bool { return !fits(c) }) {
		return &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("%.70q is no name of a node: up to %d small letters, digits, - and .", p.Name, maxName)}
	}
	return selector.Check(p.Labels)
}

// refusable reports whether the error is about the node, not about the hub.
func refusable(err error) bool {
	for _, of := range []error{
		errUnknown, ledger.ErrRevoked, ledger.ErrNoToken, ledger.ErrWrongSecret, ledger.ErrBurnt,
		ledger.ErrExpired, ledger.ErrUsedUp, ledger.ErrConflict,
	} {
		if errors.Is(err, of) {
			return true
		}
	}
	_, told := errors.AsType[*edge.Error](err)
	return told
}

// refuse notes in the audit why a node is not admitted. Strangers cannot fill the disk
// with that: what comes too fast is only counted, and the next note says how much that was.
func (f *Fleet) refuse(p edge.Proof, address string, why error) {
	missed, ok := f.refusals.may()
	if !ok {
		return
	}
	detail := why.Error()
	if missed > 0 {
		detail += fmt.Sprintf(" (and %d others since the last note)", missed)
	}
	who := ledger.Who{By: "node/" + p.Name, Address: address}
	if err := f.Ledger.Note(who, "join.refused", "node/"+edge.NodeID(p.Key), detail); err != nil {
		f.Logger.Error("refusal cannot be noted", "node", edge.NodeID(p.Key), "address", address, "why", why, "err", err)
	}
}

func (f *Fleet) epoch() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hubAtLocked().Epoch
}

func clipped(text string) string {
	if len(text) > maxVersion {
		text = text[:maxVersion]
	}
	return strings.ToValidUTF8(text, "")
}

// A tally limits how often something is noted, and counts what is not.
type tally struct {
	limit  *rate.Limiter
	missed atomic.Int64
}

func newTally() *tally { return &tally{limit: rate.NewLimiter(1, 30)} }

// may reports whether something may be noted, and how much was not since the last time.
func (t *tally) may() (missed int64, ok bool) {
	if !t.limit.Allow() {
		t.missed.Add(1)
		return 0, false
	}
	return t.missed.Swap(0), true
}
