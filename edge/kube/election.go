package kube

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// An Election sees to it that one of several candidates leads, by a [Lease].
//
// The holder renews the lease every third of its duration. If it has not come
// through for two thirds, it stops leading, a third before anybody may take over:
// candidates count the duration from when they themselves saw the last renewal.
// No clock is compared with another one's. A holder that dies is followed within
// two durations.
//
// The lease also carries what the leaders share: the cluster's session at the MQTT
// broker. The methods may be called from several goroutines.
type Election struct {
	cfg  ElectionConfig
	kick chan struct{} // holds a token when the lease is to be written at once

	mu      sync.Mutex
	lease   *Lease        // as last seen or written, nil: none; guarded by mu, as is all below
	stage   stage         // of this candidate
	draft   draft         // what the next writing is to change about the session
	changed chan struct{} // closed and made anew when stage or draft has changed
}

// An ElectionConfig says who wants to lead what.
type ElectionConfig struct {
	Leases   LeaseKeeper
	Name     string        // of the lease
	Me       string        // this candidate; no two may be called the same
	Duration time.Duration // of the lease; 0 for 9 s
	Logger   *slog.Logger
}

// A LeaseKeeper keeps leases, as Leases.In(client, namespace) does. An Update of
// another version than the present one is an error.
type LeaseKeeper interface {
	Get(ctx context.Context, name string) (*Lease, error)
	Create(ctx context.Context, l *Lease) (*Lease, error)
	Update(ctx context.Context, l *Lease, part string) (*Lease, error)
}

// A stage is how far a candidate has come.
type stage int

const (
	standing stage = iota
	leading
	ending // it leads no more, and has not given the lease up yet
)

// NewElection returns a candidate; Lead lets it stand.
func NewElection(cfg ElectionConfig) *Election {
	if cfg.Duration == 0 {
		cfg.Duration = 9 * time.Second
	}
	return &Election{cfg: cfg, kick: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Lead calls lead whenever this candidate leads, until ctx is done; then it gives
// the lease up and returns nil. The context that lead gets ends when leading does;
// lead must return within a third of the lease's duration from then. If it returns
// by itself, somebody else may lead.
func (e *Election) Lead(ctx context.Context, lead func(ctx context.Context)) error {
	for {
		since, ok := e.acquire(ctx)
		if !ok {
			return nil
		}
		e.cfg.Logger.Info("this node holds the lease", "lease", e.cfg.Name)
		e.hold(ctx, since, lead)
		e.cfg.Logger.Info("this node holds the lease no longer", "lease", e.cfg.Name)
		if !e.pause(ctx, e.renewal()) { // so that another one gets its chance
			return nil
		}
	}
}

// Holder returns who leads, as last seen, or "".
func (e *Election) Holder() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lease == nil {
		return ""
	}
	return e.lease.Spec.Holder
}

func (e *Election) renewal() time.Duration { return e.cfg.Duration / 3 }

// pause returns true after d, false when ctx is done before.
func (e *Election) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// A sighting is when a lease was first seen at a version, by this candidate's clock.
type sighting struct {
	version string
	at      time.Time
}

// acquire returns true once this candidate holds the lease, and since when, or
// false when ctx is done.
func (e *Election) acquire(ctx context.Context) (since time.Time, ok bool) {
	var last sighting
	for told := false; ctx.Err() == nil; {
		since = time.Now()
		wait, err := e.try(ctx, &last)
		switch {
		case err != nil && !IsConflict(err) && !IsExists(err) && !told && ctx.Err() == nil:
			told = true
			e.cfg.Logger.Warn("lease cannot be had", "lease", e.cfg.Name, "err", err)
		case err == nil && wait == 0:
			return since, true
		}
		if !e.pause(ctx, wait) {
			break
		}
	}
	return time.Time{}, false
}

// try takes the lease if it is free, and returns when to try again, or 0 if it took
// it. It takes no longer than a renewal's time, for what was taken long ago is
// about to end.
func (e *Election) try(ctx context.Context, last *sighting) (wait time.Duration, err error) {
	ctx, stop := context.WithTimeout(ctx, e.renewal())
	defer stop()
	l, err := e.cfg.Leases.Get(ctx, e.cfg.Name)
	switch {
	case IsNotFound(err):
		l = &Lease{Metadata: Meta{Name: e.cfg.Name}}
	case err != nil:
		return e.renewal(), err
	}
	now := time.Now()
	if v := l.Metadata.ResourceVersion; v != last.version || last.at.IsZero() {
		*last = sighting{v, now}
	}
	e.note(l)
	left := e.cfg.Duration - now.Sub(last.at)
	if l.Spec.Holder != "" && l.Spec.Holder != e.cfg.Me && left > 0 {
		return min(e.renewal(), left), nil
	}
	if err := e.write(ctx, l, e.cfg.Me); err != nil {
		return e.renewal(), err
	}
	return 0, nil
}

// note remembers a lease as it is.
func (e *Election) note(l *Lease) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lease = l
}

