package process

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sedge-iot/sedge/functions/runner"
)

// A forker starts processes from one thread that it keeps: the kernel sends the
// parent-death signal when the thread that forked ends, not the process.
type forker struct {
	jobs chan func()
}

func newForker() *forker { return &forker{jobs: make(chan func())} }

// run forks until jobs is closed.
func (f *forker) run() {
	runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
	// Children inherit it from the thread, and no thread of Go's is made from
	// this one. Where it fails, confine reports the missing wall.
	unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	for job := range f.jobs {
		job()
	}
}

// start starts cmd on the forker's thread.
func (f *forker) start(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	f.jobs <- func() { done <- cmd.Start() }
	return <-done
}

// fork starts a runner.
func (s *Sandbox) fork(f *forker, n int, noGroups string) (*child, error) {
	ours, theirs, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	c := &child{
		link:  runner.NewLink(ours),
		log:   s.log,
		gone:  make(chan struct{}),
		walls: []string{"own process group", "dies with the agent", "no new privileges", "empty environment", "resource limits"},
	}
	c.cmd = exec.Command(s.cfg.Command[0], s.cfg.Command[1:]...)
	c.cmd.Env = []string{}
	c.cmd.Dir = "/"
	c.cmd.ExtraFiles = []*os.File{theirs}
	c.cmd.Stderr = &c.stderr
	c.cmd.WaitDelay = time.Second // for stderr, should anybody else hold it
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := f.start(c.cmd); err != nil {
		ours.Close()
		return nil, err
	}
	c.pid = c.cmd.Process.Pid
	if s.groups == nil {
		c.missing = append(c.missing, "memory and pids control groups: "+noGroups)
		c.polled = true
	} else if c.group, err = s.groups.add(n, c.pid); err != nil {
		s.log.Warn("runner has no control group", "err", err)
		c.missing = append(c.missing, "memory and pids control groups: "+err.Error())
		c.polled = true
	} else {
		c.walls = append(c.walls, "memory control group", "pids control group")
	}
	c.limit()
	return c, nil
}

// socketpair returns a connected pair: our end, and one for a child.
func socketpair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "agent") // blocking: the runner's reads are cheapest so
	file := os.NewFile(uintptr(fds[0]), "runner")
	defer file.Close()
	ours, err := net.FileConn(file)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return ours, theirs, nil
}
