package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// A fleetProcess is a fleet in a process of its own, as bench sees it.
type fleetProcess struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *json.Decoder
}

// startFleet starts the nodes, which begin to join.
func startFleet(h Fleet) (*fleetProcess, error) {
	cmd := exec.Command(self(), "fleet")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // see spawn
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start nodes: %w", err)
	}
	f := &fleetProcess{cmd, in, json.NewDecoder(bufio.NewReader(out))}
	if err := json.NewEncoder(in).Encode(h); err != nil {
		f.stop()
		return nil, fmt.Errorf("start nodes: %w", err)
	}
	return f, nil
}

func (f *fleetProcess) pid() int { return f.cmd.Process.Pid }

// stop has all nodes leave.
func (f *fleetProcess) stop() {
	f.in.Close()
	late := time.AfterFunc(30*time.Second, func() { f.cmd.Process.Kill() })
	defer late.Stop()
	f.cmd.Wait() // how it ends does not matter
}

func (f *fleetProcess) look(q Question) (s Sight, err error) {
	if err := json.NewEncoder(f.in).Encode(q); err != nil {
		return s, fmt.Errorf("ask nodes: %w", err)
	}
	if err := f.answers.Decode(&s); err != nil {
		return s, fmt.Errorf("ask nodes: %w", err)
	}
	return s, nil
}

// until asks until ok says that it is so.
func (f *fleetProcess) until(ctx context.Context, q Question, every, most time.Duration, ok func(Sight) bool) (Sight, error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	late := time.After(most)
	for told := time.Now(); ; {
		s, err := f.look(q)
		if err != nil || ok(s) {
			return s, err
		}
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			say("%v", s)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, ctx.Err()
		case <-late:
			return s, errors.New(s.String())
		}
	}
}

func (s Sight) String() string {
	return fmt.Sprintf("%d nodes are connected, %d where they should be; dials that failed: %v", s.Connected, s.Reached, s.Failed)
}
