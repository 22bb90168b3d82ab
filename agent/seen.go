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
	packets map[packet]donePacket
	order   []packet // a ring
	next    int

	keys     map[string]seenKey
	keyOrder []string // as they came
}

// A seenKey is a dedupe key that was had.
type seenKey struct {
	until time.Time
	by    *delivery // while that is under way, or nil
}

type packet struct {
	session string
	id      uint16
}

// A donePacket is what was done of a packet.
type donePacket struct {
	digest uint64 // of topic and payload
	lane   laneID // in which it was
}

const (
	maxSeenPackets = 2048
	maxSeenKeys    = 10_000
)

func (s *seen) init() {
	s.forgetPackets()
	s.keys = map[string]seenKey{}
}

// forgetPackets lets no packet count as done.
func (s *seen) forgetPackets() {
	s.packets, s.order, s.next = map[packet]donePacket{}, nil, 0
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
	s.packets[p] = donePacket{d.identity.Digest, d.lane.laneID}
}

// wasDone reports whether a packet is done, and in which lane it was.
func (s *seen) wasDone(id store.Identity) (in laneID, ok bool) {
	p, ok := s.packets[packet{id.Session, id.PacketID}]
	return p.lane, ok && p.digest == id.Digest
}

// key reports whether a dedupe key was had within its window, and by which
// delivery if that is still under way. If it was not, it is from now on, until then.
func (s *seen) key(key string, now, until time.Time) (by *delivery, had bool) {
	if k, ok := s.keys[key]; ok && now.Before(k.until) {
		return k.by, true
	}
	s.addKey(key, until)
	for len(s.keyOrder) > 0 && (len(s.keyOrder) > maxSeenKeys || !now.Before(s.keys[s.keyOrder[0]].until)) {
		delete(s.keys, s.keyOrder[0])
		s.keyOrder = s.keyOrder[1:]
	}
	return nil, false
}

func (s *seen) addKey(key string, until time.Time) {
	s.keys[key] = seenKey{until: until}
	s.keyOrder = append(s.keyOrder, key)
}

// bind notes that d has brought its key.
func (s *seen) bind(d *delivery) {
	if k, ok := s.keys[d.key]; ok && d.key != "" {
		k.by = d
		s.keys[d.key] = k
	}
}

// unbind notes that d is no longer under way.
func (s *seen) unbind(d *delivery) {
	if k, ok := s.keys[d.key]; ok && k.by == d {
		k.by = nil
		s.keys[d.key] = k
	}
}

// forgetKey notes that nothing came of the event that brought the key.
func (s *seen) forgetKey(key string) {
	if key != "" {
		delete(s.keys, key)
	}
}

// rememberKeysLocked stores the dedupe keys, for the next process.
func (f *function) rememberKeysLocked() {
	c := &store.Change{}
	now := time.Now()
	for key, k := range f.seen.keys {
		if now.Before(k.until) {
			c.Done = append(c.Done, store.Done{Function: f.name, Key: key, Until: k.until})
		}
	}
	if len(c.Done) > 0 && !f.removed.Load() {
		f.a.Store.Commit(c, f.complain)
	}
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
	lane, done := f.seen.wasDone(id)
	switch {
	case d != nil:
		f.owed.renew(d.lane.laneID, d.message, r)
		settle, d.message = r, r
		if d.receipt != nil { // it is not stored
			settle, d.receipt = d.receipt, r
		}
	case done:
		settle = f.owed.before(lane, r).holdBack(r)
		f.owed.add(lane, owed{id, r})
	case f.wasDone(id):
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
	return f.seen.keys[d.key].until
}
