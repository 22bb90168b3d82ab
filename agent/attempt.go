package agent

import (
	"sync"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// An attempt is one run of a delivery. Its runner asks it for state and gives
// it the outcome: it is the functions.Run of its invocation.
type attempt struct {
	f  *function
	d  *delivery
	w  *worker
	id string

	took time.Duration // in the runner, once it has ended

	mu      sync.Mutex
	reads   map[string]int64 // versions of the keys it has read; guarded by mu
	refused bool             // it asked for state, and has none; guarded by mu
}

// errKeepsNothing is the end of an attempt that wants something kept on a node.
var errKeepsNothing = &functions.Failure{
	Code: functions.CodeRefused,
	Message: "state and timers are kept on one node, and with placement.mode: one the next event may run on another: " +
		"pin the function to a node (placement.nodes), or let each run it",
}

// keeps reports whether the attempt may have something kept on this node.
func (t *attempt) keeps() bool { return t.w.plan.home != shared && !t.d.lane.shared }

// refusesState reports whether there is no state for the attempt, and remembers that
// it asked.
func (t *attempt) refusesState() bool {
	if t.keeps() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused = true
	return true
}

func (t *attempt) invocation() functions.Invocation {
	return functions.Invocation{
		ID:      t.id,
		Event:   t.d.event,
		Attempt: t.d.attempt + 1,
		Timeout: time.Duration(t.w.function.Manifest.Spec.Resources.Timeout),
	}
}

// Get reads a key and remembers which version of it the attempt has seen.
func (t *attempt) Get(key string) ([]byte, error) {
	if t.refusesState() {
		return nil, errKeepsNothing
	}
	value, version, err := t.f.a.Store.Get(t.f.name, key)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reads == nil {
		t.reads = map[string]int64{}
	}
	if _, again := t.reads[key]; !again {
		t.reads[key] = version
	}
	return value, nil
}

// Peek reads a key whose later change does not matter.
func (t *attempt) Peek(key string) ([]byte, error) {
	if t.refusesState() {
		return nil, errKeepsNothing
	}
	value, _, err := t.f.a.Store.Get(t.f.name, key)
	return value, err
}

// Publish sends p before the outcome is known, and waits until the broker has
// it.
func (t *attempt) Publish(p devices.Publication) error {
	if fail := t.permit([]devices.Publication{p}); fail != nil {
		return fail
	}
	t.f.meter(1)
	t.f.remember(p, t.d.event.Hops+1)
	done := make(chan error, 1)
	bus := t.d.lane.bus(t.f.a)
	bus.PublishOn(bus.Line(), p, func(err error) { done <- err })
	return <-done
}

// Log takes a line of the function's log.
func (t *attempt) Log(level functions.Level, text string) {
	t.f.log(t.id, level, text)
}

// Done takes the outcome and does what follows from it.
func (t *attempt) Done(o functions.Outcome) {
	f := t.f
	t.took = o.Took
	if t.asked() && (o.Err == nil || o.Err.Code == functions.CodeThrown) {
		o.Err = errKeepsNothing
	}
	f.mu.Lock()
	switch {
	case o.Err == nil:
		f.failures = 0
	case o.Err.Code.RunnerEnded():
		if t.w.crowd == 0 {
			t.w.crowd = t.w.running
		}
		f.overLocked(t.w)
	case o.Err.Code == functions.CodeClosed:
		f.overLocked(t.w)
	}
	alone := t.w.crowd == 1
	t.leaveLocked()
	f.lastRun = t.w.last
	f.runtime.add(o.Took)
	f.outcome[outcomeName(o.Err)]++
	left := t.d.stage == gone
	f.mu.Unlock()
	switch {
	case left: // to another node: what it asks for is void
	case o.Err != nil:
		f.failed(t, o.Err, alone)
	default:
		f.succeeded(t, o)
	}
	f.pump()
}

// asked reports whether the attempt asked for state that it has not.
func (t *attempt) asked() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused
}

// leaveLocked notes that the attempt is no longer under way.
func (t *attempt) leaveLocked() {
	f, w := t.f, t.w
	f.running--
	w.running--
	w.last = time.Now()
	switch {
	case w.running > 0:
	case w.retiring:
		f.close(w)
	case f.worker == w:
		f.armLocked(w.last.Add(f.idleTime()))
	}
}

func outcomeName(err *functions.Failure) string {
	if err == nil {
		return "ok"
	}
	return string(err.Code)
}

// fresh reports whether all that the attempt has read is still so.
func (t *attempt) fresh() bool {
	for key, version := range t.reads {
		if now, err := t.f.a.Store.Version(t.f.name, key); err != nil || now != version {
			return false
		}
	}
	return true
}

// stateChange returns what the attempt read and wrote, or nil if it wrote nothing.
func (t *attempt) stateChange(writes []functions.StateWrite) *store.StateChange {
	if len(writes) == 0 {
		return nil
	}
	return &store.StateChange{
		Function: t.f.name,
		Quota:    int64(t.w.function.Manifest.Spec.State.MaxBytes),
		Reads:    t.reads,
		Writes:   writes,
	}
}

// answer tells whoever waits for the delivery how it ended. It must not be
// called with mu held.
func (t *attempt) answer(o functions.Outcome, published []string) {
	if t.d.answer == nil {
		return
	}
	t.d.answer(answer{
		invocation: t.id, returned: o.Returned, published: published, failure: o.Err, took: o.Took,
	})
}

// done returns the step that ends a trail well.
func (t *attempt) done(pubs []devices.Publication, writes []functions.StateWrite) edge.Step {
	s := edge.Step{
		What: edge.StepDone, Attempt: t.d.attempt + 1, Invocation: t.id,
		Took: time.Since(t.d.heard).Seconds(), Published: topics(pubs),
	}
	for _, w := range writes {
		s.StateKeys = append(s.StateKeys, w.Key)
	}
	return s
}

func topics(pubs []devices.Publication) []string {
	if len(pubs) == 0 {
		return nil
	}
	ts := make([]string, len(pubs))
	for i, p := range pubs {
		ts[i] = p.Topic
	}
	return ts
}
