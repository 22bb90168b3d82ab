package agent

import (
	"sync/atomic"
)

// An ear is a bus with what has been heard on it: the functions it hears for and
// what is not acknowledged yet. An agent has one of its own and, on a node of a
// cluster, one more that hears for the cluster while this node leads.
type ear struct {
	a      *Agent
	bus    Bus
	shared bool // the cluster's
	routes atomic.Pointer[routes]
	load   load
	valve  *valve
}

func newEar(a *Agent, bus Bus, shared bool) *ear {
	e := &ear{a: a, bus: bus, shared: shared, valve: newValve(bus)}
	e.load.none = make(chan struct{}, 1)
	e.routes.Store(&routes{})
	return e
}

// deaf reports whether what comes is left with the broker, for the next process
// or the next node.
func (e *ear) deaf() bool {
	if e.shared {
		return !e.a.leads.Load()
	}
	return e.a.ending.Load()
}

// crowded reports whether hearing has to pause. What the node may store can grow
// far over the cap, until the disk does not keep up; what it may not has to stay
// within it.
func (e *ear) crowded() bool {
	if e.shared {
		return e.load.high(e.a.Unacked)
	}
	return e.load.full(e.a.Unacked)
}

// relieve leaves what comes with the broker while too much is unacknowledged. It
// is called for each message, and must be quick.
func (e *ear) relieve() {
	if !e.crowded() || e.valve.has(crowded) || !e.valve.set(crowded, true) {
		return
	}
	e.a.Logger.Warn("hearing paused: too much is unacknowledged",
		"cluster", e.shared, "unacked", e.load.messages.Load(), "bytes", e.load.bytes.Load())
	select {
	case e.a.crowd <- struct{}{}:
	default: // watch has been told already
	}
}

// reopen hears again once what was too much has become little, and reports
// whether that is still to come.
func (e *ear) reopen() (later bool) {
	switch {
	case !e.valve.has(crowded):
		return false
	case !e.load.low(e.a.Unacked):
		return true
	}
	e.valve.set(crowded, false)
	e.a.Logger.Info("hearing resumed: little is unacknowledged", "cluster", e.shared)
	return false
}

// ears returns the ears that the agent has.
func (a *Agent) ears() []*ear {
	if a.cluster == nil {
		return []*ear{a.own}
	}
	return []*ear{a.own, a.cluster}
}

// bus returns the bus that a lane's publishes go out on. Those of a shared lane
// take the cluster's, which a node that leads no longer cannot use.
func (l *lane) bus(a *Agent) Bus {
	if l.shared {
		return a.cluster.bus
	}
	return a.own.bus
}
