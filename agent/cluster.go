package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A Cluster is several nodes with one broker. One of them at a time holds the
// cluster's lease, and runs the functions that are to run an event once; the
// others stand by.
type Cluster struct {
	// Bus speaks to the broker as the cluster: with a client id, and so with a
	// session, that is the same on every node. It is run while this node leads, and
	// may be run again when it leads again. The session's name, which its messages
	// bear, is the same on every node too, and no node's own.
	Bus Bus

	// Lead calls lead whenever this node has taken the lease, until ctx is done. It
	// ends lead's context when the lease can no longer be relied on, and when ctx is
	// done; then it waits for lead to return, which takes no longer than
	// [HandOverTime], before it gives the lease back. The lease must not pass to
	// another node within that time of the end of lead's context.
	Lead func(ctx context.Context, lead func(ctx context.Context)) error

	// Holder returns the name of the node that holds the lease, or "" if that is not
	// known. It must not block.
	Holder func() string

	// Connected says whether the bus has its broker; nil: always.
	Connected func() (ok bool, why string)
}

// HandOverTime is the longest that a node works on for the cluster after it was
// told to stop: what runs may finish, and be confirmed.
const HandOverTime = 3 * time.Second

// interruptAfter is when, within it, what still runs is interrupted.
const interruptAfter = 2 * time.Second

// errHandedOver is the answer to those who wait when another node takes over.
var errHandedOver = &functions.Failure{Code: functions.CodeClosed, Message: "another node of the cluster takes over: try again"}

// standBy waits for the lease, and leads the cluster while this node holds it.
func (a *Agent) standBy(ctx context.Context) error {
	if a.cluster == nil {
		<-ctx.Done()
		return nil
	}
	return a.Cluster.Lead(ctx, a.lead)
}

// lead works for the cluster until ctx is done, and leaves what is left then to
// the next node. The bus is closed last, for what ends has to be published and
// acknowledged.
func (a *Agent) lead(ctx context.Context) {
	for _, f := range a.all() {
		f.takeOver()
	}
	a.Logger.Info("this node leads the cluster")
	a.leads.Store(true)
	hearing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	bus := make(chan error, 1)
	go func() { bus <- a.cluster.bus.Run(hearing, a.cluster.hear) }() // awaited below
	select {
	case <-ctx.Done():
	case err := <-bus:
		a.Logger.Error("the cluster's bus ended", "err", err)
		bus <- nil
	}
	a.leads.Store(false)
	a.handOver()
	stop()
	if err := <-bus; err != nil {
		a.Logger.Error("the cluster's bus ended badly", "err", err)
	}
	a.Logger.Info("this node leads the cluster no longer")
}

// takeOver forgets what the function remembers of the time when this node led
// before: triggers begin anew, for others have heard since; and no packet counts
// as done, for its id may have come round.
func (f *function) takeOver() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plan.home != shared {
		return
	}
	f.seen.forgetPackets()
	f.owed.sweep(func(l laneID) bool { return l.shared })
	for i := range f.plan.triggers {
		t := &f.plan.triggers[i]
		if t.spec.MQTT == nil {
			continue
		}
		if gate, err := functions.NewGate(*t.spec.MQTT); err == nil { // it was compiled before
			t.gate, t.memory = gate, nil
		}
	}
}

// handOver brings all that is the cluster's to an end on this node.
func (a *Agent) handOver() {
	patience, stop := context.WithTimeout(context.Background(), interruptAfter)
	defer stop()
	last, stopLast := context.WithTimeout(context.Background(), HandOverTime)
	defer stopLast()
	var wg sync.WaitGroup
	for _, f := range a.all() {
		wg.Go(func() { f.handOver(patience, last) })
	}
	wg.Wait()
	a.cluster.load.await(last) // what has ended is acknowledged a moment later
}

