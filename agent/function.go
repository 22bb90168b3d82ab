package agent

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A function is one function on this node: its definition, its lanes and its
// runner. It outlives its revisions.
type function struct {
	a       *Agent
	name    string
	removed atomic.Bool // deleted; only publishes of it may be left

	mu       sync.Mutex
	def      store.Function // guarded by mu, as is all below
	plan     *plan          // what the definition compiles to
	trial    trial          // how its revision does
	lanes    map[laneID]*lane
	ready    []*lane // that could run their next delivery now
	running  int     // attempts under way, on any worker
	suspects int     // deliveries that must run alone
	pending  int     // deliveries in lanes
	inbox    inbox   // those of them that have a row
	outbox   tally   // publishes that have, or are getting, a row
	memory   int     // bytes of events that wait in memory without a receipt

	worker   *worker              // takes attempts, or nil
	workers  map[*worker]struct{} // whose runners are not closed
	starting context.CancelFunc   // ends the start that is under way; nil if there is none
	failures int                  // starts that failed and runners that ended, since an attempt succeeded
	startAt  time.Time            // not before
	failing  string               // why it cannot be started, or ""
	lacking  string               // what its owner has yet to give for it to start, or ""
	pausedBy string               // why the node has paused it, or ""
	closing  bool                 // the agent is ending: nothing starts
	closed   bool                 // and nothing is waited for
	awaited  []chan struct{}      // each gets a token when something has moved

	alarm   *time.Timer // calls tick
	alarmAt time.Time   // zero if not set
	lost    bool        // some publish in an outbox waits to be repeated

	rate    *rate.Limiter // of publishes
	seen    seen          // dedupe keys and packets done
	owed    debts
	unsaved bool // what the triggers remember has changed since it was stored
	counts  edge.Counts
	lastRun time.Time
	lastErr *functions.Failure
	latency histogram // from hearing to the end of effects
	runtime histogram // in the runner
	colds   int64
	sheds   map[string]int64 // by reason
	outcome map[string]int64 // invocations by outcome
}

func (a *Agent) newFunction(name string) *function {
	f := &function{
		a: a, name: name, lanes: map[laneID]*lane{}, workers: map[*worker]struct{}{},
		rate: rate.NewLimiter(rate.Inf, 0), sheds: map[string]int64{}, outcome: map[string]int64{},
	}
	f.seen.init()
	f.alarm = time.AfterFunc(time.Hour, f.tick)
	f.alarm.Stop()
	return f
}

// manifest returns the manifest of the current revision. mu must be held.
func (f *function) manifest() *functions.Manifest { return &f.def.Function.Manifest }

// mayRunLocked reports whether deliveries run rather than wait.
func (f *function) mayRunLocked() bool {
	return f.def.Enabled && !f.closing && f.pausedBy == "" && !f.trial.leaving && !f.removed.Load()
}

// set makes d the definition. What waits runs on it.
func (f *function) set(d store.Function, p *plan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := f.def.Function.Revision != d.Function.Revision
	f.def = d
	f.removed.Store(false)
	f.pausedBy = "" // deploying and enabling are how an operator takes a pause back
	if changed || f.plan == nil {
		p.inherit(f.plan, f.a.Logger)
		f.plan = p
		f.trial = trial{since: time.Now()}
		f.failing, f.lacking, f.failures, f.startAt = "", "", 0, time.Time{}
		r := d.Function.Manifest.Spec.Delivery.PublishRate
		f.rate = rate.NewLimiter(rate.Limit(r), 5*r)
	}
}

// take takes the message for the function: it decides what becomes of it and
// lines it up.
func (f *function) take(h *hearing, hits []hit, r *receipt) {
	f.mu.Lock()
	if f.removed.Load() {
		f.mu.Unlock()
		r.settle()
		return
	}
	f.counts.Taken++
	if h.Dup {
		if repeated, settle := f.repeatedLocked(h, r); repeated {
			f.mu.Unlock()
			settle.settle()
			return
		}
	}
	if f.closing || h.ear.deaf() { // left to the next process, or the next node
		f.counts.Taken--
		f.mu.Unlock()
		r.abandon()
		return
	}
	v := f.decideLocked(h, hits)
	r.left.Add(int32(len(v.arms) + len(v.disarms))) // each of them settles it too
	done := f.followLocked(h, &v, r)
	f.mu.Unlock()
	for _, t := range v.arms {
		f.a.timers.arm(t, r.settle)
	}
	for _, key := range v.disarms {
		f.a.timers.disarm(key, r.settle)
	}
	done.settle()
	if v.runs {
		f.pump()
	}
}

