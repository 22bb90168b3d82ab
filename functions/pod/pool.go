package pod

import (
	"context"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// refillPause is how long after a pod was taken from the pool another is made: the
// first event is to have the machine for itself.
const refillPause = time.Second

// keepPool keeps as many runner pods warm as the sandbox is to have, until ctx is done.
func (s *Sandbox) keepPool(ctx context.Context) error {
	select {
	case <-s.watch.Synced():
	case <-ctx.Done():
		return nil
	}
	told := false
	for ctx.Err() == nil {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		again, err := s.fill(ctx)
		if err != nil && !told && ctx.Err() == nil {
			s.log.Warn("pool cannot be filled", "err", err)
		}
		told = err != nil
		var clock <-chan time.Time
		if again > 0 {
			clock = time.After(again)
		}
		if err != nil {
			changed = nil
		}
		select {
		case <-changed:
		case <-clock:
		case <-ctx.Done():
		}
	}
	return nil
}

// fill connects to pool pods that run and makes one if one is missing. It returns
// when to come back, if not only when something changes; 0: not.
func (s *Sandbox) fill(ctx context.Context) (again time.Duration, err error) {
	s.mu.Lock()
	have := 0
	for _, r := range s.records {
		if !r.freeLocked() || r.pod.Metadata.Labels[labelPool] == "" {
			continue
		}
		have++
		if r.warm == nil && !r.calls && begun(r.pod) && !s.over {
			r.calls = true
			s.wg.Go(func() { s.warmUp(r) })
		}
	}
	wait := time.Until(s.taken.Add(refillPause))
	s.mu.Unlock()
	switch {
	case have >= s.cfg.Pool:
		return 0, nil
	case wait > 0:
		return wait, nil
	}
	owner, err := s.ownPool(ctx)
	if err == nil {
		_, err = s.make(ctx, s.poolPod(owner), false)
	}
	if err != nil {
		return 5 * time.Second, err
	}
	return time.Nanosecond, nil // more may be missing
}

// warmUp connects to a pool pod and keeps the line until it is taken or ends.
func (s *Sandbox) warmUp(r *record) {
	l, err := s.connect(s.life, r)
	s.mu.Lock()
	r.calls = false
	if err != nil { // the sweep sees to the pod
		s.mu.Unlock()
		return
	}
	r.warm = l
	s.changeLocked()
	s.mu.Unlock()
	<-l.over
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.warm == l {
		r.warm = nil
		s.changeLocked()
	}
}

// Warm returns how many pods of the pool are connected and wait for a function.
func (s *Sandbox) Warm() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		if r.warm != nil && r.freeLocked() {
			n++
		}
	}
	return n
}

// takeWarm takes a ready pod of the pool that f fits into, or returns nil.
func (s *Sandbox) takeWarm(f functions.Function) (*record, *line) {
	spec := f.Manifest.Spec
	if spec.Runtime == functions.RuntimeImage || spec.Resources.Memory != poolMemory || spec.Resources.CPU != "" || spec.Placement.Pin == functions.PinCluster {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		if l := r.warm; l != nil && r.freeLocked() {
			r.warm, r.used = nil, true
			s.taken = time.Now()
			s.changeLocked()
			return r, l
		}
	}
	return nil, nil
}
