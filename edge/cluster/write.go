package cluster

import (
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// write returns how the status of a resource is to be changed, if it is, and the
// events that go with that.
func (d *Desk) write(name string, f *file, now time.Time) (todo []Action, again time.Time) {
	p, mine := d.patch(name, f, now)
	if p == nil {
		f.apart = time.Time{}
		return nil, time.Time{}
	}
	due := f.patched.Add(patchEvery << min(f.missed, 5))
	if !mine { // perhaps another node says it first
		if f.apart.IsZero() {
			f.apart = now
		}
		if t := f.apart.Add(d.patient); t.After(due) {
			due = t
		}
	}
	if now.Before(due) {
		return nil, due
	}
	f.apart = time.Time{}
	if e := d.event(f, p.Nodes[d.node], now); e != nil {
		todo = append(todo, Action{Name: name, Event: e})
	}
	return append(todo, Action{Name: name, Patch: p}), time.Time{}
}

// patch returns what the status lacks, or nil; mine is false if any other node
// could write it as well.
func (d *Desk) patch(name string, f *file, now time.Time) (p *Patch, mine bool) {
	r := f.resource
	p = &Patch{Nodes: map[string]*NodeStatus{}}
	nodes := map[string]NodeStatus{}
	for node, s := range r.Status.Nodes {
		if node != d.node && d.known(node) {
			nodes[node] = s
		} else if node != d.node {
			p.Nodes[node] = nil
		}
	}
	old, was := r.Status.Nodes[d.node]
	s, is := d.own(name, f)
	if is && !was && len(nodes) >= maxNodes {
		is = false
	}
	switch {
	case is:
		s.Time = old.Time
		if s != old {
			s.Time, mine = now, true
			p.Nodes[d.node] = &s
		}
		nodes[d.node] = s
	case was:
		mine = true
		p.Nodes[d.node] = nil
	}
	changed := len(p.Nodes) > 0
	if d.members != nil && d.conclude(f, nodes, p, now) {
		p.Version = r.Metadata.ResourceVersion
		changed = true
	}
	if !changed {
		return nil, false
	}
	return p, mine
}

// conclude puts into p what is said for all nodes, and reports whether that is
// another thing than before.
func (d *Desk) conclude(f *file, nodes map[string]NodeStatus, p *Patch, now time.Time) bool {
	r := f.resource
	valid, ready := conditions(r.Metadata.Generation, f.function, nodes, d.members)
	if valid.Type == "" {
		return false
	}
	all, one := settle(r.Status.Conditions, valid, now)
	all, two := settle(all, ready, now)
	revision := r.Status.Revision
	if f.function != nil {
		revision = f.function.Revision.Short()
	}
	if !one && !two && revision == r.Status.Revision && r.Status.Generation == r.Metadata.Generation {
		return false
	}
	p.Conditions, p.Revision, p.Generation = all, revision, r.Metadata.Generation
	return true
}

// known reports whether a node of that name may still write for itself.
func (d *Desk) known(node string) bool {
	if d.members == nil {
		return true
	}
	for _, m := range d.members {
		if m.Node == node {
			return true
		}
	}
	return false
}

// own returns what this node has to say about a resource, if anything.
func (d *Desk) own(name string, f *file) (s NodeStatus, any bool) {
	has, there := d.has[name]
	if there && has.Origin != edge.FromCluster {
		has, there = edge.FunctionStatus{}, false
	}
	s = NodeStatus{Generation: f.resource.Metadata.Generation, Revision: has.Revision.Short()}
	switch {
	case f.refusal != "" && f.function != nil && !f.retry.IsZero():
		s.Phase, s.Reason = string(edge.Failing), cut(f.refusal, maxReason) // tried again by and by
	case f.refusal != "":
		s.Phase, s.Reason = Refused, cut(f.refusal, maxReason)
	case !there || has.Revision != f.function.Revision:
		return NodeStatus{}, false // not meant for this node, or not taken up yet
	default:
		s.Phase, s.Reason = string(has.Phase), cut(has.Reason, maxReason)
	}
	return s, true
}

// event returns what is worth an event about what the node says now, or nil.
func (d *Desk) event(f *file, s *NodeStatus, now time.Time) *Event {
	if s == nil {
		return nil
	}
	old := f.resource.Status.Nodes[d.node]
	said := *s
	said.Time = time.Time{}
	if said == f.told {
		return nil
	}
	f.told = said
	e := &Event{Resource: f.resource}
	switch {
	case s.Phase == Refused && (old.Phase != Refused || old.Reason != s.Reason):
		e.Warning, e.Reason, e.Message = true, "Refused", d.node+": "+strings.ReplaceAll(s.Reason, "\n", "; ")
	case s.Phase == string(edge.Failing) && (old.Phase != s.Phase || old.Reason != s.Reason):
		e.Warning, e.Reason, e.Message = true, "Failing", about(d.node, "it cannot be started", s.Reason)
	case s.Phase != Refused && s.Revision != old.Revision:
		e.Reason, e.Message = "Rolled", d.node+" has taken up revision "+s.Revision
	default:
		return nil
	}
	e.Message = cut(e.Message, maxReason)
	if !d.events.AllowN(now, 1) {
		return nil
	}
	return e
}

// Body returns the patch as a merge patch (RFC 7386) of the resource.
func (p *Patch) Body() map[string]any {
	status := map[string]any{}
	if len(p.Nodes) > 0 {
		status["nodes"] = p.Nodes
	}
	if p.Conditions != nil {
		status["conditions"] = p.Conditions
		status["revision"] = p.Revision
		status["observedGeneration"] = p.Generation
	}
	body := map[string]any{"status": status}
	if p.Version != "" {
		body["metadata"] = map[string]any{"resourceVersion": p.Version}
	}
	return body
}
