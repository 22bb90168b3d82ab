package keeper

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A worker is a runner process.
type worker struct {
	pid    int
	conn   net.Conn           // to its socket
	said   *os.File           // its stderr
	words  head               // the beginning of it
	spoken sync.WaitGroup     // until it is closed
	gone   chan struct{}      // closed when it is reaped
	status syscall.WaitStatus // read once gone is closed
}

// A nursery starts workers and reaps every process that is left to the keeper:
// the workers, and, since it is the first process of its pod, orphans of theirs.
type nursery struct {
	command []string
	stderr  io.Writer
	born    chan struct{} // holds a token when there is a child to wait for

	mu      sync.Mutex
	workers map[int]*worker // by pid, until reaped; guarded by mu
}

func newNursery(command []string, stderr io.Writer) *nursery {
	return &nursery{command: command, stderr: stderr, born: make(chan struct{}, 1), workers: map[int]*worker{}}
}

// start starts a worker. Its thread must live as long as the worker may.
func (n *nursery) start() (*worker, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "keeper") // blocking: the runner's reads are cheapest so
	defer theirs.Close()
	ours := os.NewFile(uintptr(fds[0]), "runner")
	defer ours.Close()
	w := &worker{gone: make(chan struct{})}
	if w.conn, err = net.FileConn(ours); err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	var says *os.File
	if w.said, says, err = os.Pipe(); err != nil {
		w.conn.Close()
		return nil, err
	}
	defer says.Close()
	cmd := exec.Command(n.command[0], n.command[1:]...)
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stderr = says
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	n.mu.Lock() // it must not be reaped before it is known
	defer n.mu.Unlock()
	if err := cmd.Start(); err != nil {
		w.conn.Close()
		w.said.Close()
		return nil, err
	}
	w.pid = cmd.Process.Pid
	cmd.Process.Release() // reaped by us, not by package os
	n.workers[w.pid] = w
	w.spoken.Go(func() {
		defer w.said.Close()
		io.Copy(io.MultiWriter(n.stderr, &w.words), w.said) // until the last who holds it ends
	})
	select {
	case n.born <- struct{}{}:
	default:
	}
	return w, nil
}

// reap waits for children for as long as the process lives.
func (n *nursery) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil: // no child at all
			<-n.born
		default:
			n.buried(pid, status)
		}
	}
}

func (n *nursery) buried(pid int, status syscall.WaitStatus) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w := n.workers[pid]; w != nil {
		delete(n.workers, pid)
		w.status = status
		close(w.gone)
	}
}

// end kills the worker and all that it left, and returns when it is reaped.
func (w *worker) end() {
	w.conn.Close()
	killAll(w.pid)
	<-w.gone
	w.listen()
}

// listen waits until a worker that is gone has been heard to the end: for a moment
// only, should somebody else hold its stderr.
func (w *worker) listen() {
	w.said.SetReadDeadline(time.Now().Add(time.Second)) // fails only if it is closed
	w.spoken.Wait()
}

// killAll kills a worker's group, and in a pod, where the keeper is the first
// process, every other process there is.
func killAll(group int) {
	syscall.Kill(-group, syscall.SIGKILL)
	if os.Getpid() == 1 {
		syscall.Kill(-1, syscall.SIGKILL)
	}
}

// head keeps the beginning of what is written to it: of a Go program that dies, the
// line that says why.
type head struct {
	mu sync.Mutex
	b  []byte // guarded by mu
}

// Write keeps what fits and takes the rest.
func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	const most = 4 << 10
	h.b = append(h.b, p[:min(len(p), most-len(h.b))]...)
	return len(p), nil
}
