package pod

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/pod/keeper"
	"github.com/sedge-iot/sedge/functions/runner"
)

// Start uses a pod of f that is left from before, or takes one of the pool, or makes
// one. A pod that is not ready when ctx ends stays, for the next Start. The error
// wraps [ErrAway] if the API server was needed and cannot be reached.
func (s *Sandbox) Start(ctx context.Context, f functions.Function) (functions.Instance, error) {
	i, err := s.start(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", f.Name(), err)
	}
	return i, nil
}

func (s *Sandbox) start(ctx context.Context, f functions.Function) (functions.Instance, error) {
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	src, err := runner.NewSource(f, s.cfg.Secrets)
	if err != nil {
		return nil, err // before a pod is used up for it
	}
	if r := s.leftover(f); r != nil {
		i, err := s.begin(ctx, f, src, r)
		if err == nil || !spoilt(err) {
			return i, err
		}
		s.log.Info("pod is of no more use", "fn", f.Name(), "why", err)
	}
	if r, l := s.takeWarm(f); r != nil {
		i, err := s.load(ctx, f, src, r, l)
		if err == nil {
			return i, nil
		}
		if ctx.Err() != nil || errors.Is(err, functions.ErrUnfit) {
			return nil, err
		}
		s.log.Warn("pod of the pool is of no use", "fn", f.Name(), "why", err)
	}
	r, err := s.create(ctx, f)
	if err != nil {
		return nil, err
	}
	return s.begin(ctx, f, src, r)
}

// spoilt reports whether the error is that of one pod, and another may do better.
func spoilt(err error) bool {
	f, ok := errors.AsType[*fault](err)
	return ok && !f.keep && !f.unfit || errors.Is(err, keeper.ErrStranger)
}

// begin loads src, which is f, into r's pod once that runs, or lets go of the pod.
func (s *Sandbox) begin(ctx context.Context, f functions.Function, src runner.Source, r *record) (functions.Instance, error) {
	if f.Manifest.Spec.Runtime == functions.RuntimeImage {
		v, err := s.open(ctx, f, r)
		if err != nil {
			s.giveUp(r, err)
			return nil, err
		}
		return v, nil
	}
	l, err := s.connect(ctx, r)
	if err != nil {
		s.giveUp(r, err)
		return nil, err
	}
	i, err := s.load(ctx, f, src, r, l)
	if err != nil {
		return nil, err
	}
	return i, nil
}

// giveUp lets go of a pod that could not be used; one that never will be is deleted.
func (s *Sandbox) giveUp(r *record, err error) {
	f, ok := errors.AsType[*fault](err)
	s.release(r, ok && !f.keep || errors.Is(err, keeper.ErrStranger))
}

// release lets go of a pod, and has it deleted if it is not wanted any more.
func (s *Sandbox) release(r *record, doomed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.used, r.since = false, time.Now()
	r.doomed = r.doomed || doomed
	s.changeLocked()
}

// freeLocked reports whether a pod can be used by who comes.
func (r *record) freeLocked() bool {
	return !r.used && !r.doomed && !r.gone && r.pod.Metadata.Deleted == nil
}

// leftover takes a pod of f's revision that nobody uses, or returns nil.
func (s *Sandbox) leftover(f functions.Function) *record {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		m := r.pod.Metadata
		if !r.freeLocked() || m.Labels[labelFunction] != f.Name() || m.Annotations[annotationRevision] != string(f.Revision) {
			continue
		}
		if r.spoiltLocked() { // the kubelet waits longer with it than a new one takes
			r.doomed = true
			s.changeLocked()
			continue
		}
		r.used = true
		return r
	}
	return nil
}

// create makes a pod for f.
func (s *Sandbox) create(ctx context.Context, f functions.Function) (*record, error) {
	owner, err := s.own(ctx, f)
	if err != nil {
		return nil, away(err)
	}
	return s.make(ctx, s.functionPod(f, owner), true)
}

// make creates p. Its record is there before it is, so that whoever sees it knows
// that it is used.
func (s *Sandbox) make(ctx context.Context, p *kube.Pod, used bool) (*record, error) {
	s.mu.Lock()
	r := s.recordLocked(p)
	r.used, r.since = used, time.Now()
	s.mu.Unlock()
	made, err := s.pods.Create(ctx, p)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		// If it was made all the same, the watch brings it back, as nobody's.
		r.gone = true
		delete(s.records, p.Metadata.Name)
		s.changeLocked()
		if kube.IsInvalid(err) {
			return nil, fmt.Errorf("%w: %w", functions.ErrUnfit, err)
		}
		return nil, away(err)
	case r.pod == p: // the watch was not faster
		r.pod = made
	}
	return r, nil
}
