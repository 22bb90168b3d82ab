package fleet

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/selector"
)

// Limits of what is kept of what a node tells.
const (
	maxFaults = 32
	maxText   = 500 // bytes
)

// A node is a machine as the hub knows it. Its fields are guarded by [Fleet.mu].
type node struct {
	is        edge.Node // as the ledger has it; Seen, At, and what a dial tells, are later ones
	text      string    // its labels
	session   *session  // or nil
	elsewhere string    // the id of the replica that has its session, or ""
	set       *edge.Set // that it is to have; nil if it is left as it is
	settled   int64     // the last revision of this epoch as of which it was known to have all; it need not have been told
	beyond    bool      // it was further than the ledger when that was last read
	ahead     string    // the epoch that it has followed further than the ledger, or ""
	saved     time.Time // when the ledger was last told of Seen and At
	dirty     bool      // it is to be told soon

	reports []edge.FunctionReport // by name
	unfit   []edge.Unfit
	faults  []edge.Check
	refusal *edge.Refusal
	program *edge.UpgradeReport // nil if the node has told nothing of it in this session
	away    *edge.Away

	owed  debt      // to the other replicas
	begun bool      // they do not know of its session
	told  time.Time // when they were last told of it

	discarded map[string]int // deliveries that the last step cost, by function
}

// take takes over what the ledger says, but for what only sessions tell.
func (n *node) take(is edge.Node) {
	if n.is.ID != "" {
		is.Seen, is.At = n.is.Seen, n.is.At
		is.Counter, is.Address, is.Version, is.Platform = n.is.Counter, n.is.Address, n.is.Version, n.is.Platform
	}
	n.is, n.text = is, shared(labelText(is.Labels))
}

// member reports whether the node is one of the fleet.
func (n *node) member() bool { return n.is.Standing == edge.Member }

// online reports whether the node is connected, to this replica or another.
func (n *node) online() bool { return n.session != nil || n.elsewhere != "" }

// fed reports whether the node is given what is new.
func (n *node) fed() bool { return n.member() && !n.is.Cordoned }

// holds reports whether the node's owner lets it take nothing of what it is to have.
func (n *node) holds() bool {
	return n.refusal != nil && n.refusal.Reason == edge.RefusedHeld && n.set != nil && n.refusal.To == n.set.At()
}

// inStep reports whether the node last said to have what it is to have.
func (n *node) inStep() bool {
	return n.set != nil && n.is.At.Epoch == n.set.At().Epoch && n.is.At.Digest == n.set.At().Digest
}

// before reports whether the node is where s leads, or was never led as far: no step goes
// backward.
func (n *node) before(s *edge.Set) bool {
	earlier := func(p edge.Position) bool {
		return p == s.At() || p.Epoch != s.At().Epoch || p.Revision < s.At().Revision
	}
	return earlier(n.is.At) && (n.set == nil || earlier(n.set.At()))
}

// now returns the node as it is now.
func (n *node) now() edge.Node {
	is := n.is
	is.Connected = n.online()
	return is
}

// movedLocked notes where a node says to be.
func (f *Fleet) movedLocked(n *node, at edge.Position) {
	if n.dirty = n.dirty || n.is.At != at; at.Revision < n.is.At.Revision {
		n.settled = 0 // its memory is an old one
	}
	n.is.At = at
	if hub := f.hubAtLocked(); at.Epoch == hub.Epoch && at.Revision > hub.Revision {
		f.Changed() // which compares them
	}
	f.aimLocked(n)
	f.changedLocked()
}

// report returns what the node last told of a function, or nil.
func (n *node) report(name string) *edge.FunctionReport {
	i, ok := n.find(name)
	if !ok {
		return nil
	}
	return &n.reports[i]
}

func (n *node) find(name string) (int, bool) {
	return slices.BinarySearchFunc(n.reports, name, func(r edge.FunctionReport, name string) int {
		return strings.Compare(r.Name, name)
	})
}

// unfitFor returns why the node cannot run a function, or nil.
func (n *node) unfitFor(name string) *edge.Unfit {
	for i := range n.unfit {
		if u := &n.unfit[i]; u.Name == name && !n.gaveUp(u) {
			return u
		}
	}
	return nil
}

// gaveUp reports whether the node has given up what it says to be unfit for: it could run that.
func (n *node) gaveUp(u *edge.Unfit) bool {
	r := n.report(u.Name)
	return r != nil && r.Bad == u.Revision
}

// cannot returns what the node cannot run.
func (n *node) cannot() (list []edge.Unfit) {
	for i := range n.unfit {
		if u := &n.unfit[i]; !n.gaveUp(u) {
			list = append(list, *u)
		}
	}
	return list
}

