package runner

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// maxOps is how many ops one attempt may ask for.
const maxOps = 10_000

// read handles what the runner sends until the link ends.
func (l *Link) read() error {
	in := newFrameReader(l.conn)
	if err := l.readHello(in); err != nil {
		return err
	}
	for {
		f, err := in.next()
		if err != nil {
			return l.readError(err)
		}
		if err := l.receive(f); err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
	}
}

func (l *Link) readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || !errors.Is(err, errTooLong) {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrProtocol, err)
}

func (l *Link) readHello(in *frameReader) error {
	f, err := in.next()
	if err != nil {
		return l.readError(err)
	}
	var h hello
	if f.kind != kindHello || h.decode(body{b: f.body}) != nil {
		return fmt.Errorf("%w: it did not introduce itself", ErrProtocol)
	}
	if h.protocol != Protocol {
		return fmt.Errorf("%w: it speaks version %d, this agent %d", ErrProtocol, h.protocol, Protocol)
	}
	l.runtimes = h.runtimes
	close(l.hello)
	return nil
}

func (l *Link) receive(f frame) error {
	switch f.kind {
	case kindDone:
		return l.receiveDone(f)
	case kindOp:
		return l.receiveOp(f)
	case kindLog:
		return l.receiveLog(f)
	case kindLoaded:
		return l.receiveLoaded(f)
	}
	return fmt.Errorf("unknown frame %d", f.kind)
}

func (l *Link) receiveLoaded(f frame) error {
	c := body{b: f.body}
	failure := cleanFailure(c.failure())
	if err := c.err(); err != nil {
		return fmt.Errorf("loaded: %w", err)
	}
	select {
	case l.loaded <- failure:
	default:
		l.ignored.Add(1)
	}
	return nil
}

func (l *Link) receiveDone(f frame) error {
	o, err := decodeOutcome(body{b: f.body})
	if err != nil {
		return fmt.Errorf("done: %w", err)
	}
	if o.Err == nil && Weigh(&o) > functions.MaxResult {
		o = functions.Outcome{Took: o.Took, Err: tooHeavy()}
	}
	o.Err = cleanFailure(o.Err)
	l.mu.Lock()
	a := l.attempts[f.id]
	if a == nil {
		l.mu.Unlock()
		l.ignored.Add(1)
		return nil
	}
	if a.asking {
		l.mu.Unlock()
		return errors.New("done while an op is under way")
	}
	delete(l.attempts, f.id)
	l.mu.Unlock()
	a.run.Done(o)
	return nil
}

// tooHeavy is the failure of an outcome over [functions.MaxResult].
func tooHeavy() *functions.Failure {
	return &functions.Failure{
		Code:    functions.CodeResult,
		Message: fmt.Sprintf("returned value and effects are over %d bytes", functions.MaxResult),
	}
}

// receiveLog slows down a runner that floods: while this waits, the wire fills up.
func (l *Link) receiveLog(f frame) error {
	dropped, ok := l.logs.allow(time.Now())
	if !ok {
		if dropped%64 == 0 {
			time.Sleep(time.Millisecond)
		}
		return nil
	}
	var m line
	if err := m.decode(body{b: f.body}); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	l.mu.Lock()
	a := l.attempts[f.id]
	l.mu.Unlock()
	if a == nil {
		l.ignored.Add(1)
		return nil
	}
	if dropped > 0 {
		a.run.Log(functions.LevelWarn, fmt.Sprintf("%d lines of log were dropped before this one", dropped))
	}
	a.run.Log(m.level, clean(m.text))
	return nil
}

// receiveOp lets a goroutine of its own carry the op out: it may take its time.
func (l *Link) receiveOp(f frame) error {
	var m op
	if err := m.decode(body{b: f.body}); err != nil {
		return fmt.Errorf("op: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.attempts[f.id]
	if a == nil {
		l.ignored.Add(1)
		return nil
	}
	if a.asking {
		return errors.New("op while another one is under way")
	}
	a.asking = true
	a.ops++
	l.work.Go(func() { l.carryOut(f.id, a, m) })
	return nil
}

func (l *Link) carryOut(id uint32, a *attempt, m op) {
	ans := ask(a, m)
	l.mu.Lock()
	a.asking = false
	finished := a.finished
	l.mu.Unlock()
	if finished != nil {
		a.run.Done(*finished)
		return
	}
	if !l.out.start(true) {
		return // the link has failed: End tells the attempt
	}
	buf, begin := beginFrame(l.out.waiting, kindAnswer, id)
	l.out.waiting = endFrame(ans.append(buf), begin)
	l.out.send()
}

func ask(a *attempt, m op) answer {
	if a.ops > maxOps {
		return answer{failure: &functions.Failure{Code: functions.CodeResult, Message: fmt.Sprintf("more than %d reads and immediate publishes in one run", maxOps)}}
	}
	var ans answer
	var err error
	switch m.kind {
	case opGet:
		ans.value, err = a.run.Get(m.key)
	case opPeek:
		ans.value, err = a.run.Peek(m.key)
	case opPublish:
		err = a.run.Publish(m.publish)
	}
	if err != nil {
		ans.failure = asFailure(err)
	}
	return ans
}

// asFailure returns err as a failure that can be sent.
func asFailure(err error) *functions.Failure {
	f, ok := errors.AsType[*functions.Failure](err)
	if !ok {
		f = &functions.Failure{Code: functions.CodeThrown, Message: err.Error()}
	}
	return trimFailure(f)
}

// trimFailure returns f within the limits of the wire.
func trimFailure(f *functions.Failure) *functions.Failure {
	if len(f.Message) <= MaxMessage && len(f.Stack) <= MaxStack {
		return f
	}
	return &functions.Failure{Code: f.Code, Message: f.Message[:min(len(f.Message), MaxMessage)], Stack: f.Stack[:min(len(f.Stack), MaxStack)]}
}

func cleanFailure(f *functions.Failure) *functions.Failure {
	if f != nil {
		f.Message, f.Stack = clean(f.Message), clean(f.Stack)
	}
	return f
}
