package runner

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// A seat runs one invocation at a time, and is the Host of its handler.
type seat struct {
	w     *worker
	token atomic.Int32 // see the constants below

	mu      sync.Mutex
	running Context   // what to interrupt; guarded by mu
	since   time.Time // when it began; guarded by mu
	due     time.Time // when to interrupt it; guarded by mu

	ready   Context   // prepared for the next invocation, or nil
	readied time.Time // when
	inv     invocation
	lines   throttle
	answers chan answer
}

// Where a seat stands with the token.
const (
	without int32 = iota
	with          // and it may be taken away while a handler runs
	reading       // and it must not be taken away
)

// serve takes its turns until reading ends.
func (s *seat) serve() {
	s.answers = make(chan answer, 1)
	for {
		if s.token.Load() == without {
			<-s.w.seat
			s.token.Store(reading)
		}
		inv, err := s.w.next()
		if err != nil {
			s.pass()
			return
		}
		s.execute(inv)
		s.token.CompareAndSwap(with, reading)
	}
}

// pass gives the token to another seat, if this one has it.
func (s *seat) pass() {
	if s.token.Swap(without) != without {
		s.w.seat <- struct{}{}
	}
}

// relieve takes the token from a seat whose handler takes long.
func (s *seat) relieve() {
	if s.token.CompareAndSwap(with, without) {
		s.w.seat <- struct{}{}
	}
}

// execute runs an invocation, sends its outcome, and prepares for the next.
func (s *seat) execute(inv invocation) {
	s.inv = inv
	c := s.ready
	now := time.Now()
	if c == nil || now.Sub(s.readied) > stale {
		c = s.w.program.New()
	}
	s.ready = nil
	s.begin(c, now, inv.Timeout)
	s.token.CompareAndSwap(reading, with)
	o := s.run(c)
	s.finish()
	if o.Err == nil && Weigh(&o) > functions.MaxResult {
		o = functions.Outcome{Err: tooHeavy()}
	}
	if o.Err != nil {
		o.Err = trimFailure(o.Err)
	}
	o.Took = time.Since(now)
	s.sendOutcome(&o)
	s.prepare(inv.Timeout)
}

// run runs the handler; an engine that panics fails that attempt.
func (s *seat) run(c Context) (o functions.Outcome) {
	defer func() {
		if x := recover(); x != nil {
			o = functions.Outcome{Err: &functions.Failure{Code: functions.CodeThrown, Message: fmt.Sprintf("runtime: %v", x)}}
		}
	}()
	return c.Run(s.inv.Invocation, s)
}

func (s *seat) sendOutcome(o *functions.Outcome) {
	if !s.w.out.start(true) {
		return
	}
	buf, begin := beginFrame(s.w.out.waiting, kindDone, s.inv.id)
	s.w.out.waiting = endFrame(appendOutcome(buf, o), begin)
	s.w.out.send()
}

// prepare readies a context while the agent is busy with the outcome.
func (s *seat) prepare(timeout time.Duration) {
	c, now := s.w.program.New(), time.Now()
	s.begin(c, now, timeout)
	defer func() {
		if recover() != nil {
			s.ready = nil // Run will meet it again, and tell
		}
		s.finish()
	}()
	c.Prepare()
	s.ready, s.readied = c, now
}

// begin has c watched until finish.
func (s *seat) begin(c Context, now time.Time, timeout time.Duration) {
	s.mu.Lock()
	s.running, s.since, s.due = c, now, now.Add(timeout)
	s.mu.Unlock()
	s.w.watch.wake()
}

func (s *seat) finish() {
	s.mu.Lock()
	s.running = nil
	s.mu.Unlock()
}

// check interrupts what is over its time, and relieves the seat of the token if
// its handler has run since the check before.
func (s *seat) check(now, before time.Time) (busy bool) {
	s.mu.Lock()
	c, since, due := s.running, s.since, s.due
	s.mu.Unlock()
	if c == nil {
		return false
	}
	if now.After(due) {
		c.Interrupt(&functions.Failure{
			Code:    functions.CodeTimeout,
			Message: fmt.Sprintf("handler did not end within %v", due.Sub(since)),
		})
	}
	if since.Before(before) {
		s.relieve()
	}
	return true
}

func (s *seat) interrupt(f *functions.Failure) {
	s.mu.Lock()
	c := s.running
	s.mu.Unlock()
	if c != nil {
		c.Interrupt(f)
	}
}

// Get reads a key of the function's state.
func (s *seat) Get(key string) ([]byte, error) { return s.ask(op{kind: opGet, key: key}) }

// Peek reads a key that will only be added to.
func (s *seat) Peek(key string) ([]byte, error) { return s.ask(op{kind: opPeek, key: key}) }

// Publish publishes at once.
func (s *seat) Publish(p devices.Publication) error {
	_, err := s.ask(op{kind: opPublish, publish: p})
	return err
}

// Log sends a line, unless there were too many.
func (s *seat) Log(level functions.Level, text string) {
	dropped, ok := s.lines.allow(time.Now())
	if !ok {
		return
	}
	if dropped > 0 {
		s.w.say(kindLog, s.inv.id, line{level: functions.LevelWarn, text: fmt.Sprintf("%d lines of log were dropped before this one", dropped)}.append)
	}
	s.w.say(kindLog, s.inv.id, line{level: level, text: text[:min(len(text), MaxLine)]}.append)
}

// Idle lets another seat read.
func (s *seat) Idle() { s.pass() }

// ask sends an op and waits for its answer: by reading, if this seat has the
// token, so that no other goroutine needs to wake up.
func (s *seat) ask(m op) ([]byte, error) {
	id := s.inv.id
	if !s.token.CompareAndSwap(with, reading) {
		s.w.expect(id, s.answers)
		s.w.say(kindOp, id, m.append)
		return (<-s.answers).result()
	}
	s.w.say(kindOp, id, m.append)
	a, ok := s.w.read(id)
	if ok {
		s.token.Store(with)
		return a.result()
	}
	s.w.expect(id, s.answers)
	s.pass()
	return (<-s.answers).result()
}

// read waits for the answer to id. It gives up when it has read an event, which
// another seat must begin.
func (w *worker) read(id uint32) (answer, bool) {
	for w.err == nil {
		f, err := w.in.next()
		switch {
		case err != nil:
			w.end(err)
		case f.kind == kindAnswer && f.id == id:
			var a answer
			if err := a.decode(body{b: f.body}); err != nil {
				w.end(fmt.Errorf("answer: %w", err))
				break
			}
			return a, true
		case f.kind == kindAnswer:
			w.deliver(f)
		case f.kind == kindInvoke:
			inv, err := decodeInvocation(body{b: f.body})
			if err != nil {
				w.end(fmt.Errorf("invoke: %w", err))
				break
			}
			w.backlog = append(w.backlog, invocation{f.id, inv})
			return answer{}, false
		}
	}
	return gone, true
}

// result returns the answer as a Host does.
func (a answer) result() ([]byte, error) {
	if a.failure != nil {
		return nil, a.failure
	}
	return a.value, nil
}
