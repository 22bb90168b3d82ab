package agent

import (
	"slices"

	"github.com/sedge-iot/sedge/agent/store"
)

// An owed delivery is done at this function, but its message is not acknowledged,
// mostly since another function has not finished with it: a crash brings it again.
type owed struct {
	identity store.Identity
	receipt  *receipt
}

// debts are the owed deliveries of a function, by lane. Whatever is stored of a lane
// has to say that they are done, and what is not stored of it may be acknowledged only
// after them: otherwise one that comes again would run again after that. The
// function's mu guards them.
type debts struct {
	lanes map[laneID][]owed // with some that were acknowledged since
	count int               // entries of lanes
	most  int               // at which those acknowledged are taken out
}

// add adds one. Its message may have been acknowledged already.
func (ds *debts) add(lane laneID, o owed) {
	if ds.count >= ds.most {
		ds.sweep(func(laneID) bool { return false })
	}
	ds.lanes[lane] = append(ds.lanes[lane], o)
	ds.count++
}

// renew puts r in the place of old: the message was heard again before the end of its
// delivery was stored.
func (ds *debts) renew(lane laneID, old, r *receipt) {
	for i, o := range ds.lanes[lane] {
		if o.receipt == old {
			ds.lanes[lane][i].receipt = r
		}
	}
}

// sweep takes out what was acknowledged, and all of the lanes to forget.
func (ds *debts) sweep(forget func(laneID) bool) {
	left := map[laneID][]owed{}
	ds.count = 0
	for lane, list := range ds.lanes {
		list = slices.DeleteFunc(list, func(o owed) bool { return o.receipt.acknowledged() })
		if len(list) > 0 && !forget(lane) {
			left[lane] = list
			ds.count += len(list)
		}
	}
	ds.lanes, ds.most = left, 2*ds.count+64
}

// before returns the receipt of the last message of the lane that is owed and was
// heard before that of r, or nil. Since a message waits for earlier ones alone, no two
// ever wait for each other, whatever several functions owe of them.
func (ds *debts) before(lane laneID, r *receipt) (last *receipt) {
	if r == nil {
		return nil
	}
	for _, o := range slices.Backward(ds.lanes[lane]) {
		at := o.receipt.order
		if at < r.order && (last == nil || at > last.order) && !o.receipt.acknowledged() {
			last = o.receipt
		}
	}
	return last
}

// doneLocked notes that d is done, before its receipt is settled.
func (f *function) doneLocked(d *delivery) {
	f.seen.done(d)
	if d.message != nil && d.identity != (store.Identity{}) {
		f.owed.add(d.lane.laneID, owed{d.identity, d.message})
	}
}

// owedLocked returns what has to be stored with anything of the lane l.
func (f *function) owedLocked(l *lane) (done []store.Done) {
	if l.shared {
		return nil // on another node nothing could say so
	}
	for _, o := range f.owed.lanes[l.laneID] {
		if !o.receipt.acknowledged() {
			done = append(done, store.Done{Function: f.name, Identity: o.identity})
		}
	}
	return done
}