// write makes the lease one of holder's, "" for nobody's, with what is drafted, if
// it is still as given.
func (e *Election) write(ctx context.Context, old *Lease, holder string) error {
	l := *old
	now := &MicroTime{time.Now()}
	if l.Spec.Holder != holder {
		l.Spec.Acquired = now
		l.Spec.Transitions++
	}
	l.Spec.Holder, l.Spec.Renewed = holder, now
	l.Spec.Seconds = int((e.cfg.Duration + time.Second - 1) / time.Second)
	e.mu.Lock()
	d := e.draft
	e.mu.Unlock()
	l.Metadata.Annotations = d.apply(old.Metadata.Annotations)

	put := e.cfg.Leases.Create
	if l.Metadata.ResourceVersion != "" {
		put = func(ctx context.Context, l *Lease) (*Lease, error) { return e.cfg.Leases.Update(ctx, l, "") }
	}
	made, err := put(ctx, &l)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lease = made
	e.draft = e.draft.without(d)
	e.changeLocked()
	return nil
}

// changeLocked wakes those who wait for stage or draft to change.
func (e *Election) changeLocked() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// enter begins a stage. What is drafted and not written when a candidate stands
// again is dropped: then it is for others to say.
func (e *Election) enter(s stage) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stage = s
	if s == standing {
		e.draft = draft{}
	}
	e.changeLocked()
}

// hold leads for as long as the lease can be renewed.
func (e *Election) hold(ctx context.Context, since time.Time, lead func(context.Context)) {
	term, lose := context.WithCancel(ctx)
	e.enter(leading)
	defer e.enter(standing)
	ended := make(chan struct{})
	go func() { // awaited below
		defer close(ended)
		lead(term)
	}()
	leads := true
	for leads {
		select {
		case <-ctx.Done():
			leads = false
		case <-ended:
			leads = false
		case <-e.kick:
			since, leads = e.renew(ctx, since)
		case <-time.After(time.Until(since.Add(e.renewal()))):
			since, leads = e.renew(ctx, since)
		}
	}
	e.enter(ending)
	lose()
	<-ended
	e.release(ctx)
}

// renew writes the lease anew and returns since when it holds then, or false if
// that could not be done in time.
func (e *Election) renew(ctx context.Context, since time.Time) (time.Time, bool) {
	ctx, stop := context.WithDeadline(ctx, since.Add(2*e.renewal()))
	defer stop()
	for {
		e.mu.Lock()
		l := e.lease
		e.mu.Unlock()
		now := time.Now()
		err := e.write(ctx, l, e.cfg.Me)
		if err == nil {
			return now, true
		}
		if ctx.Err() == nil {
			if l, err = e.cfg.Leases.Get(ctx, e.cfg.Name); err == nil { // perhaps our answer was lost
				e.note(l)
			}
		}
		switch {
		case err == nil && l.Spec.Holder != e.cfg.Me, IsNotFound(err):
			return since, false
		case !e.pause(ctx, e.renewal()/8):
			e.cfg.Logger.Warn("lease could not be renewed in time", "lease", e.cfg.Name, "err", err)
			return since, false
		}
	}
}

// release gives the lease up, if it is still ours. That it could not be done costs
// the others only time.
func (e *Election) release(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), e.renewal())
	defer stop()
	e.mu.Lock()
	l := e.lease
	e.mu.Unlock()
	if l.Spec.Holder != e.cfg.Me {
		return
	}
	if err := e.write(ctx, l, ""); err != nil {
		e.cfg.Logger.Info("lease could not be given up; it ends by itself", "lease", e.cfg.Name, "err", err)
	}
}
