package agent

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// A load is what was heard and is not acknowledged.
type load struct {
	messages, bytes atomic.Int64
	none            chan struct{} // holds a token when there may be none left; nil: nobody waits for that
}

// What of it may be in memory, bytes: above the first, what comes is stored at
// once; above the second, hearing is paused.
const (
	highBytes = 8 << 20
	fullBytes = 32 << 20
)

func (l *load) add(messages int64, bytes int) {
	l.bytes.Add(int64(bytes))
	if l.messages.Add(messages) > 0 {
		return
	}
	select {
	case l.none <- struct{}{}:
	default:
	}
}

// await waits until all is acknowledged or abandoned, or ctx is done.
func (l *load) await(ctx context.Context) {
	for l.messages.Load() > 0 {
		select {
		case <-l.none:
		case <-ctx.Done():
			return
		}
	}
}

// pressing reports whether so much is unacknowledged that what runs is stored too.
func (l *load) pressing(most int) bool { return l.messages.Load() > int64(most)/2 }

// high reports whether more is unacknowledged than should be.
func (l *load) high(most int) bool {
	return l.messages.Load() > int64(most) || l.bytes.Load() > highBytes
}

// full reports whether far more is unacknowledged than the disk can take in.
func (l *load) full(most int) bool {
	return l.messages.Load() > 8*int64(most) || l.bytes.Load() > fullBytes
}

// low reports whether there is room again.
func (l *load) low(most int) bool {
	return l.messages.Load() <= int64(most)/2 && l.bytes.Load() <= highBytes
}

// A valve lets messages in while there is nothing against it. Closed, it leaves
// them with the broker, which keeps them.
type valve struct {
	bus     Bus
	against atomic.Uint32 // reasons

	mu sync.Mutex // held while against and the bus are brought into line
}

// A reason stands against hearing.
type reason uint32

const (
	crowded reason = 1 << iota // too much is unacknowledged
	failing                    // the disk is full or fails
)

func newValve(bus Bus) *valve { return &valve{bus: bus} }

// set notes that r stands against hearing, or no longer does, and reports
// whether that is new.
func (v *valve) set(r reason, stands bool) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	before := reason(v.against.Load())
	after := before &^ r
	if stands {
		after |= r
	}
	v.against.Store(uint32(after))
	switch {
	case before == 0 && after != 0:
		v.bus.Pause()
	case before != 0 && after == 0:
		v.bus.Resume()
	}
	return before != after
}

func (v *valve) has(r reason) bool { return reason(v.against.Load())&r != 0 }
func (v *valve) shut() bool        { return v.against.Load() != 0 }

// watch keeps the node's own valve shut while the disk is full or fails, for
// nothing can be stored then, and what is not stored must not be acknowledged; and
// opens either valve once what was too much has become little.
func (a *Agent) watch(ctx context.Context) error {
	for {
		err := a.Store.Healthy()
		switch changed := a.own.valve.set(failing, err != nil); {
		case changed && err != nil:
			a.Logger.Error("hearing paused: the disk fails", "err", err)
		case changed:
			a.Logger.Info("the disk works again")
		}
		var again <-chan time.Time
		for _, e := range a.ears() {
			if e.reopen() {
				again = time.After(100 * time.Millisecond)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.Store.Health():
		case <-a.crowd:
		case <-again:
		}
	}
}

// paused reports whether some ear leaves what comes with its broker.
func (a *Agent) paused() bool {
	return slices.ContainsFunc(a.ears(), func(e *ear) bool { return e.valve.shut() })
}

// Checks returns what the node needs to be ready, and whether it has it.
func (a *Agent) Checks() []edge.Check {
	broker := edge.Check{Name: "broker", OK: true}
	if a.Connected != nil {
		broker.OK, broker.Why = a.Connected()
	}
	store := edge.Check{Name: "store", OK: true}
	if err := a.Store.Healthy(); err != nil {
		store.OK, store.Why = false, err.Error()
	} else if r := a.Store.Report(); r != nil {
		store.Why = "was damaged and salvaged: " + r.Reason
	}
	hearing := edge.Check{Name: "hearing", OK: !a.paused()}
	if !hearing.OK {
		hearing.Why = "paused: more waits than can be taken in"
	}
	checks := []edge.Check{broker, store, hearing}
	if a.leads.Load() && a.Cluster.Connected != nil {
		cluster := edge.Check{Name: "cluster"}
		cluster.OK, cluster.Why = a.Cluster.Connected()
		checks = append(checks, cluster)
	}
	return checks
}
