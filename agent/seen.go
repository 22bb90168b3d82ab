package agent

import (
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/edge"
)

// seen remembers what a function has had already: the packets that are done, in
// case the broker repeats one, and the dedupe keys of a window of time. It is
// bounded; what it has forgotten is run again. The function's mu guards it.
type seen struct {
	packets map[packet]uint64 // digest of topic and payload
	order   []packet          // a ring
	next    int

	keys     map[string]time.Time // until when
	keyOrder []string             // as they came
}

type packet struct {
	session string
	id      uint16
}

const (
	maxSeenPackets = 2048
	maxSeenKeys    = 10_000
)

func (s *seen) init() {
	s.packets = map[packet]uint64{}
	s.keys = map[string]time.Time{}
}

// done remembers that d is.
func (s *seen) done(d *delivery) {
	if d.identity.PacketID == 0 {
		return
	}
	p := packet{d.identity.Session, d.identity.PacketID}
	if _, again := s.packets[p]; !again {
		if len(s.order) < maxSeenPackets {
			s.order = append(s.order, p)
		} else {
			delete(s.packets, s.order[s.next])
			s.order[s.next] = p
			s.next = (s.next + 1) % maxSeenPackets
		}
	}
	s.packets[p] = d.identity.Digest
}

func (s *seen) wasDone(id store.Identity) bool {
	digest, ok := s.packets[packet{id.Session, id.PacketID}]
	return ok && digest == id.Digest
}

// key reports whether a dedupe key was seen within its window, and remembers it
// until then if not.
func (s *seen) key(key string, now, until time.Time) bool {
	if u, ok := s.keys[key]; ok && now.Before(u) {
		return true
	}
	s.addKey(key, until)
	for len(s.keyOrder) > 0 && (len(s.keyOrder) > maxSeenKeys || !now.Before(s.keys[s.keyOrder[0]])) {
		delete(s.keys, s.keyOrder[0])
		s.keyOrder = s.keyOrder[1:]
	}
	return false
}

func (s *seen) addKey(key string, until time.Time) {
	s.keys[key] = until
	s.keyOrder = append(s.keyOrder, key)
}

// repeatedLocked deals with a packet that is marked as sent before, if it was
// in fact heard before. One that is still under way gets the new message's
// receipt, for the earlier connection's acknowledgement will not arrive any more;
// one that is done or stored only needs to be acknowledged again. It returns
// the receipt to settle.
func (f *function) repeatedLocked(h *hearing, r *receipt) (repeated bool, settle *receipt) {
	id := h.identity()
	if id == (store.Identity{}) {
		return false, nil
	}
	d := f.liveLocked(id)
	switch {
	case d != nil && d.receipt != nil:
		settle, d.receipt = d.receipt, r
	case d != nil, f.seen.wasDone(id), f.wasDone(id):
		settle = r
	default:
		return false, nil
	}
	ev := h.event(nil)
	f.countLocked(edge.StepDuplicate)
	f.step(edge.Step{What: edge.StepDuplicate, Why: "the broker sent it again"}, &ev)
	return true, settle
}

// liveLocked returns the unfinished delivery of that identity, or nil.
func (f *function) liveLocked(id store.Identity) *delivery {
	for _, l := range f.lanes {
		for _, d := range l.list {
			if d.identity == id {
				return d
			}
		}
	}
	return nil
}

func (f *function) wasDone(id store.Identity) bool {
	done, err := f.a.Store.WasDone(f.name, id)
	if err != nil {
		f.a.Logger.Warn("could not look up a repeated packet; it runs again", "fn", f.name, "err", err)
	}
	return done
}

// keyUntil returns until when d's dedupe key is remembered.
func (f *function) keyUntil(d *delivery) time.Time {
	if u, ok := f.seen.keys[d.key]; ok && d.key != "" {
		return u
	}
	return time.Time{}
}
