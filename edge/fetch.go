package edge

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/sedge-iot/sedge/functions"
)

// A larder holds functions that were fetched and not yet applied, also while there is
// no hub. It is bounded: Policy.Memory and one function more, and a part of another.
type larder struct {
	ready  map[functions.Revision]jar
	weight int // of all that is ready
	part   part
}

// A jar is one function that is ready.
type jar struct {
	function functions.Function
	weight   int // bytes as JSON
}

// A part is what is there of a function that is being fetched.
type part struct {
	revision functions.Revision
	data     []byte
	total    int  // bytes; 0 while no chunk has come
	old      bool // some of it is of a session before
}

// pause marks what is there as old.
func (l *larder) pause() { l.part.old = len(l.part.data) > 0 }

// keep drops what is not among refs.
func (l *larder) keep(refs []Ref) {
	wanted := func(revision functions.Revision) bool {
		return slices.ContainsFunc(refs, func(r Ref) bool { return r.Revision == revision })
	}
	for revision, jar := range l.ready {
		if !wanted(revision) {
			delete(l.ready, revision)
			l.weight -= jar.weight
		}
	}
	if !wanted(l.part.revision) {
		l.part = part{}
	}
}

// drop forgets the functions that are ready.
func (l *larder) drop() { l.ready, l.weight = nil, 0 }

func (l *larder) store(f functions.Function, weight int) {
	if l.ready == nil {
		l.ready = map[functions.Revision]jar{}
	}
	l.ready[f.Revision] = jar{f, weight}
	l.weight += weight
	l.part = part{}
}

// content returns the function of a ref as it is to be put: no more than its name
// where the node has it.
func (r *Replica) content(ref Ref) (f functions.Function, ok bool) {
	if r.has(ref) {
		f.Manifest.Metadata.Name, f.Revision = ref.Name, ref.Revision
		return f, true
	}
	if f := r.next.inline[ref.Revision]; f != nil {
		return *f, true
	}
	kept, ok := r.larder.ready[ref.Revision]
	return kept.function, ok
}

// lacking returns a ref of which the function is not there: the one of which a part is,
// else the first.
func (r *Replica) lacking() (first Ref, lacks bool) {
	for _, ref := range r.next.put {
		if _, ok := r.content(ref); ok {
			continue
		}
		if ref.Revision == r.larder.part.revision {
			return ref, true
		}
		if !lacks {
			first, lacks = ref, true
		}
	}
	return first, lacks
}

// advance has applied what may be, or fetches what is missing.
func (r *Replica) advance() Output {
	if no := r.held(); no != nil {
		return r.abandon(r.next.of, no)
	}
	_, lacks := r.lacking()
	switch {
	case !lacks:
		r.apply = r.all()
	case r.larder.weight >= r.policy.Memory:
		r.apply = r.some()
	default:
		return Output{Send: r.fetch()}
	}
	return Output{Apply: r.apply}
}

// all is what is left of the step.
func (r *Replica) all() *Apply {
	a := &Apply{Put: r.definitions(), Remove: r.next.remove, Next: r.next.to}
	a.Next.Unfit = r.stillUnfit(a)
	return a
}

// some is what is there of a step of which not all can be held at once. The node is then
// nowhere that has a name.
func (r *Replica) some() *Apply {
	a := &Apply{Put: r.definitions(), Next: Synced{At: r.is.At}}
	a.Next.At.Digest = ""
	for _, ref := range r.next.put {
		if puts(a, ref.Name) {
			a.Next.Functions = append(a.Next.Functions, ref)
		}
	}
	for _, was := range r.is.Functions {
		if !puts(a, was.Name) {
			a.Next.Functions = append(a.Next.Functions, was)
		}
	}
	a.Next.Functions = byName(a.Next.Functions)
	a.Next.Unfit = r.stillUnfit(a)
	return a
}

// definitions are those functions of the step that are there.
func (r *Replica) definitions() (list []Definition) {
	for _, ref := range r.next.put {
		if f, ok := r.content(ref); ok {
			list = append(list, Definition{Function: f, Enabled: ref.Enabled})
		}
	}
	return list
}

