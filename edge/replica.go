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
	waited  int           // ticks since something was done about that, or since the last chunk
	wait    int           // ticks before it is tried again
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
// transaction, and [Replica.Applied] is told.
type Apply struct {
	Put    []Definition // the function has only name and revision where the node has that revision
	Remove []Removal    // also of functions that the node does not run, whose state is to go
	Next   Synced       // to be stored, with the Unfit that turn up
}

// A Result is what became of an Apply.
type Result struct {
	Unfit     []Unfit        // of Put: what cannot be run though all is well with it
	Discarded map[string]int // deliveries that waited for what was removed, by function
	Err       error          // nothing of it was done
}

// NewReplica returns the replica of a node that is at synced. Where the position does not name the
// functions, it is kept without the digest, and the hub tells the whole: so a node that
// lost a function, or that wants to try one again that was unfit, leaves it out.
func NewReplica(synced Synced, policy Policy) *Replica {
	if policy.Memory <= 0 {
		policy.Memory = MaxBundle
	}
	r := &Replica{policy: policy, is: synced}
	r.is.Functions = byName(Plain(synced.Functions))
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
	r.next, r.apply, r.refusal, r.wait = nil, nil, "", 0
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
	r.is.Unfit = append(a.Next.Unfit, brief(res.Unfit)...)
	r.larder.drop()
	if a.Next.At != r.next.to.At { // a part of it
		r.next.put = slices.DeleteFunc(r.next.put, func(ref Ref) bool { return puts(a, ref.Name) })
		return r.advance().Send
	}
	r.next, r.refusal, r.wait = nil, "", 0
	return []Message{r.position(res.Discarded)}
}

// Tick is called every [BeatTime]. It asks again for content that does not come, and says
// where the node is once a refusal stands no more: the owner holds the node no longer, or
// what could not be stored may be tried again, after one tick, two, four, up to 32.
func (r *Replica) Tick() []Message {
	r.waited++
	switch {
	case r.next != nil && r.waited >= patience:
		r.waited = 0
		return r.fetch()
	case r.next != nil:
		return nil
	case r.refusal == RefusedHeld && r.held() == nil, r.refusal == RefusedFailed && r.waited >= r.wait:
		r.refusal = ""
		return []Message{r.position(nil)}
	}
	return nil
}

// current judges whether nothing is new.
func (r *Replica) current(m *Current) Output {
	is := r.is.At
	switch {
	case m.At == (Position{}) || m.At == is || r.next != nil:
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

func findRemoval(list []Removal, name string) (Removal, bool) {
	i := slices.IndexFunc(list, func(x Removal) bool { return x.Name == name })
	if i < 0 {
		return Removal{}, false
	}
	return list[i], true
}

func byRemoval(list []Removal) []Removal {
	slices.SortFunc(list, func(x, y Removal) int { return cmp.Compare(x.Name, y.Name) })
	return list
}
