package pod

import (
	"context"
	"time"

	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions"
)

const (
	// sweepTime is how often the sandbox looks for pods that nobody wants.
	sweepTime = 5 * time.Second
	// settleTime is how long a pod that was used is kept though its revision is not
	// in force: it may be just about to be.
	settleTime = 15 * time.Second
	// mapsTime is how often the ConfigMaps of functions that are no more are looked for.
	mapsTime = 10 * time.Minute
)

// sweep deletes pods that nobody wants, until ctx is done.
func (s *Sandbox) sweep(ctx context.Context) error {
	select {
	case <-s.watch.Synced():
	case <-ctx.Done():
		return nil
	}
	clock := time.NewTicker(sweepTime)
	defer clock.Stop()
	var maps time.Time
	for ctx.Err() == nil {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		s.judge(time.Now())
		if err := s.deleteDoomed(ctx); err != nil {
			s.log.Debug("pods could not be deleted yet", "err", err)
			changed = nil // the server is asked again at the next tick
		}
		if now := time.Now(); now.Sub(maps) > mapsTime {
			maps = now
			if err := s.sweepMaps(ctx); err != nil {
				s.log.Debug("config maps could not be swept", "err", err)
			}
		}
		select {
		case <-changed:
		case <-clock.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// judge dooms the pods that nobody wants.
func (s *Sandbox) judge(now time.Time) {
	stale := s.stale()
	s.mu.Lock()
	defer s.mu.Unlock()
	pool := 0
	for _, r := range s.records {
		if !r.freeLocked() {
			continue
		}
		if r.pod.Metadata.Labels[labelPool] != "" {
			pool++
			r.doomed = pool > s.cfg.Pool || r.spoiltLocked()
			continue
		}
		if r.since.IsZero() { // left by an agent before this one
			if r.doomed = stale[r]; r.doomed {
				continue
			}
			r.since = now
		}
		idle := now.Sub(r.since)
		r.doomed = r.spoiltLocked() || idle > idleTime(r.pod) || stale[r] && idle > settleTime
	}
}

// spoiltLocked reports whether a pod will never be of use.
func (r *record) spoiltLocked() bool {
	err := r.faultLocked()
	f, ok := err.(*fault)
	return ok && !f.keep
}

// stale returns the pods whose function or revision is not in force. What is in force
// is asked without the lock.
func (s *Sandbox) stale() map[*record]bool {
	found := map[*record]bool{}
	if s.cfg.Current == nil {
		return found
	}
	named := map[*record]kube.Meta{}
	s.mu.Lock()
	for _, r := range s.records {
		if m := r.pod.Metadata; r.freeLocked() && m.Labels[labelFunction] != "" {
			named[r] = m
		}
	}
	s.mu.Unlock()
	for r, m := range named {
		revision, ok := s.cfg.Current(m.Labels[labelFunction])
		found[r] = !ok || revision != functions.Revision(m.Annotations[annotationRevision])
	}
	return found
}

// idleTime returns after how long a pod goes that nobody uses.
func idleTime(p *kube.Pod) time.Duration {
	idle, err := time.ParseDuration(p.Metadata.Annotations[annotationIdle])
	if err != nil {
		return 5 * time.Minute
	}
	return idle
}

// deleteDoomed deletes the pods that are doomed.
func (s *Sandbox) deleteDoomed(ctx context.Context) error {
	s.mu.Lock()
	var doomed []*record
	for _, r := range s.records {
		if r.doomed && !r.gone && !r.used {
			doomed = append(doomed, r)
		}
	}
	s.mu.Unlock()
	for _, r := range doomed {
		s.mu.Lock()
		m := r.pod.Metadata
		s.mu.Unlock()
		if m.Deleted == nil {
			if err := s.pods.Delete(ctx, m.Name, m.UID); err != nil && !kube.IsConflict(err) {
				return err
			}
		}
		s.mu.Lock()
		r.gone = true
		s.changeLocked()
		s.mu.Unlock()
	}
	return nil
}

// sweepMaps deletes the ConfigMaps of functions that this node does not have and of
// which no node has a pod. A node that has the function makes it anew.
func (s *Sandbox) sweepMaps(ctx context.Context) error {
	if s.cfg.Current == nil {
		return nil
	}
	all, err := s.maps.List(ctx, kube.Selector{Labels: labelManaged + "=" + managed + "," + labelFunction})
	if err != nil {
		return err
	}
	for _, m := range all {
		name := m.Metadata.Labels[labelFunction]
		if _, ok := s.cfg.Current(name); ok {
			continue
		}
		pods, err := s.pods.List(ctx, kube.Selector{Labels: labelFunction + "=" + name})
		if err != nil {
			return err
		}
		if len(pods) > 0 {
			continue
		}
		if err := s.maps.Delete(ctx, m.Metadata.Name, m.Metadata.UID); err != nil {
			return err
		}
	}
	return nil
}
