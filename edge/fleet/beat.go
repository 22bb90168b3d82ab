package fleet

import (
	"context"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
)

const (
	beatSlots = int(edge.BeatTime / time.Second) // one is the turn of each second
	saveTime  = time.Minute                      // between writes of where nodes are
	seenTime  = 10 * time.Minute                 // between writes of a node that is connected and does not move
)

// beat says something to every node once in a BeatTime, some of them each second, and
// has the ledger keep where nodes are.
func (f *Fleet) beat(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	next := time.Now().Add(saveTime)
	for turn := 0; ; turn = (turn + 1) % beatSlots {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, s := range f.turn(turn) {
			s.beat()
		}
		if now := time.Now(); !now.Before(next) {
			f.save(now, false)
			next = now.Add(saveTime)
		}
	}
}

// turn returns the sessions whose turn it is.
func (f *Fleet) turn(turn int) (sessions []*session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		if n.session != nil && n.session.slot == turn {
			sessions = append(sessions, n.session)
		}
	}
	return sessions
}

// save has the ledger keep when nodes were seen and where they are: those that have
// moved, come or gone, and now and then, or at the end, all that are connected.
func (f *Fleet) save(now time.Time, end bool) {
	var list []ledger.Seen
	f.mu.Lock()
	for _, n := range f.nodes {
		if n.online() {
			n.is.Seen = now
		}
		if n.elsewhere != "" {
			n.dirty = false // its replica tells the ledger
			continue
		}
		if n.is.Standing == "" || !n.dirty && (n.session == nil || !end && now.Sub(n.saved) < seenTime) {
			continue
		}
		n.dirty, n.saved = false, now
		list = append(list, ledger.Seen{ID: n.is.ID, Time: n.is.Seen.Truncate(time.Minute), At: n.is.At})
	}
	f.mu.Unlock()
	if err := f.Ledger.SaveSeen(list); err != nil {
		f.Logger.Error("where nodes are is not kept", "err", err)
	}
}
