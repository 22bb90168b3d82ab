package edge

import (
	"cmp"
	"slices"

	"github.com/sedge-iot/sedge/functions"
)

// A Replica is the node's side of the sync: it judges what the hub says, fetches what
// is missing and says what the node is to do. What it refuses changes nothing. It is
// pure, and used from one goroutine at a time.
//
// Functions that others than the hub tell the node to run (see [Definition].Origin) are
// none of its business: a Removal is not for them.
type Replica struct {
	policy Policy
	is     Synced // what is applied
	next   *plan  // where the hub leads, or nil
	apply  *Apply // being carried out, or nil
	larder larder // functions that were fetched and are not applied yet

	refusal RefusalReason // of the last step, if it stands
	waited  int           // ticks since that, since the last chunk, or since the hub agreed
	wait    int           // ticks after which a refused step is tried again
}

// A Policy is what a node takes.
type Policy struct {
	Trust  func(Ref) error // says why not to run a ref by its signature; nil: any will do
	Held   func() string   // says why the node's owner lets nothing in now, or ""; nil: never
	Memory int             // bytes of fetched functions that wait to be applied together; 0: MaxBundle
}

// An Output is what a step leads to: messages for the hub, and what is to be carried
// out before the next step, or nil.
type Output struct {
	Send  []Message
	Apply *Apply
}

// An Apply is to be carried out as one: functions and position are stored in one
// transaction, and [Replica.Applied] is told. A function that is not enabled need not
// load to be taken: whatever runs under its name is to stop.
type Apply struct {
	Put    []Definition // the function has only name and revision where the node has that revision
	Remove []Removal    // also of functions that the node does not run, whose state is to go
	Next   Synced       // to be stored, with the Unfit that turn up; its slices belong to the replica
}

// A Result is what became of an Apply.
type Result struct {
	Unfit     []Unfit        // of Put: what cannot be run though all is well with it
	Discarded map[string]int // deliveries that waited for what was removed, by function
	Err       error          // nothing of it was done
}

// NewReplica returns the replica of a node that is at synced. Where the digest does not name
// the functions it is left out, so that the hub tells the whole: a node whose store has
// lost a function says what it has, and one on which an unfit function is to be tried again
// leaves the digest out by itself.
func NewReplica(synced Synced, policy Policy) *Replica {
	if policy.Memory <= 0 {
		policy.Memory = MaxBundle
	}
	r := &Replica{policy: policy, is: synced}
	r.is.Functions, r.is.Unfit = byName(Plain(synced.Functions)), brief(synced.Unfit)
	if Digest(r.is.Functions) != r.is.At.Digest {
		r.is.At.Digest = ""
	}
	return r
}

// Synced returns what is applied. Its slices belong to the replica.
func (r *Replica) Synced() Synced { return r.is }

// Pending returns where the hub leads the node just now, and whether it does.
func (r *Replica) Pending() (Position, bool) {
	if r.next == nil {
		return Position{}, false
	}
	return r.next.to.At, true
}

// Begin says what a node says first in a session. What was under way in the one before
// is forgotten but for the content, which need not be fetched again.
func (r *Replica) Begin() []Message {
	if r.apply == nil {
		r.next = nil
	}
	r.settle()
	r.larder.pause()
	return []Message{r.position(nil)}
}

// Step takes what the hub says. Calls, and what is not the hub's to say, are passed
// over; so is everything between an Apply and the report on it.
func (r *Replica) Step(m Message) Output {
	if r.apply != nil {
		return Output{}
	}
	switch m := m.(type) {
	case *Whole:
		return r.whole(m)
	case *Delta:
		return r.delta(m)
	case *Chunk:
		return r.chunk(m)
	case *Current:
		return r.current(m)
	}
	return Output{}
}

// Applied takes what became of the last Apply.
func (r *Replica) Applied(res Result) []Message {
	a := r.apply
	r.apply = nil
	switch {
	case a == nil || r.next == nil:
		return nil
	case res.Err != nil:
		return r.abandon(r.next.of, refuse(RefusedFailed, "%v", res.Err)).Send
	}
	r.is.At, r.is.Functions = a.Next.At, a.Next.Functions
	r.is.Unfit = brief(slices.Concat(a.Next.Unfit, res.Unfit))
	r.larder.drop()
	if a.Next.At != r.next.to.At { // a part of it
		r.next.put = slices.DeleteFunc(r.next.put, func(ref Ref) bool { return puts(a, ref.Name) })
		return r.advance().Send
	}
	r.next = nil
	r.settle()
	return []Message{r.position(res.Discarded)}
}

// Tick is called every [BeatTime], and says what there is to say because nothing came: it asks
// again for content, and it says where the node is when the hub does not seem to know, and
// when what was refused may be tried again: once the owner holds the node no longer; after
// one tick, two, four, and so on otherwise.
func (r *Replica) Tick() []Message {
	r.waited++
	wait := patience
	switch {
	case r.apply != nil:
		return nil
	case r.refusal == RefusedHeld && r.held() != nil:
		return nil
	case r.refusal == RefusedHeld:
		wait = 0
	case r.refusal != "":
		wait = r.wait
	}
	if r.waited < wait {
		return nil
	}
	r.waited, r.refusal = 0, ""
	if r.next != nil {
		return r.fetch()
	}
	return []Message{r.position(nil)}
}

// settle forgets what was refused.
func (r *Replica) settle() { r.refusal, r.waited, r.wait = "", 0, 0 }

// current judges whether nothing is new.
func (r *Replica) current(m *Current) Output {
	is := r.is.At
	switch {
	case m.At == (Position{}) || r.next != nil:
		return Output{}
	case m.At == is:
		r.settle()
		return Output{}
	case m.At.Epoch == is.Epoch && m.At.Revision < is.Revision:
		return r.say(KindCurrent, m.At, backward(m.At, is))
	case m.At.Epoch == is.Epoch && m.At.Revision == is.Revision && is.Digest != "":
		return r.say(KindCurrent, m.At, mixed(m.At))
	}
	return Output{Send: []Message{r.position(nil)}}
}

// has reports whether the node has the function of a ref.
func (r *Replica) has(ref Ref) bool {
	was, ok := find(r.is.Functions, ref.Name)
	return ok && was.Revision == ref.Revision && !unfit(r.is.Unfit, ref.Name, ref.Revision)
}

func unfit(list []Unfit, name string, revision functions.Revision) bool {
	for _, u := range list {
		if u.Name == name && u.Revision == revision {
			return true
		}
	}
	return false
}

// position says where the node is.
func (r *Replica) position(discarded map[string]int) *At {
	return &At{At: r.is.At, Unfit: r.is.Unfit, Discarded: discarded}
}

// brief cuts what is said of unfit functions so that it fits into a message, however
// many they are.
func brief(list []Unfit) []Unfit {
	short := slices.Clone(list)
	most := 256
	if len(list) > 64 {
		most = 32
	}
	for i, u := range short {
		if u.Error != nil {
			short[i].Error = &Error{Code: u.Error.Code, Message: cut(u.Error.Message, most)}
		}
	}
	return short
}

// removes reports whether a name is among removals that are in order.
func removes(list []Removal, name string) bool {
	_, ok := slices.BinarySearchFunc(list, name, func(x Removal, name string) int { return cmp.Compare(x.Name, name) })
	return ok
}

func byRemoval(list []Removal) []Removal {
	slices.SortFunc(list, func(x, y Removal) int { return cmp.Compare(x.Name, y.Name) })
	return list
}
