package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// A child is a process that the benchmark started and ends.
type child struct {
	cmd  *exec.Cmd
	log  string // file of what it says
	gone chan struct{}
}

// spawn starts a program that says what it says into a file in dir.
func spawn(dir, name string, args ...string) (*child, error) {
	log, err := os.CreateTemp(dir, filepath.Base(name)+"-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for bench, which ends it in good order
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c := &child{cmd: cmd, log: log.Name(), gone: make(chan struct{})}
	go func() { // stop waits for it
		cmd.Wait()
		close(c.gone)
	}()
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stop ends the child, kindly at first, and returns when it is gone.
func (c *child) stop() {
	c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.gone:
	case <-time.After(15 * time.Second):
		c.cmd.Process.Kill()
		<-c.gone
	}
}

// await waits until ready says so, or returns why it never will.
func (c *child) await(ctx context.Context, ready func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("%s is not ready: %w: %s", c.cmd.Path, err, c.said())
		case <-c.gone:
			return fmt.Errorf("%s ended at once: %s", c.cmd.Path, c.said())
		}
	}
}

// said returns the last it said.
func (c *child) said() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// startMosquitto starts a broker on loopback: tuned as an operator would who
// wants speed, or as it comes.
func startMosquitto(ctx context.Context, dir string, tuned bool) (*child, string, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, "", err
	}
	_, port, _ := net.SplitHostPort(addr)
	conf := "listener " + port + " 127.0.0.1\nallow_anonymous true\n"
	if tuned {
		conf += "max_inflight_messages 0\nset_tcp_nodelay true\npersistence false\n"
	}
	name := filepath.Join(dir, "mosquitto-"+port+".conf")
	if err := os.WriteFile(name, []byte(conf), 0o644); err != nil {
		return nil, "", err
	}
	c, err := spawn(dir, mosquitto(), "-c", name)
	if err != nil {
		return nil, "", err
	}
	if err := c.await(ctx, func() error { return listens(addr) }); err != nil {
		c.stop()
		return nil, "", err
	}
	return c, addr, nil
}

// mosquitto returns the program, also where Debian hides it from ordinary users.
func mosquitto() string {
	if path, err := exec.LookPath("mosquitto"); err == nil {
		return path
	}
	return "/usr/sbin/mosquitto"
}

func startEcho(ctx context.Context, dir, broker string) (*child, error) {
	c, err := spawn(dir, self(), "echo", broker)
	if err != nil {
		return nil, err
	}
	err = c.await(ctx, func() error {
		if c.said() != "ready\n" {
			return errors.New("not subscribed yet")
		}
		return nil
	})
	if err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// speak runs a load in a process of its own.
func speak(ctx context.Context, load Load) (Result, error) {
	in, err := json.Marshal(load)
	if err != nil {
		return Result{}, err
	}
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, self(), "load")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, io.Writer(&complaint)
	if err := cmd.Run(); err != nil {
		return Result{}, fmt.Errorf("load on %s: %w: %s", load.In, err, complaint.String())
	}
	var r Result
	return r, json.Unmarshal(out.Bytes(), &r)
}

func self() string {
	if path, err := os.Executable(); err == nil {
		return path
	}
	return os.Args[0]
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func listens(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}
