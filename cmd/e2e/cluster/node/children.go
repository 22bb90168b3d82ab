package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// children are the processes of the node's first process: those that it
// started, and the orphans that the kernel gives it. It has to bury them all,
// which os/exec does not allow for.
type children struct {
	env []string

	mu    sync.Mutex
	known map[int]*child // guarded by mu, by pid
}

type child struct {
	pid    int
	dead   chan struct{} // closed when it is
	status syscall.WaitStatus
}

// reap buries the dead until ctx ends.
func (c *children) reap(ctx context.Context) {
	died := make(chan os.Signal, 1) // one that waits stands for all that died since
	signal.Notify(died, syscall.SIGCHLD)
	defer signal.Stop(died)
	for {
		c.bury()
		select {
		case <-died:
		case <-ctx.Done():
			return
		}
	}
}

func (c *children) bury() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if pid <= 0 || err != nil {
			return
		}
		if one := c.known[pid]; one != nil {
			delete(c.known, pid)
			one.status = status
			close(one.dead)
		}
	}
}

// start runs a command whose output is appended to the file log.
func (c *children) start(log string, command ...string) (*child, error) {
	program := c.look(command[0])
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	c.mu.Lock() // so that it is known before it can be buried
	defer c.mu.Unlock()
	pid, err := syscall.ForkExec(program, command, &syscall.ProcAttr{
		Env: c.env, Files: []uintptr{null.Fd(), out.Fd(), out.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	one := &child{pid: pid, dead: make(chan struct{})}
	c.known[pid] = one
	return one, nil
}

// look returns the file of a program, which may lie in the PATH of the children.
func (c *children) look(program string) string {
	if filepath.IsAbs(program) {
		return program
	}
	for _, entry := range c.env {
		path, ok := strings.CutPrefix(entry, "PATH=")
		for _, dir := range filepath.SplitList(path) {
			if file := filepath.Join(dir, program); ok && isProgram(file) {
				return file
			}
		}
	}
	return program
}

func isProgram(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// run starts a command and waits until it is done, which has to be well.
func (c *children) run(ctx context.Context, log string, command ...string) error {
	one, err := c.start(log, command...)
	if err != nil {
		return err
	}
	select {
	case <-one.dead:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), one.signal(syscall.SIGKILL))
	}
	if one.status.ExitStatus() != 0 {
		return fmt.Errorf("%s: exit status %d, see %s", strings.Join(command, " "), one.status.ExitStatus(), log)
	}
	return nil
}

func (c *child) isDead() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

// signal sends one to the child. That it is dead already is no error.
func (c *child) signal(s syscall.Signal) error {
	if c.isDead() {
		return nil
	}
	return syscall.Kill(c.pid, s)
}
