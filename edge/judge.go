package edge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sedge-iot/sedge/functions"
)

// The guard against a hub that takes away by mistake what a node runs: so many functions, and
// more than such a share of them, go at once only if an operator has confirmed it.
const (
	guardCount = 3
	guardShare = 0.3
)

// How long a step that was refused waits to be tried again, ticks.
const (
	maxWait       = 1024 // 8.5 hours
	maxWaitFailed = 32   // 16 minutes, if the node failed to store it
)

// maxWhy is how much a refusal says, bytes.
const maxWhy = 512

// A plan is a step that the replica has judged to be right.
type plan struct {
	of     Kind
	to     Synced
	put    []Ref // plain, by name: what is not applied yet
	remove []Removal
	inline map[functions.Revision]*functions.Function // that came with it
}

// whole judges a whole.
func (r *Replica) whole(m *Whole) Output {
	if again, out := r.again(m.At); again {
		return out
	}
	p := &plan{of: KindWhole, to: Synced{At: m.At, Functions: Plain(m.Functions)}}
	no := wellFormed(m.At, m.Functions, m.Purged)
	if no == nil {
		no = follows(m.At, r.is.At, m.Accepts)
	}
	if no != nil {
		return r.say(KindWhole, m.At, no)
	}
	for _, ref := range p.to.Functions {
		was, ok := find(r.is.Functions, ref.Name)
		anew := r.is.At.Digest == "" && !r.has(ref)
		if !ok || !same(was, ref) || anew {
			p.put = append(p.put, ref)
		}
	}
	p.remove = r.leftOut(p.to.Functions, r.purged(m))
	return r.begin(p, m.Functions, m.Confirmed)
}

// purged returns what was purged since the node was where it is. What was purged before has gone
// from here: a function that came after it under the same name keeps its state.
func (r *Replica) purged(m *Whole) []Removal {
	return slices.DeleteFunc(slices.Clone(m.Purged), func(p Removal) bool {
		return p.Revision > 0 && m.At.Epoch == r.is.At.Epoch && p.Revision <= r.is.At.Revision
	})
}

// leftOut are the functions that are not among refs, and what is purged.
func (r *Replica) leftOut(refs []Ref, purged []Removal) (gone []Removal) {
	for _, was := range r.is.Functions {
		if _, stays := find(refs, was.Name); !stays && !removes(purged, was.Name) {
			gone = append(gone, Removal{Name: was.Name})
		}
	}
	return byRemoval(append(gone, purged...))
}

// delta judges a delta.
func (r *Replica) delta(m *Delta) Output {
	if again, out := r.again(m.At); again {
		return out
	}
	no := wellFormed(m.At, m.Put, m.Remove)
	if no == nil {
		no = m.joins()
	}
	if no != nil {
		return r.say(KindDelta, m.At, no)
	}
	if m.From != r.is.At {
		return Output{Send: []Message{r.position(nil)}}
	}
	if no := follows(m.At, r.is.At, ""); no != nil {
		return r.say(KindDelta, m.At, no)
	}
	p := &plan{of: KindDelta, to: Synced{At: m.At}, put: Plain(m.Put)}
	for _, was := range r.is.Functions {
		if _, put := find(m.Put, was.Name); !put && !removes(m.Remove, was.Name) {
			p.to.Functions = append(p.to.Functions, was)
		}
	}
	p.to.Functions = byName(append(p.to.Functions, p.put...))
	for _, gone := range m.Remove {
		if _, ran := find(r.is.Functions, gone.Name); ran || gone.Purge {
			p.remove = append(p.remove, gone)
		}
	}
	return r.begin(p, m.Put, m.Confirmed)
}

// joins says what is wrong with a delta in itself.
func (m *Delta) joins() *Refusal {
	if err := checkPosition(m.From); err != nil {
		return refuse(RefusedMalformed, "from: %v", err)
	}
	if m.From.Epoch != m.At.Epoch {
		return refuse(RefusedMalformed, "it leads from epoch %s to epoch %s", m.From.Epoch, m.At.Epoch)
	}
	for _, gone := range m.Remove {
		if _, put := find(m.Put, gone.Name); put {
			return refuse(RefusedMalformed, "%s is both put and removed", gone.Name)
		}
	}
	return nil
}

// again answers a step that leads where the node is, or is being led already.
func (r *Replica) again(to Position) (again bool, out Output) {
	switch {
	case to == r.is.At:
		return true, Output{Send: []Message{r.position(nil)}}
	case r.next != nil && r.next.to.At == to:
		return true, Output{Send: r.fetch()}
	}
	return false, Output{}
}

