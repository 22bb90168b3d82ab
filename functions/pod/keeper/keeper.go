package keeper

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ended is the error of [Main] when the runner ended by itself.
type Ended struct {
	Status int // as a shell gives it: 128 and the signal's number for one that was killed
	Why    string
}

func (e *Ended) Error() string { return "runner ended: " + e.Why }

// Main is the program of a runner pod. It listens at a TCP address and starts runners
// by command, which find it at file descriptor 3. It returns an *[Ended] when one
// ended by itself, or nil when ctx is done.
func Main(ctx context.Context, address string, command []string) error {
	id, err := identify()
	if err != nil {
		return err
	}
	settings, err := Server(id.seed, id.agent)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // where it is not the first process: in tests
	k := &keeper{nursery: newNursery(command, os.Stderr), agents: make(chan net.Conn)}
	go k.nursery.reap() // ends with the process
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { k.accept(ctx, ln, settings) })
	return k.keep(ctx)
}

// A keeper has one worker, and at most one agent.
type keeper struct {
	nursery *nursery
	agents  chan net.Conn // that have proved who they are
}

const (
	handshakes    = 8               // at a time
	handshakeTime = 5 * time.Second // for each
)

// accept hands on the connections of the agent until ctx is done.
func (k *keeper) accept(ctx context.Context, ln net.Listener, settings *tls.Config) {
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	room := make(chan struct{}, handshakes)
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no file descriptor is free; some will be
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case room <- struct{}{}:
		default:
			c.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-room }()
			k.admit(ctx, tls.Server(c, settings))
		})
	}
}

// admit lets an agent prove who it is, and hands its connection on. Strangers are
// turned away without a word.
func (k *keeper) admit(ctx context.Context, c *tls.Conn) {
	within, stop := context.WithTimeout(ctx, handshakeTime)
	defer stop()
	if err := c.HandshakeContext(within); err != nil {
		c.Close()
		return
	}
	select {
	case k.agents <- c:
	case <-ctx.Done():
		c.Close()
	}
}

// keep serves one agent after another, each with a worker of its own.
func (k *keeper) keep(ctx context.Context) error {
	runtime.LockOSThread() // workers die with the thread that started them
	defer runtime.UnlockOSThread()
	var agent net.Conn // that came while another was served
	for {
		w, err := k.nursery.start()
		if err != nil {
			return fmt.Errorf("start runner: %w", err)
		}
		if agent == nil {
			select {
			case agent = <-k.agents:
			case <-w.gone:
			case <-ctx.Done():
				w.end()
				return nil
			}
		}
		var ended bool
		agent, ended = k.serve(ctx, agent, w)
		if ended {
			return w.explain()
		}
		w.end()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// serve carries bytes between agent, which may be nil, and w, until one of them
// ends or another agent comes. It returns that other agent, or whether it was w that
// ended.
func (k *keeper) serve(ctx context.Context, agent net.Conn, w *worker) (next net.Conn, ended bool) {
	if agent == nil {
		return nil, true
	}
	var wg sync.WaitGroup
	over := make(chan bool, 2) // whether it was the worker's side
	wg.Go(func() { over <- carry(w.conn, agent) })
	wg.Go(func() { over <- !carry(agent, w.conn) })
	select {
	case ended = <-over:
	case <-w.gone: // its socket may be held by what it started
		ended = true
	case next = <-k.agents:
	case <-ctx.Done():
	}
	if ended {
		ended = w.wait()
	}
	agent.Close()
	w.conn.Close()
	wg.Wait()
	return next, ended
}

// carry copies from one end to the other until one fails, and reports whether it
// was the one that is written to.
func carry(to io.Writer, from io.Reader) (writing bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return true
			}
		}
		if err != nil {
			return false
		}
	}
}

// wait gives a worker that has closed its socket a moment to end by itself, and
// reports whether it did.
func (w *worker) wait() bool {
	select {
	case <-w.gone:
		return true
	case <-time.After(2 * time.Second):
		return false
	}
}

// explain says why a worker ended that was not told to, after its last words.
func (w *worker) explain() error {
	<-w.gone
	w.conn.Close()
	killAll(w.pid) // what it started and left
	w.listen()
	e := &Ended{Status: w.status.ExitStatus(), Why: fmt.Sprintf("exit status %d", w.status.ExitStatus())}
	if w.status.Signaled() {
		e.Status, e.Why = 128+int(w.status.Signal()), fmt.Sprintf("signal: %v", w.status.Signal())
	}
	w.words.mu.Lock()
	defer w.words.mu.Unlock()
	if line, _, _ := bytes.Cut(bytes.TrimSpace(w.words.b), []byte("\n")); len(line) > 0 && w.status != syscall.WaitStatus(syscall.SIGKILL) {
		e.Why += fmt.Sprintf(": %s", bytes.ToValidUTF8(line, []byte("\uFFFD")))
	}
	return e
}