// stillUnfit are the unfit functions that an apply leaves as they are.
func (r *Replica) stillUnfit(a *Apply) (list []Unfit) {
	for _, u := range r.is.Unfit {
		ref, ok := find(a.Next.Functions, u.Name)
		if ok && ref.Revision == u.Revision && !puts(a, u.Name) {
			list = append(list, u)
		}
	}
	return list
}

func puts(a *Apply, name string) bool {
	return slices.ContainsFunc(a.Put, func(d Definition) bool { return d.Function.Name() == name })
}

// fetch asks for what is missing next.
func (r *Replica) fetch() []Message {
	ref, lacks := r.lacking()
	if !lacks {
		return nil
	}
	if r.larder.part.revision != ref.Revision {
		r.larder.part = part{revision: ref.Revision}
	}
	return []Message{&Fetch{Revision: ref.Revision, Offset: len(r.larder.part.data)}}
}

// chunk takes a piece of what is being fetched. Any other was asked for earlier, or never.
func (r *Replica) chunk(c *Chunk) Output {
	p := &r.larder.part
	if r.next == nil || c.Revision != p.revision || c.Offset != len(p.data) {
		return Output{}
	}
	ref, lacks := r.lacking()
	if !lacks || ref.Revision != c.Revision {
		return Output{}
	}
	r.waited = 0
	if p.old && c.Total != p.total && c.Total != 0 { // the hub has it in other words now
		*p = part{}
		return Output{Send: r.fetch()}
	}
	if no := p.take(c); no != nil {
		*p = part{}
		return r.abandon(KindChunk, no)
	}
	if len(p.data) < p.total {
		return Output{Send: r.fetch()}
	}
	f, err := open(p.data, ref)
	if err != nil && p.old {
		*p = part{}
		return Output{Send: r.fetch()}
	}
	if err != nil {
		*p = part{}
		return r.abandon(KindChunk, refuse(RefusedContent, "%v", err))
	}
	r.larder.store(f, len(p.data))
	return r.advance()
}

// take adds the data of a chunk that follows on what is there.
func (p *part) take(c *Chunk) *Refusal {
	short := c.Revision.Short()
	switch {
	case c.Total == 0:
		return refuse(RefusedContent, "the hub has no revision %s", short)
	case c.Total < 0 || c.Total > MaxBundle:
		return refuse(RefusedContent, "revision %s is to weigh %d bytes, at most %d are taken", short, c.Total, MaxBundle)
	case p.total != 0 && c.Total != p.total:
		return refuse(RefusedContent, "revision %s was to weigh %d bytes, and now %d", short, p.total, c.Total)
	case len(c.Data) == 0 || len(c.Data) > ChunkSize:
		return refuse(RefusedContent, "revision %s comes in a piece of %d bytes", short, len(c.Data))
	case len(p.data)+len(c.Data) > c.Total:
		return refuse(RefusedContent, "revision %s is longer than the %d bytes that were announced", short, c.Total)
	}
	p.total = c.Total
	p.data = append(p.data, c.Data...)
	return nil
}

// open reads a bundle that is to be the function of ref.
func open(bundle []byte, ref Ref) (f functions.Function, err error) {
	if err := json.Unmarshal(bundle, &f); err != nil {
		return f, fmt.Errorf("%s, revision %s: %w", ref.Name, ref.Revision.Short(), err)
	}
	return f, right(f, ref)
}

// right says what is wrong with a function that is to be the one of ref.
func right(f functions.Function, ref Ref) error {
	if f.Name() != ref.Name || f.Revision != ref.Revision {
		return fmt.Errorf("%s, revision %s: what came is another function", ref.Name, ref.Revision.Short())
	}
	if err := f.Verify(); err != nil {
		return fmt.Errorf("%s, revision %s: %w", ref.Name, ref.Revision.Short(), err)
	}
	return nil
}
