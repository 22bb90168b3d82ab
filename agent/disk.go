package agent

import (
	"context"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// relieve closes the inbound connection when far more messages are
// unacknowledged than the disk can take in: the broker keeps what comes until
// there is room. It is called for each message, and must be quick.
func (a *Agent) relieve() {
	if a.unacked.Load() > 8*int64(a.Unacked) && a.paused.CompareAndSwap(false, true) {
		a.Logger.Warn("hearing paused: the disk does not keep up", "unacked", a.unacked.Load())
		a.Bus.Pause()
		a.work.Go(a.resumeWhenRelieved)
	}
}

// watchDisk pauses hearing while the disk is full or fails, for nothing can be
// stored then, and what is not stored must not be acknowledged.
func (a *Agent) watchDisk(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.Store.Health():
		}
		err := a.Store.Healthy()
		switch {
		case err != nil && a.paused.CompareAndSwap(false, true):
			a.Logger.Error("hearing paused: the disk fails", "err", err)
			a.Bus.Pause()
		case err == nil && a.paused.Load():
			a.resumeWhenRelieved()
		}
	}
}

// resumeWhenRelieved hears again once the disk works and little is
// unacknowledged.
func (a *Agent) resumeWhenRelieved() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for a.Store.Healthy() == nil && a.unacked.Load() > int64(a.Unacked)/2 {
		select {
		case <-a.ctx.Done():
			return
		case <-tick.C:
		}
	}
	if a.Store.Healthy() == nil && a.paused.CompareAndSwap(true, false) {
		a.Logger.Info("hearing resumed")
		a.Bus.Resume()
	}
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
	hearing := edge.Check{Name: "hearing", OK: !a.paused.Load()}
	if !hearing.OK {
		hearing.Why = "paused: more waits than the disk takes in"
	}
	return []edge.Check{broker, store, hearing}
}