// handOver leaves what waits in shared lanes to the next node, lets what runs
// finish until patience is done, interrupts it then, and leaves to the next node
// what has not ended when last is.
func (f *function) handOver(patience, last context.Context) {
	quiet := func() bool {
		return !f.leaveLocked(func(d *delivery) bool { return d.stage == waiting })
	}
	f.await(patience, quiet)
	f.interrupt()
	f.await(last, quiet)
	f.mu.Lock()
	f.leaveLocked(func(*delivery) bool { return true })
	f.mu.Unlock()
}

// interrupt closes the runners if one of them runs something of a shared lane.
func (f *function) interrupt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.lanes {
		if l.shared && slices.ContainsFunc(l.list, func(d *delivery) bool { return d.stage == running }) {
			f.worker = nil
			for w := range f.workers {
				f.close(w)
			}
			return
		}
	}
}

// leaveLocked leaves to the next node those deliveries of shared lanes that which
// accepts, and reports whether others are left. Their messages are not
// acknowledged; what came without one is lost.
func (f *function) leaveLocked(which func(*delivery) bool) (left bool) {
	for _, l := range f.lanes {
		if !l.shared {
			continue
		}
		for _, d := range slices.Clone(l.list) {
			if which(d) {
				f.leaveOneLocked(d)
			} else {
				left = true
			}
		}
	}
	return left
}

// leaveOneLocked takes d out of its lane as if it had never come: its dedupe key
// was not had.
func (f *function) leaveOneLocked(d *delivery) {
	what, why := edge.StepHanded, "another node of the cluster takes over"
	if d.receipt == nil {
		what = edge.StepDiscarded
	}
	f.step(edge.Step{What: what, Why: why, Attempt: d.attempt}, &d.event)
	f.seen.forgetKey(d.key)
	answered := d.answer
	r := f.finishLocked(d, what)
	d.left = true
	f.a.work.Go(func() { // without the lock
		r.abandon()
		if answered != nil {
			answered(answer{failure: errHandedOver})
		}
	})
}

// moment is how many starts in a row may fail, over some seconds, before a function counts as
// one that cannot run.
const moment = 3

// makeRoomLocked lets a function that cannot run take no more than a quarter of what
// may be unacknowledged, or the cluster's other functions would hear nothing more:
// past it those that have waited longest become dead letters, of each lane one after the other.
func (f *function) makeRoomLocked() {
	fails := f.failing != "" && f.failures > moment
	if f.mayRunLocked() && !fails && f.lacking == "" || f.pending <= f.a.Unacked/4 {
		return
	}
	excess := f.pending - f.a.Unacked/4
	for _, l := range f.lanes {
		if l.committing() {
			excess--
		}
	}
	for ; excess > 0; excess-- {
		var oldest *delivery
		for _, l := range f.lanes {
			if d := l.next(); l.shared && d != nil && (oldest == nil || d.seq < oldest.seq) {
				oldest = d
			}
		}
		if oldest == nil || oldest.answer != nil {
			return
		}
		f.buryLocked(oldest, &functions.Failure{Code: functions.CodeInboxFull, Message: "too much waits for the function, which cannot run"})
	}
}

// standbyLocked says why the function's events do not run on this node now, or "".
func (f *function) standbyLocked() string {
	switch {
	case f.plan.home == elsewhere:
		return "it is pinned to " + f.manifest().Spec.Placement.Host()
	case f.plan.home != shared || f.a.leads.Load():
		return ""
	case f.a.cluster == nil:
		return "this node is in no cluster"
	}
	if holder := f.a.Cluster.Holder(); holder != "" && holder != f.a.Node {
		return holder + " holds the lease"
	}
	return "no node holds the lease"
}

// noCluster refuses a function that this node alone cannot run.
func noCluster(name string) *edge.Error {
	return &edge.Error{
		Code:    edge.Invalid,
		Message: fmt.Sprintf("%s: placement.mode: one needs a cluster whose nodes share a lease, and this node is in none", name),
		Hint:    "write placement.mode: each, or run this node in a k3s cluster",
	}
}
