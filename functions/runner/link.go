package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// Grace is how long after its deadline an attempt may still end by itself.
const Grace = time.Second

// ErrOverdue is returned by [Link.Run] when the runner did not end an attempt
// within its timeout and [Grace].
var ErrOverdue = errors.New("handler did not stop at its timeout")

// ErrEnded is returned by [Link.Load] when the runner ended before it answered.
var ErrEnded = errors.New("runner ended")

// ErrProtocol is wrapped by what [Link.Run] returns when the runner broke the
// rules of the wire.
var ErrProtocol = errors.New("runner broke the protocol")

// A Link is the agent's end of the wire to one runner. Its methods may be called
// from several goroutines.
//
// Whoever makes a Link runs it, waits for Run to return, and then calls End: that
// tells the attempts that were under way what became of them.
type Link struct {
	conn net.Conn
	out  *writer

	hello  chan struct{} // closed when the runner has introduced itself
	loaded chan *functions.Failure
	closed chan struct{} // closed when Run ends

	ignored atomic.Int64

	mu       sync.Mutex
	attempts map[uint32]*attempt // under way; guarded by mu
	lastID   uint32              // guarded by mu
	overdue  *time.Timer         // runs while attempts are under way; guarded by mu
	armed    bool                // guarded by mu
	late     bool                // an attempt was overdue; guarded by mu
	ended    *functions.Failure  // why there are no more attempts; guarded by mu
	runtimes []string            // of the runner's hello
	work     sync.WaitGroup      // ops, and outcomes that Invoke itself has to tell
	logs     throttle            // the reader's
}

// An attempt is an invocation under way.
type attempt struct {
	inv      functions.Invocation
	run      functions.Run
	due      time.Time
	ops      int                // so far
	asking   bool               // an op is under way
	finished *functions.Outcome // waits for the op to return
	overdue  bool
}

// NewLink returns the agent's end of conn, which it owns from now on.
func NewLink(conn net.Conn) *Link {
	l := &Link{
		conn:     conn,
		out:      newPromptWriter(conn),
		hello:    make(chan struct{}),
		loaded:   make(chan *functions.Failure, 1),
		closed:   make(chan struct{}),
		attempts: map[uint32]*attempt{},
	}
	l.overdue = time.AfterFunc(time.Hour, l.checkOverdue)
	l.overdue.Stop()
	return l
}

// Run carries frames until the link ends, and says why it did: nil if it was
// closed by either side.
func (l *Link) Run() error {
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() { l.out.flush(done) })
	err := l.read()
	l.conn.Close()
	l.out.fail(net.ErrClosed)
	l.overdue.Stop()
	close(done)
	wg.Wait()
	close(l.closed)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.late {
		return ErrOverdue
	}
	return err
}

// Close ends the link.
func (l *Link) Close() error { return l.conn.Close() }

// Ignored returns how many frames came for attempts that were not, or no
// longer, under way.
func (l *Link) Ignored() int64 { return l.ignored.Load() }