// followLocked does what was ruled of a message, except for timers. It returns the
// receipt if that can be settled at once.
func (f *function) followLocked(h *hearing, v *ruling, r *receipt) *receipt {
	full := ""
	if v.event.QoS == 0 && (v.runs || v.failure != nil) {
		full = f.fullLocked(laneID{v.lane, h.ear.shared}, len(h.Topic)+len(h.Payload))
	}
	switch {
	case full != "":
		f.seen.forgetKey(v.key)
		f.shedLocked(&v.event, full)
		return r
	case v.runs:
		var now *receipt
		if v.event.QoS == 0 {
			now, r = r, nil // the trigger asks for no more
		}
		d := f.newDelivery(v.event, h, r)
		d.key = v.key
		f.seen.bind(d)
		f.admitLocked(d, laneID{v.lane, h.ear.shared}, h.now)
		return now
	case v.failure != nil:
		d := f.newDelivery(v.event, h, r)
		f.appendLocked(f.laneLocked(laneID{f.loner(), h.ear.shared}), d)
		f.buryLocked(d, v.failure)
		return nil
	}
	f.countLocked(v.what)
	f.step(edge.Step{What: v.what, Why: v.why}, &v.event)
	if v.same != nil {
		v.same.receipt = join(v.same.receipt, r)
		return nil
	}
	return r
}

// newDelivery returns a delivery of ev, which came with h.
func (f *function) newDelivery(ev devices.Event, h *hearing, r *receipt) *delivery {
	d := &delivery{
		seq: f.a.seq.Add(1), event: ev, size: len(ev.Topic) + len(ev.Payload), heard: h.now, receipt: r, message: r,
	}
	if ev.QoS > 0 {
		d.identity = h.identity()
	}
	return d
}

// admitLocked lines d up in that lane.
func (f *function) admitLocked(d *delivery, id laneID, now time.Time) {
	l := f.laneLocked(id)
	f.appendLocked(l, d)
	if l.rows > 0 || d.receipt != nil && f.a.own.load.high(f.a.Unacked) {
		f.storeLocked(l, d, "behind stored ones of its lane")
	}
	f.readyLocked(l, now)
	if l.shared {
		f.makeRoomLocked()
		return
	}
	f.armLocked(now.Add(f.a.Hold))
}

// maxMemory is how much of a function's events at QoS 0 may wait in memory,
// bytes, maxLane how much of one lane: the device that floods a function is not
// to silence the others. With each event some bytes are counted for its
// bookkeeping.
const (
	maxMemory = 4 << 20
	maxLane   = maxMemory / 2
	perEvent  = 512
)

// fullLocked says why an event of that size has no room in memory, or "".
func (f *function) fullLocked(lane laneID, size int) string {
	switch l := f.lanes[lane]; {
	case f.memory+size+perEvent > maxMemory:
		return "memory full"
	case l != nil && l.memory+size+perEvent > maxLane:
		return "lane full"
	}
	return ""
}

// weighLocked notes that d's event has come into memory, or, with -1, has left.
func (f *function) weighLocked(d *delivery, times int) {
	f.memory += times * (d.size + perEvent)
	d.lane.memory += times * (d.size + perEvent)
}

// laneLocked returns that lane, made if need be.
func (f *function) laneLocked(id laneID) *lane {
	l := f.lanes[id]
	if l == nil {
		l = &lane{laneID: id}
		f.lanes[id] = l
	}
	return l
}

// dropLaneLocked forgets l if nothing is left of it.
func (f *function) dropLaneLocked(l *lane) {
	if l.empty() && !l.queued && f.lanes[l.laneID] == l { // it may have been forgotten before, and another stand there
		delete(f.lanes, l.laneID)
	}
}

func (f *function) appendLocked(l *lane, d *delivery) {
	d.lane = l
	l.list = append(l.list, d)
	f.pending++
	f.weighLocked(d, 1)
}

// finishLocked takes d out of its lane, counted as what, and returns the receipt
// to settle once mu is released.
func (f *function) finishLocked(d *delivery, what edge.StepKind) *receipt {
	l := d.lane
	for i, other := range l.list {
		if other == d {
			l.list = append(l.list[:i], l.list[i+1:]...)
			break
		}
	}
	d.stage = gone
	f.pending--
	f.seen.unbind(d)
	if d.timer != nil {
		f.a.timers.forget(*d.timer)
	}
	if !d.unloaded {
		f.weighLocked(d, -1)
	}
	if d.row {
		l.rows--
		f.inbox.remove(d)
	}
	f.clearLocked(d)
	f.countLocked(what)
	f.dropLaneLocked(l)
	return d.takeReceipt()
}

// countLocked enters the end of a delivery into the books.
func (f *function) countLocked(what edge.StepKind) {
	switch what {
	case edge.StepDone:
		f.counts.Done++
	case edge.StepDead:
		f.counts.Dead++
	case edge.StepExpired:
		f.counts.Expired++
	case edge.StepShed:
		f.counts.Shed++
	case edge.StepDiscarded:
		f.counts.Discarded++
	default:
		f.counts.Filtered++
	}
}

// shedLocked counts an event for which there is no room.
func (f *function) shedLocked(ev *devices.Event, reason string) {
	f.counts.Shed++
	f.sheds[reason]++
	f.step(edge.Step{What: edge.StepShed, Why: reason}, ev)
}

// booksLocked returns the function's counts with what is pending.
func (f *function) booksLocked() edge.Counts {
	c := f.counts
	c.Pending = int64(f.pending)
	return c
}
