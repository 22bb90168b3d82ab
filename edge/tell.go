package edge

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/sedge-iot/sedge/functions"
)

// maxDeltas is how many deltas a set keeps: nodes come to it from few positions.
const maxDeltas = 64

// A manner is how a whole is told.
type manner struct {
	lean      bool // names only
	accepts   string
	confirmed bool
}

// whole returns all of the set for a node at from. One that is in an epoch, be it one
// that was given up, has most functions: it gets the names and fetches what it lacks. The
// message belongs to the set.
func (s *Set) whole(from Position) *Whole {
	how := manner{lean: from.Epoch != "", confirmed: s.confirmed(from)}
	if slices.Contains(s.terms.Accepts, from.Epoch) {
		how.accepts = from.Epoch
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.wholes[how]; w != nil {
		return w
	}
	w := &Whole{At: s.at, Functions: Plain(s.refs), Purged: s.told, Accepts: how.accepts, Confirmed: how.confirmed}
	if !how.lean {
		inline(w, w.Functions, s.refs)
	}
	w.text, _ = Encode(w) // the limits of a set see to it that it fits
	s.wholes[how] = w
	return w
}

// delta returns the way to the set from that position, at which a node has the functions of from,
// or nil if there is none that fits into a message. The message belongs to the set.
func (s *Set) delta(at Position, from *Set) *Delta {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.deltas[at]; ok {
		return d
	}
	d := &Delta{From: at, At: s.at, Confirmed: s.confirmed(at)}
	var with []Ref
	for _, r := range s.refs {
		if was, ok := find(from.refs, r.Name); !ok || !same(was, r) {
			with = append(with, r)
		}
	}
	d.Put, d.Remove = Plain(with), s.removals(at, from)
	if inline(d, d.Put, with) {
		d.text, _ = Encode(d)
	} else {
		d = nil
	}
	if len(s.deltas) == maxDeltas {
		clear(s.deltas)
	}
	s.deltas[at] = d
	return d
}

// removals are the functions of from that are no more, and those that were purged since at:
// what was purged before has gone from there, and what came after it stays.
func (s *Set) removals(at Position, from *Set) (gone []Removal) {
	for _, r := range from.refs {
		if _, stays := find(s.refs, r.Name); !stays {
			gone = append(gone, Removal{Name: r.Name, Purge: s.terms.Purged[r.Name] > at.Revision})
		}
	}
	for _, p := range s.told {
		if _, ran := find(from.refs, p.Name); !ran && s.terms.Purged[p.Name] > at.Revision {
			gone = append(gone, p)
		}
	}
	slices.SortFunc(gone, func(x, y Removal) int { return cmp.Compare(x.Name, y.Name) })
	return gone
}

func same(x, y Ref) bool {
	return x.Name == y.Name && x.Revision == y.Revision && x.Enabled == y.Enabled && x.Signature == y.Signature
}

// inline gives the refs of a message their functions, where those are small and as long
// as the message holds them. It reports whether the message may be sent at all.
func inline(m Message, refs, with []Ref) bool {
	plain, err := Encode(m)
	if err != nil || len(plain) > MaxStep {
		return false
	}
	room := MaxStep - len(plain)
	for i, r := range with {
		if r.Function == nil {
			continue
		}
		text, err := json.Marshal(r.Function)
		if cost := len(text) + len(`,"function":`); err == nil && len(text) <= MaxInline && cost <= room {
			refs[i].Function = r.Function
			room -= cost
		}
	}
	return true
}

// A Bundle is a function as it is fetched: as JSON. It is the same whenever it is made.
// The error says that it is larger than MaxBundle, which no node takes: a hub makes the
// bundle before it takes a function in.
func Bundle(f functions.Function) ([]byte, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	if len(text) > MaxBundle {
		return nil, &Error{Code: TooLarge, Message: fmt.Sprintf("%s weighs %d bytes as JSON, nodes take at most %d", f.Name(), len(text), MaxBundle)}
	}
	return text, nil
}

// Cut answers a fetch from the bundle of that revision, which is nil if the hub has no
// such. What lies past its end is answered with no data.
func Cut(bundle []byte, f Fetch) *Chunk {
	c := &Chunk{Revision: f.Revision, Offset: f.Offset, Total: len(bundle)}
	if f.Offset >= 0 && f.Offset < len(bundle) {
		c.Data = bundle[f.Offset:min(f.Offset+ChunkSize, len(bundle))]
	}
	return c
}
