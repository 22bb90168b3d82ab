package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// stale is how old a prepared context may be: code that looks at the clock when
// it is loaded must not see an hour ago.
const stale = time.Second

// loadTime is how long code may take to load.
const loadTime = 10 * time.Second

// Main is the worker program: it serves the agent at the other end of conn until
// that closes it, and then returns nil. Engines are named by their runtime.
func Main(ctx context.Context, conn io.ReadWriteCloser, engines map[string]Engine) error {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	runtime.MemProfileRate = 0 // nobody profiles a runner's memory, and to be ready for it costs 0.3 MB
	w := &worker{
		engines: engines,
		in:      newFrameReader(conn),
		out:     newWriter(conn),
		seat:    make(chan struct{}, 1),
		watch:   newWatch(),
		asking:  map[uint32]chan answer{},
	}
	w.say(kindHello, 0, hello{protocol: Protocol, runtimes: slices.Sorted(maps.Keys(engines))}.append)
	err := w.load(ctx)
	if err == nil {
		err = w.serve()
	}
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return nil
	}
	return err
}

// A worker runs one function. Its seats take turns: the one that holds the
// token reads, and runs what it has read itself. Only when that takes long is
// the token taken from it and given to another.
type worker struct {
	engines map[string]Engine
	out     *writer
	watch   *watch
	program Program
	name    string

	seat    chan struct{} // holds the token when no seat does
	in      *frameReader  // who has the token
	backlog []invocation  // read and not begun; who has the token
	err     error         // why reading ended; who has the token

	mu     sync.Mutex
	asking map[uint32]chan answer // who waits for an answer without the token; nil once reading has ended; guarded by mu
}

// An invocation is a [functions.Invocation] with its number on the wire.
type invocation struct {
	id uint32
	functions.Invocation
}

// load waits for the function and loads it. A function that does not load is no
// error: the agent was told, and closes.
func (w *worker) load(ctx context.Context) error {
	f, err := w.in.next()
	if err != nil {
		return err
	}
	var s Source
	if f.kind != kindLoad {
		return fmt.Errorf("frame %d before load", f.kind)
	}
	if err := s.decode(body{b: f.body}); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	tune(s.Memory)
	var failure *functions.Failure
	w.name = s.Name
	w.program, failure = w.compile(ctx, s)
	w.say(kindLoaded, 0, func(b []byte) []byte { return appendFailure(b, failure) })
	if failure != nil {
		_, err := w.in.next() // until the agent closes
		return err
	}
	w.watch.seats = make([]*seat, max(1, s.Concurrency)+1) // one more, to read while the others run
	for i := range w.watch.seats {
		w.watch.seats[i] = &seat{w: w}
	}
	return nil
}

func (w *worker) compile(ctx context.Context, s Source) (Program, *functions.Failure) {
	engine := w.engines[s.Runtime]
	if engine == nil {
		return nil, &functions.Failure{Code: functions.CodeLoad, Message: fmt.Sprintf("this runner has no runtime %q", s.Runtime)}
	}
	ctx, stop := context.WithTimeout(ctx, loadTime)
	defer stop()
	p, err := engine.Load(ctx, s)
	if err != nil {
		f := *asFailure(err)
		f.Code = functions.CodeLoad
		return nil, &f
	}
	return p, nil
}

// serve runs invocations until the agent closes.
func (w *worker) serve() error {
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() { w.watch.run(stop) })
	w.seat <- struct{}{}
	var seats sync.WaitGroup
	for _, s := range w.watch.seats {
		seats.Go(s.serve)
	}
	seats.Wait()
	close(stop)
	wg.Wait()
	return w.err
}

// next returns what to run next. Who calls it has the token.
func (w *worker) next() (invocation, error) {
	if len(w.backlog) > 0 && w.err == nil {
		inv := w.backlog[0]
		w.backlog = w.backlog[1:]
		return inv, nil
	}
	for w.err == nil {
		f, err := w.in.next()
		switch {
		case err != nil:
			w.end(err)
		case f.kind == kindInvoke:
			inv, err := decodeInvocation(body{b: f.body})
			if err == nil {
				return invocation{f.id, inv}, nil
			}
			w.end(fmt.Errorf("invoke: %w", err))
		case f.kind == kindAnswer:
			w.deliver(f)
		}
	}
	return invocation{}, w.err
}

// end notes why reading ended, and interrupts what runs: nobody waits for it.
func (w *worker) end(err error) {
	w.err = err
	w.watch.interruptAll(gone.failure)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.asking {
		ch <- gone
	}
	w.asking = nil
}

// gone is the answer once the agent is.
var gone = answer{failure: &functions.Failure{Code: functions.CodeClosed, Message: "agent is gone"}}

// expect has the answer to id put into ch.
func (w *worker) expect(id uint32, ch chan answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asking == nil {
		ch <- gone
		return
	}
	w.asking[id] = ch
}

// deliver gives an answer to who waits for it without the token.
func (w *worker) deliver(f frame) {
	var a answer
	if err := a.decode(body{b: f.body}); err != nil {
		a = answer{failure: &functions.Failure{Code: functions.CodeThrown, Message: "answer: " + err.Error()}}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch := w.asking[f.id]; ch != nil {
		ch <- a // cap 1, and one answer each
		delete(w.asking, f.id)
	}
}

// say sends a frame. That the agent is gone is seen by who reads.
func (w *worker) say(k kind, id uint32, appendBody func([]byte) []byte) {
	if !w.out.start(true) {
		return
	}
	buf, begin := beginFrame(w.out.waiting, k, id)
	w.out.waiting = endFrame(appendBody(buf), begin)
	w.out.send()
}