// heard keeps a report, within limits.
func (n *node) heard(r *edge.Report, first bool) {
	if first {
		n.reports, n.faults, n.program = nil, nil, nil
	}
	if p := r.Upgrade; p != nil {
		n.program = clippedProgram(p)
	}
	for _, name := range r.Gone {
		if i, ok := n.find(name); ok {
			n.reports = slices.Delete(n.reports, i, i+1)
		}
	}
	for _, f := range r.Functions {
		f.Name, f.Revision, f.Phase = shared(f.Name), shared(f.Revision), shared(f.Phase)
		f.Reason, f.Error = cut(f.Reason), cut(f.Error)
		switch i, known := n.find(f.Name); {
		case known:
			n.reports[i] = f
		case len(n.reports) < edge.MaxFunctions && len(f.Name) <= 63:
			n.reports = slices.Insert(n.reports, i, f)
		}
	}
	n.reports = slices.Clip(n.reports) // few grow
	for _, c := range r.Faults {
		n.faults = slices.DeleteFunc(n.faults, func(was edge.Check) bool { return was.Name == c.Name })
		if (!c.OK || c.Why != "") && len(n.faults) < maxFaults {
			n.faults = append(n.faults, edge.Check{Name: cut(c.Name), OK: c.OK, Why: cut(c.Why)})
		}
	}
	if r.Away != nil {
		n.away = r.Away
	}
}

// keepUnfit keeps what a node cannot run, within limits.
func (n *node) keepUnfit(list []edge.Unfit) {
	n.unfit = list[:min(len(list), edge.MaxFunctions):min(len(list), edge.MaxFunctions)]
	for i := range n.unfit {
		u := &n.unfit[i]
		if u.Error != nil {
			u.Error = &edge.Error{Code: edge.Code(cut(string(u.Error.Code))), Message: cut(u.Error.Message), Hint: cut(u.Error.Hint)}
		}
	}
}

// shared returns a text that thousands of nodes say alike, from where all have it.
func shared[T ~string](text T) T { return unique.Make(text).Value() }

// cut returns text as it may be kept.
func cut(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}

// Nodes returns the nodes whose labels the selector matches, by name: those that were
// revoked too, and none that have departed.
func (f *Fleet) Nodes(where selector.Selector) []edge.Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]edge.Node, 0, len(f.nodes))
	for _, n := range f.nodes {
		if n.is.Standing != edge.Departed && where.Matches(n.is.PlacedBy()) {
			list = append(list, n.now())
		}
	}
	slices.SortFunc(list, func(x, y edge.Node) int { return strings.Compare(x.Name+" "+x.ID, y.Name+" "+y.ID) })
	return list
}

// Node returns the node with that id, or of that name, and how it is. The error is an
// *[edge.Error] that is NotFound.
func (f *Fleet) Node(idOrName string) (edge.NodeDetail, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookLocked(idOrName)
	if err != nil {
		return edge.NodeDetail{}, err
	}
	d := edge.NodeDetail{
		Node: n.now(), Functions: slices.Clone(n.reports), Unfit: n.cannot(), Faults: slices.Clone(n.faults), Away: n.away, Program: n.program,
	}
	if d.Functions == nil {
		d.Functions = []edge.FunctionReport{}
	}
	if n.refusal != nil {
		d.Refusal = advised(*n.refusal)
	}
	return d, nil
}

// advised adds to a refusal what an operator can do.
func advised(r edge.Refusal) *edge.Refusal {
	switch r.Reason {
	case edge.RefusedBackward:
		r.Why += ": the hub knows less than this node has been told, as after a restore from an old backup; restore a newer one, or, " +
			"if what is missing may be undone on every node, give it up: sedge node accept-epoch"
	case edge.RefusedEpoch:
		r.Why += ": the node has followed another hub, or this one before its data was lost; if it may lose what it runs from there, " +
			"say so: sedge node accept-epoch"
	case edge.RefusedEmptying:
		r.Why += ": if that is what you want, change it again and confirm how many functions it takes away"
	}
	return &r
}

// lookLocked finds a node: of several with a name the one that is of the fleet or waits.
func (f *Fleet) lookLocked(idOrName string) (*node, error) {
	if n := f.nodes[idOrName]; n != nil && n.is.Standing != edge.Departed {
		return n, nil
	}
	var found *node
	for _, n := range f.nodes {
		if n.is.Name != idOrName || n.is.Standing == edge.Departed {
			continue
		}
		if found == nil || found.is.Standing == edge.Revoked && (n.is.Standing != edge.Revoked || n.is.Joined.After(found.is.Joined)) {
			found = n
		}
	}
	if found == nil {
		return nil, &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("there is no node %.63q", idOrName)}
	}
	return found, nil
}

// clippedProgram returns what is kept of what a node says of its program.
func clippedProgram(p *edge.UpgradeReport) *edge.UpgradeReport {
	for _, alike := range []*string{&p.Version, &p.Platform, &p.Digest, &p.Installed} {
		*alike = shared(cut(*alike))
	}
	p.Fault = cut(p.Fault)
	if f := p.Failed; f != nil {
		f.Version, f.Why = cut(f.Version), cut(f.Why)
	}
	if r := p.Refused; r != nil {
		r.Version, r.Why = cut(r.Version), cut(r.Why)
	}
	return p
}
