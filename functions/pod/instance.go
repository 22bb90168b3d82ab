package pod

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
)

// An instance is a function loaded into the runner of a pod.
type instance struct {
	s      *Sandbox
	f      functions.Function
	r      *record
	name   string // of the pod
	line   *line
	pooled atomic.Bool        // its pod is still labelled as one of the pool
	gone   chan struct{}      // closed when it has ended and every Run is done
	died   *functions.Failure // why; read once gone is closed

	mu  sync.Mutex
	why *functions.Failure // why the agent ended it, or nil; guarded by mu
}

var _ functions.Instance = (*instance)(nil)

// closed is why attempts fail that Close interrupts.
var closed = &functions.Failure{Code: functions.CodeClosed, Message: "its runner was closed"}

// loadTime is how long code may take to load, once its own limits have failed.
const loadTime = 15 * time.Second

// load gives the runner at the other end of l the function f, which src is. Whatever
// comes of it, the record is the instance's to let go of.
func (s *Sandbox) load(ctx context.Context, f functions.Function, src runner.Source, r *record, l *line) (*instance, error) {
	s.mu.Lock()
	i := &instance{s: s, f: f, r: r, name: r.pod.Metadata.Name, line: l, gone: make(chan struct{})}
	i.pooled.Store(r.pod.Metadata.Labels[labelPool] != "")
	s.mu.Unlock()
	if !s.work(i.supervise) {
		l.link.Close()
		return nil, errEnded
	}
	if err := i.give(ctx, src); err != nil {
		i.Close()
		return nil, err
	}
	return i, nil
}

func (i *instance) give(ctx context.Context, src runner.Source) error {
	within, stop := context.WithTimeout(ctx, loadTime)
	defer stop()
	err := i.line.link.Load(within, src)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case within.Err() != nil:
		return fmt.Errorf("%w: code did not load within %v", functions.ErrUnfit, loadTime)
	case errors.Is(err, runner.ErrEnded):
		<-i.gone
		if i.died.Code == functions.CodeLimit {
			return fmt.Errorf("%w: load: %w", functions.ErrUnfit, i.died)
		}
		return fmt.Errorf("load: %w", i.died)
	}
	return err
}

// supervise waits for the end of the line, and tells every attempt what became of it.
func (i *instance) supervise() {
	defer close(i.gone)
	<-i.line.over
	i.died = i.explain(i.line.err)
	if i.died.Code.RunnerEnded() {
		i.s.log.Warn("runner died", "pod", i.name, "reason", i.died.Message)
	}
	i.line.link.End(i.died)
	i.s.release(i.r, i.died == closed && !i.s.leaving.Load() && i.s.life.Err() == nil)
}

// end ends the instance; the first reason counts.
func (i *instance) end(f *functions.Failure) {
	i.mu.Lock()
	if i.why == nil {
		i.why = f
	}
	i.mu.Unlock()
	i.line.link.Close()
}

// statusTime is how long the kubelet may take to tell how a container ended.
const statusTime = 5 * time.Second

// explain says why the line ended; err is the link's.
func (i *instance) explain(err error) *functions.Failure {
	i.mu.Lock()
	why := i.why
	i.mu.Unlock()
	died := func(format string, args ...any) *functions.Failure {
		return &functions.Failure{Code: functions.CodeDied, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case why != nil:
		return why
	case i.s.life.Err() != nil:
		return closed
	case errors.Is(err, runner.ErrOverdue):
		return died("killed: a run beside it did not stop at its timeout")
	case errors.Is(err, runner.ErrProtocol):
		return died("killed: %v", err)
	}
	f := i.ending()
	switch {
	case f == nil && err != nil:
		return died("connection to pod %s broke: %v", i.name, err)
	case f == nil:
		return died("connection to pod %s ended", i.name)
	case f.limit:
		return &functions.Failure{Code: functions.CodeLimit, Message: "killed: memory limit " + i.f.Manifest.Spec.Resources.Memory.String()}
	}
	return died("ended: %s", f.why)
}

// ending waits until it is known how the container ended, and returns nil if it did
// not, as far as is known.
func (i *instance) ending() (f *fault) {
	ctx, stop := context.WithTimeout(i.s.life, statusTime)
	defer stop()
	i.s.await(ctx, func() bool { // that it did not come about leaves f nil
		p := i.r.pod
		if i.r.gone || p.Metadata.Deleted != nil {
			f = &fault{why: "pod " + i.name + " was deleted"}
		} else if c := p.Status.Containers; len(c) > 0 && (c[0].State.Terminated != nil || c[0].RestartCount > i.line.restarts) {
			f = endOf(c[0])
		} else {
			f = faultOf(p)
		}
		return f != nil
	})
	return f
}

// Invoke starts an attempt. The first that succeeds in a pod of the pool makes the
// pod the function's own, in its labels.
func (i *instance) Invoke(inv functions.Invocation, r functions.Run) {
	if i.pooled.Load() {
		r = &firstRun{Run: r, i: i}
	}
	i.line.link.Invoke(inv, r)
}

// A firstRun is an attempt after which a pod of the pool may get its labels.
type firstRun struct {
	functions.Run
	i *instance
}

func (r *firstRun) Done(o functions.Outcome) {
	if o.Err == nil && r.i.pooled.CompareAndSwap(true, false) {
		r.i.s.work(r.i.label)
	}
	r.Run.Done(o)
}

// Ended is closed when the instance has ended.
func (i *instance) Ended() <-chan struct{} { return i.gone }

// Close ends the runner and has its pod deleted. One that has ended by itself leaves
// its pod, whose container starts again, to the next Start.
func (i *instance) Close() error {
	i.end(closed)
	<-i.gone
	return nil
}

// Describe names the pod and its walls.
func (i *instance) Describe() functions.Description {
	return functions.Description{Sandbox: "pod", Name: i.name, Walls: append([]string{"system call filter", "no network", "process limit"}, walls...)}
}

// walls are what every pod has around it.
var walls = []string{"container of its own", "user of its own", "no new privileges", "no capabilities", "read-only root",
	"no service account token", "memory limit"}
