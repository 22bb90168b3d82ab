package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
)

// A child is a runner process: a warm one, or the instance of a function.
type child struct {
	cmd     *exec.Cmd
	pid     int
	link    *runner.Link
	log     *slog.Logger
	group   *group // or nil
	polled  bool   // memory is watched by polling
	stderr  head
	walls   []string
	missing []string
	gone    chan struct{}      // closed when the process is reaped and every Run is done
	died    *functions.Failure // why it ended; read once gone is closed

	mu     sync.Mutex
	memory int64              // the limit, bytes; 0: none yet; guarded by mu
	why    *functions.Failure // why the agent ended it, or nil; guarded by mu
}

var _ functions.Instance = (*child)(nil)

// supervise waits for the child's end, or brings it about when ctx is done, and
// then tells every attempt what became of it.
func (c *child) supervise(ctx context.Context) {
	defer close(c.gone)
	defer context.AfterFunc(ctx, func() { c.end(closed) })()
	done := make(chan struct{})
	var wg sync.WaitGroup
	if c.polled {
		wg.Go(func() { c.watchMemory(done) })
	}
	err := c.link.Run()
	c.kill()
	c.cmd.Wait() // its state says more than its error
	close(done)
	wg.Wait()
	f := c.explain(err)
	if f.Code == functions.CodeDied {
		c.log.Warn("runner died", "pid", c.pid, "reason", f.Message)
	}
	if c.group != nil {
		c.group.remove()
	}
	c.died = f
	c.link.End(f)
}

// closed is why attempts fail that Close interrupts.
var closed = &functions.Failure{Code: functions.CodeClosed, Message: "its runner was closed"}

// end ends the child; the first reason counts.
func (c *child) end(f *functions.Failure) {
	c.mu.Lock()
	if c.why == nil {
		c.why = f
	}
	c.mu.Unlock()
	c.link.Close()
}

// kill kills the whole process group.
func (c *child) kill() { syscall.Kill(-c.pid, syscall.SIGKILL) }

// explain says why the child ended. It has been reaped; err is the link's.
func (c *child) explain(err error) *functions.Failure {
	c.mu.Lock()
	why, memory := c.why, c.memory
	c.mu.Unlock()
	died := func(format string, args ...any) *functions.Failure {
		return &functions.Failure{Code: functions.CodeDied, Message: fmt.Sprintf(format, args...)}
	}
	status, _ := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case why != nil:
		return why
	case c.group != nil && c.group.oomKills() > 0:
		return died("killed: memory limit %v", functions.Bytes(memory))
	case errors.Is(err, runner.ErrOverdue):
		return died("killed: a run beside it did not stop at its timeout")
	case err != nil:
		return died("killed: %v", err)
	case c.stderr.outOfMemory(), c.polled && c.stderr.crashed():
		return died("killed: memory limit %v", functions.Bytes(memory))
	case status.Signaled() && status.Signal() != syscall.SIGKILL:
		return died("killed by signal: %v%s", status.Signal(), c.lastWords())
	case status.Signaled():
		return died("killed by signal: %v", status.Signal())
	}
	return died("ended: exit status %d%s", status.ExitStatus(), c.lastWords())
}

// lastWords is the first line of what the child wrote to stderr, to be appended
// to a message.
func (c *child) lastWords() string {
	if l := c.stderr.firstLine(); l != "" {
		return ": " + l
	}
	return ""
}

// loadTime is how long code may take to load, once its own limits have failed.
const loadTime = 15 * time.Second

// load gives the child its function. A child that does not load it is ended.
func (c *child) load(ctx context.Context, src runner.Source) error {
	within, stop := context.WithTimeout(ctx, loadTime)
	defer stop()
	err := c.link.Load(within, src)
	if err == nil {
		return nil
	}
	ended := errors.Is(err, runner.ErrEnded)
	if !ended {
		c.end(closed)
	}
	<-c.gone
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case within.Err() != nil:
		return fmt.Errorf("%w: code did not load within %v", functions.ErrUnfit, loadTime)
	case ended && c.died.Code == functions.CodeDied:
		return fmt.Errorf("%w: load: %w", functions.ErrUnfit, c.died)
	}
	return err
}

// Invoke starts an attempt.
func (c *child) Invoke(inv functions.Invocation, r functions.Run) { c.link.Invoke(inv, r) }

// Ended is closed when the process is gone.
func (c *child) Ended() <-chan struct{} { return c.gone }

// Close kills the process and waits until it is gone.
func (c *child) Close() error {
	c.end(closed)
	<-c.gone
	return nil
}

// Describe names the process and its walls.
func (c *child) Describe() functions.Description {
	return functions.Description{Sandbox: "process", Name: strconv.Itoa(c.pid), Walls: c.walls, Missing: c.missing}
}

// limit sets the resource limits that are the same for every runner.
func (c *child) limit() {
	for _, l := range []struct {
		name     string
		resource int
		max      uint64
	}{
		{"open files", unix.RLIMIT_NOFILE, 64},
		{"core dumps", unix.RLIMIT_CORE, 0},
		{"file size", unix.RLIMIT_FSIZE, 0},
	} {
		if err := unix.Prlimit(c.pid, l.resource, &unix.Rlimit{Cur: l.max, Max: l.max}, nil); err != nil {
			c.missing = append(c.missing, "limit of "+l.name+": "+err.Error())
		}
	}
}

// confine sets the memory limit, bytes.
func (c *child) confine(memory int64) error {
	c.mu.Lock()
	c.memory = memory
	c.mu.Unlock()
	if memory == 0 {
		return nil
	}
	if c.group != nil {
		return c.group.limitMemory(memory)
	}
	// Polling can be too late for one huge allocation. What Go maps beyond what
	// it uses fits into the slack.
	const slack = 256 << 20
	most := uint64(memory) + slack
	return unix.Prlimit(c.pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: most, Max: most}, nil)
}