// Ready waits until the runner has introduced itself. It returns [ErrEnded] if
// the runner ended before.
func (l *Link) Ready(ctx context.Context) error {
	select {
	case <-l.hello:
		return nil
	case <-l.closed:
		return ErrEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Load gives the runner its function. It is called once, and before Invoke.
// The error wraps [functions.ErrUnfit] if the code does not load.
func (l *Link) Load(ctx context.Context, s Source) error {
	if err := l.Ready(ctx); err != nil {
		return err
	}
	if !l.out.start(false) {
		return ErrEnded
	}
	buf, begin := beginFrame(l.out.waiting, kindLoad, 0)
	buf = endFrame(s.append(buf), begin)
	if frameTooLong(buf, begin) {
		l.out.mu.Unlock()
		return fmt.Errorf("%w: code, env and secrets are over %d bytes", functions.ErrUnfit, MaxFrame)
	}
	l.out.waiting = buf
	l.out.send()
	select {
	case f := <-l.loaded:
		if f != nil {
			return &unfit{f}
		}
		return nil
	case <-l.closed:
		return ErrEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unfit is a failure to load: errors.AsType finds the failure in it, and
// errors.Is functions.ErrUnfit.
type unfit struct{ *functions.Failure }

func (u *unfit) Unwrap() []error { return []error{functions.ErrUnfit, u.Failure} }

// Invoke starts an attempt, as [functions.Instance] demands.
func (l *Link) Invoke(inv functions.Invocation, r functions.Run) {
	id, f := l.admit(inv, r)
	if f == nil {
		f = l.sendInvoke(id, &inv)
	}
	if f == nil {
		return
	}
	if id != 0 && l.take(id) == nil {
		return // the end of the link has told it already
	}
	l.refuse(r, f)
}

// refuse tells r that its attempt did not begin, on another goroutine: the
// caller may hold what Done needs.
func (l *Link) refuse(r functions.Run, f *functions.Failure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		go r.Done(functions.Outcome{Err: f}) // came after the end: nobody waits
		return
	}
	l.work.Go(func() { r.Done(functions.Outcome{Err: f}) })
}

// admit notes an attempt as under way.
func (l *Link) admit(inv functions.Invocation, r functions.Run) (uint32, *functions.Failure) {
	due := time.Now().Add(inv.Timeout + Grace)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return 0, l.ended
	}
	l.lastID++
	if l.lastID == 0 {
		l.lastID++
	}
	l.attempts[l.lastID] = &attempt{inv: inv, run: r, due: due}
	if !l.armed {
		l.armed = true
		l.overdue.Reset(inv.Timeout + Grace)
	}
	return l.lastID, nil
}

func (l *Link) sendInvoke(id uint32, inv *functions.Invocation) *functions.Failure {
	if !l.out.start(false) {
		return &functions.Failure{Code: functions.CodeStart, Message: "runner does not take events: too much waits for it"}
	}
	buf, begin := beginFrame(l.out.waiting, kindInvoke, id)
	buf = endFrame(appendInvocation(buf, inv), begin)
	if frameTooLong(buf, begin) {
		l.out.mu.Unlock()
		return &functions.Failure{Code: functions.CodePayload, Message: fmt.Sprintf("event is over %d bytes", MaxFrame)}
	}
	l.out.waiting = buf
	l.out.send()
	return nil
}

// checkOverdue ends the link if an attempt is overdue, and else comes back when
// the next one will be.
func (l *Link) checkOverdue() {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = len(l.attempts) > 0
	if !l.armed {
		return
	}
	var next time.Time
	for _, a := range l.attempts {
		if !now.Before(a.due) {
			a.overdue, l.late = true, true
		}
		if next.IsZero() || a.due.Before(next) {
			next = a.due
		}
	}
	if l.late {
		l.conn.Close()
		return
	}
	l.overdue.Reset(next.Sub(now))
}

// take removes an attempt and returns it, or nil.
func (l *Link) take(id uint32) *attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.attempts[id]
	delete(l.attempts, id)
	return a
}

// End fails what is still under way, and all that is invoked from now on, with
// f; attempts that were overdue fail with a timeout. It returns once every Run
// is done. It is called after Run has returned.
func (l *Link) End(f *functions.Failure) {
	l.mu.Lock()
	left := l.attempts
	l.attempts = map[uint32]*attempt{}
	if l.ended == nil {
		l.ended = f
	}
	for id, a := range left {
		o := functions.Outcome{Err: f}
		if a.overdue {
			o.Err = &functions.Failure{Code: functions.CodeTimeout, Message: fmt.Sprintf("%v after %v; its runner was killed", ErrOverdue, a.inv.Timeout)}
		}
		if a.asking {
			a.finished = &o // its op tells it
			delete(left, id)
			continue
		}
		a.finished = &o
	}
	l.mu.Unlock()
	for _, a := range left {
		a.run.Done(*a.finished)
	}
	l.work.Wait()
}

// clean makes foreign text fit for a terminal and a log: valid UTF-8.
func clean(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