// begin makes p what the replica is about, if nothing speaks against it. The refs of
// the message have their functions with them, or not.
func (r *Replica) begin(p *plan, refs []Ref, confirmed bool) Output {
	no := r.weigh(p, confirmed)
	if no == nil {
		p.inline = map[functions.Revision]*functions.Function{}
		for _, ref := range refs {
			if ref.Function == nil || r.has(ref) {
				continue
			}
			if err := right(*ref.Function, ref); err != nil {
				no = refuse(RefusedContent, "%v", err)
				break
			}
			p.inline[ref.Revision] = ref.Function
		}
	}
	if no != nil {
		return r.say(p.of, p.to.At, no)
	}
	r.next, r.refusal, r.waited = p, "", 0
	r.larder.keep(p.put)
	return r.advance()
}

// weigh judges what a well-formed step leads to.
func (r *Replica) weigh(p *plan, confirmed bool) *Refusal {
	if len(p.to.Functions) > MaxFunctions {
		return refuse(RefusedMalformed, "it leads to %d functions, a node runs at most %d", len(p.to.Functions), MaxFunctions)
	}
	if Digest(p.to.Functions) != p.to.At.Digest {
		return mixed(p.to.At)
	}
	gone := 0
	for _, was := range r.is.Functions {
		if _, stays := find(p.to.Functions, was.Name); !stays {
			gone++
		}
	}
	if n := len(r.is.Functions); !confirmed && TooMuch(gone, n) {
		return refuse(RefusedEmptying, "it takes away %d of %d functions, and no operator has confirmed that", gone, n)
	}
	for _, ref := range p.put {
		if r.policy.Trust == nil {
			break
		}
		if err := r.policy.Trust(ref); err != nil {
			return refuse(RefusedUnsigned, "%s, revision %s: %v", ref.Name, ref.Revision.Short(), err)
		}
	}
	return r.held()
}

// held refuses everything while the owner wants nothing in.
func (r *Replica) held() *Refusal {
	if r.policy.Held == nil {
		return nil
	}
	if why := r.policy.Held(); why != "" {
		return refuse(RefusedHeld, "%s", why)
	}
	return nil
}

// wellFormed says what no hub says.
func wellFormed(to Position, refs []Ref, removals []Removal) *Refusal {
	err := checkPosition(to)
	if err == nil {
		err = checkRefs(refs)
	}
	if err == nil && len(removals) > MaxFunctions+MaxPurged {
		err = fmt.Errorf("%d removals, a node is told of at most %d", len(removals), MaxFunctions+MaxPurged)
	}
	before := ""
	for _, gone := range removals {
		if err == nil {
			err = checkName(gone.Name)
		}
		if err == nil && gone.Name <= before {
			err = fmt.Errorf("the removal of %s is there twice, or out of order", gone.Name)
		}
		if err == nil && (gone.Revision < 0 || gone.Revision > to.Revision) {
			err = fmt.Errorf("%s was purged at %d, which is not before %d", gone.Name, gone.Revision, to.Revision)
		}
		before = gone.Name
	}
	if err != nil {
		return refuse(RefusedMalformed, "%v", err)
	}
	return nil
}

// follows judges whether a node at is may go to another position.
func follows(to, is Position, accepts string) *Refusal {
	switch {
	case to.Revision > MaxRevision:
		return refuse(RefusedForward, "revision %d is past %d, nothing could follow on it", to.Revision, int64(MaxRevision))
	case is.Epoch == "":
		return nil
	case to.Epoch != is.Epoch && accepts != is.Epoch:
		return refuse(RefusedEpoch, "it is of epoch %s, for which nobody has given up %s", to.Epoch, is.Epoch)
	case to.Epoch != is.Epoch:
		return nil
	case to.Revision < is.Revision:
		return backward(to, is)
	case to.Revision == is.Revision && is.Digest != "":
		return mixed(to)
	}
	return nil
}

func backward(to, is Position) *Refusal {
	return refuse(RefusedBackward, "it is of revision %d, the node has followed to %d", to.Revision, is.Revision)
}

func mixed(to Position) *Refusal {
	return refuse(RefusedMixed, "the functions of revision %d are not those that its digest names", to.Revision)
}

func refuse(reason RefusalReason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Why: cut(fmt.Sprintf(format, args...), maxWhy)}
}

// say refuses what a message says. What the replica is about goes on.
func (r *Replica) say(of Kind, to Position, no *Refusal) Output {
	no.Of, no.To, no.At = of, clip(to), r.is.At
	if r.next == nil {
		r.refusal, r.waited = no.Reason, 0
		r.wait = min(max(2*r.wait, 1), maxWait)
		if no.Reason == RefusedFailed {
			r.wait = min(r.wait, maxWaitFailed)
		}
	}
	return Output{Send: []Message{no}}
}

// abandon gives up what the replica is about, for what a message brought.
func (r *Replica) abandon(of Kind, no *Refusal) Output {
	to := r.next.to.At
	r.next = nil
	return r.say(of, to, no)
}

// cut shortens s to n bytes of valid UTF-8.
func cut(s string, n int) string {
	return strings.ToValidUTF8(s[:min(n, len(s))], "")
}
