package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// What can be done to a component.
const (
	Kill  = "kill"  // SIGKILL; returns when it is dead
	Stop  = "stop"  // SIGTERM; the same
	Start = "start" // returns when it is healthy
)

type request struct{ Verb, Component string }

// controlWithin is the longest that one request may take: an API server that is
// told to stop lets long requests end first.
const controlWithin = 90 * time.Second

// Control does something to a component of the node: see Kill, Stop, Start.
func Control(ctx context.Context, name, verb, component string) error {
	n, err := Find(name)
	if err != nil {
		return err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", filepath.Join(dirOf(n.Name), "control"))
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := json.NewEncoder(c).Encode(request{verb, component}); err != nil {
		return err
	}
	var o outcome
	if err := json.NewDecoder(c).Decode(&o); err != nil {
		return fmt.Errorf("%s %s: the node gave no answer: %w", verb, component, errors.Join(ctx.Err(), err))
	}
	if o.Error != "" {
		return errors.New(o.Error)
	}
	return nil
}

// serve answers on the control socket until ctx ends.
func (s *supervisor) serve(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return errors.Join(ctx.Err(), err)
		}
		open.Go(func() { s.answer(ctx, c) })
	}
}

func (s *supervisor) answer(ctx context.Context, c net.Conn) {
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, controlWithin)
	defer cancel()
	if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return // it is gone
	}
	var r request
	if err := json.NewDecoder(c).Decode(&r); err != nil {
		return // it is not one of ours
	}
	var o outcome
	if err := s.do(ctx, r); err != nil {
		o.Error = err.Error()
	}
	json.NewEncoder(c).Encode(o) // where the caller is gone nobody misses it
}

func (s *supervisor) do(ctx context.Context, r request) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Verb {
	case Kill:
		return s.endLocked(ctx, r.Component, syscall.SIGKILL)
	case Stop:
		return s.endLocked(ctx, r.Component, syscall.SIGTERM)
	case Start:
		if err := s.launchLocked(r.Component); err != nil {
			return err
		}
		return s.healthyLocked(ctx, r.Component)
	}
	return fmt.Errorf("no such request %q", r.Verb)
}
