package edge

// patience is how many ticks a step may take without a word of the node before it is
// said again.
const patience = 2

// A Feed leads one node, in one session, to the [Set] that it is to run. It says one
// step at a time, and the next one when the node has confirmed that: sets that come
// meanwhile are left out but for the last. It is pure: what its methods return is to be
// sent to the node, in order. It is used from one goroutine at a time.
//
// The messages it returns are a set's own, and the same ones for every node: they
// must not be changed, and [Encode] has their text at hand. The time in a [Current] is
// for the caller to set.
type Feed struct {
	want    *Set     // or nil: the node is to be told nothing
	at      Position // where the node last said to be
	heard   bool     // it has said so
	base    *Set     // whose functions it has there, or nil if that is not known
	step    Message  // under way, or nil
	to      *Set     // where that leads
	quiet   int      // ticks since the step was said, or the node was seen at work on it
	refused *Set     // the set that the node did not take, or nil
	refusal *Refusal // of it
}

// NewFeed returns the feed of a session that has just begun. It says nothing until the
// node has said where it is. A set of nil leaves the node as it is.
func NewFeed(want *Set) *Feed { return &Feed{want: want} }

// Want makes set the one that the node is to have.
func (f *Feed) Want(set *Set) []Message {
	if set == f.want || set != nil && f.want != nil && set.at == f.want.at {
		return nil
	}
	f.want = set
	if !f.heard || f.step != nil {
		return nil
	}
	return f.next()
}

// Heard takes what the node says. Other messages than At, Refusal and Fetch are passed over.
// A Fetch, which the caller answers, shows that the node is at work.
func (f *Feed) Heard(m Message) []Message {
	switch m := m.(type) {
	case *At:
		return f.heardAt(clip(m.At))
	case *Refusal:
		return f.heardRefusal(m)
	case *Fetch:
		f.quiet = 0
	}
	return nil
}

// Tick says what is to be said after [BeatTime] anyway: the step again that the node has
// not confirmed for two ticks, or else a [Current].
func (f *Feed) Tick() []Message {
	if f.step == nil {
		return []Message{f.current()}
	}
	if f.quiet++; f.quiet < patience {
		return []Message{f.current()}
	}
	f.quiet = 0
	return []Message{f.step}
}

// At returns where the node last said to be.
func (f *Feed) At() Position { return f.at }

// InStep reports whether the node has all that it is to have, and is on no way to anything else.
func (f *Feed) InStep() bool {
	return f.heard && f.want != nil && f.step == nil && f.want.holds(f.at)
}

// Refusal returns why the node does not take what it is to have, or nil. Until it says
// where it is, or is to have something else, it is not told that again.
func (f *Feed) Refusal() *Refusal {
	if f.refused == nil || f.refused != f.want {
		return nil
	}
	return f.refusal
}

// Behind reports whether the node has followed the hub's epoch further than the hub
// itself has come: the hub's memory is an old one. It must not go on in that epoch,
// or what it lost is undone on the nodes too.
func (f *Feed) Behind() bool {
	return f.heard && f.want != nil && f.at.Epoch == f.want.at.Epoch && f.at.Revision > f.want.at.Revision
}

func (f *Feed) heardAt(at Position) []Message {
	before, first := f.at, !f.heard
	f.heard = true
	switch {
	case f.step != nil && at == f.to.at: // confirmed
		f.at, f.base, f.step, f.refused = at, f.to, nil, nil
		return f.next()
	case f.step != nil && at == before: // said before it heard of the step, which is on its way
		return nil
	case f.step == nil && at == before && !first && f.refused == nil: // it has been answered
		return nil
	}
	f.move(at)
	f.step, f.refused = nil, nil
	if f.InStep() {
		f.base = f.want
		return []Message{f.current()}
	}
	return f.next()
}

// heardRefusal gives up the set that the node does not take. A refusal of what is
// neither under way nor wanted is an old one.
func (f *Feed) heardRefusal(r *Refusal) []Message {
	of := f.want
	if f.step != nil {
		of = f.to
	}
	if !f.heard || of == nil || r.To != of.at || f.step == nil && f.InStep() {
		return nil
	}
	kept := *r
	kept.At, kept.To = clip(r.At), of.at
	kept.Reason, kept.Why = RefusalReason(cut(string(r.Reason), 32)), cut(r.Why, maxWhy)
	f.refused, f.refusal, f.step = of, &kept, nil
	f.move(kept.At)
	return f.next()
}

// move notes where the node is.
func (f *Feed) move(at Position) {
	f.at = at
	if f.base != nil && (at.Epoch != f.base.at.Epoch || at.Digest != f.base.at.Digest) {
		f.base = nil
	}
}

// next begins the step to what is wanted.
func (f *Feed) next() []Message {
	if f.want == nil || f.want == f.refused {
		return nil
	}
	if f.InStep() {
		f.base = f.want
		return nil
	}
	f.to, f.step, f.quiet = f.want, nil, 0
	if f.base != nil && f.at.Epoch == f.to.at.Epoch && f.at.Revision < f.to.at.Revision {
		if d := f.to.delta(f.at, f.base); d != nil {
			f.step = d
		}
	}
	if f.step == nil {
		f.step = f.to.whole(f.at)
	}
	return []Message{f.step}
}

// current says that nothing is new, or nothing but the time to a node that is not
// where it should be.
func (f *Feed) current() *Current {
	if f.InStep() {
		return &Current{At: f.at}
	}
	return &Current{}
}

// clip makes a position that somebody says one that may be kept: what is longer than any
// is nobody's.
func clip(p Position) Position {
	if len(p.Epoch) > maxEpoch || len(p.Digest) > maxEpoch {
		return Position{}
	}
	return p
}
