package kube

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
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
// The lease also carries what the leaders share: the client id of the cluster's
// session at the MQTT broker, and the generation of that session.
type Election struct {
	cfg  ElectionConfig
	kick chan struct{} // holds a token when the lease is to be written at once

	mu    sync.Mutex
	lease *Lease // as last seen or written, nil: none; guarded by mu, as is all below
	raise int    // by how much the generation is to rise with the next writing
}

// An ElectionConfig says who wants to lead what.
type ElectionConfig struct {
	Leases   LeaseKeeper
	Name     string        // of the lease
	Me       string        // this candidate; no two may be called the same
	Duration time.Duration // of the lease; 0 for 6 s
	Logger   *slog.Logger
}

// A LeaseKeeper keeps leases, as Leases.In(client, namespace) does. An Update of
// another version than the present one is an error.
type LeaseKeeper interface {
	Get(ctx context.Context, name string) (*Lease, error)
	Create(ctx context.Context, l *Lease) (*Lease, error)
	Update(ctx context.Context, l *Lease, part string) (*Lease, error)
}

// The annotations of an election's lease.
const (
	clientAnnotation     = "sedge.dev/mqtt-client"
	generationAnnotation = "sedge.dev/mqtt-generation"
)

// NewElection returns a candidate; Run lets it stand.
func NewElection(cfg ElectionConfig) *Election {
	if cfg.Duration == 0 {
		cfg.Duration = 6 * time.Second
	}
	return &Election{cfg: cfg, kick: make(chan struct{}, 1)}
}

// Run calls lead whenever this candidate leads, until ctx is done; then it gives
// the lease up and returns nil. The context that lead gets ends when leading does;
// lead must return within a third of the lease's duration from then. If it returns
// by itself, somebody else may lead.
func (e *Election) Run(ctx context.Context, lead func(ctx context.Context)) error {
	for {
		since, ok := e.acquire(ctx)
		if !ok {
			return nil
		}
		e.cfg.Logger.Info("this node leads", "lease", e.cfg.Name)
		e.hold(ctx, since, lead)
		e.cfg.Logger.Info("this node leads no more", "lease", e.cfg.Name)
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

// Client returns the client id of the cluster's session at the broker, for who
// leads.
func (e *Election) Client() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lease == nil {
		return ""
	}
	return e.lease.Metadata.Annotations[clientAnnotation]
}

// Generation returns the name of the broker's session, for who leads: another one
// if the broker has not kept it. That it is another one is written into the lease
// at once, though Generation does not wait for that.
func (e *Election) Generation(kept bool) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lease == nil {
		return ""
	}
	if !kept {
		e.raise++
		select {
		case e.kick <- struct{}{}:
		default:
		}
	}
	uid, _, _ := strings.Cut(e.lease.Metadata.UID, "-")
	return fmt.Sprintf("%s-%d", uid, generation(e.lease)+e.raise)
}

func generation(l *Lease) int {
	n, err := strconv.Atoi(l.Metadata.Annotations[generationAnnotation])
	if err != nil {
		return 0 // nobody has written one
	}
	return n
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

// acquire returns true once this candidate holds the lease, and since when, or
// false when ctx is done.
func (e *Election) acquire(ctx context.Context) (since time.Time, ok bool) {
	var seen string // the version that was seen last
	var at time.Time
	for ctx.Err() == nil {
		wait := e.renewal()
		l, err := e.cfg.Leases.Get(ctx, e.cfg.Name)
		now := time.Now()
		switch {
		case IsNotFound(err):
			l = &Lease{Metadata: Meta{Name: e.cfg.Name}}
			fallthrough
		case err == nil:
			if v := l.Metadata.ResourceVersion; v != seen || at.IsZero() {
				seen, at = v, now
			}
			e.note(l)
			left := e.cfg.Duration - now.Sub(at)
			if l.Spec.Holder != "" && l.Spec.Holder != e.cfg.Me && left > 0 {
				wait = min(wait, left)
				break
			}
			if e.write(ctx, l, e.cfg.Me) == nil {
				return now, true
			}
		}
		if !e.pause(ctx, wait) {
			break
		}
	}
	return time.Time{}, false
}

// note remembers a lease as it is.
func (e *Election) note(l *Lease) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lease = l
}

// write makes the lease one of holder's, "" for nobody's, if it is still as given.
func (e *Election) write(ctx context.Context, old *Lease, holder string) error {
	l := *old
	now := &MicroTime{time.Now()}
	if l.Spec.Holder != holder {
		l.Spec.Acquired = now
		l.Spec.Transitions++
	}
	l.Spec.Holder, l.Spec.Renewed = holder, now
	l.Spec.Seconds = int((e.cfg.Duration + time.Second - 1) / time.Second)
	l.Metadata.Annotations = maps.Clone(l.Metadata.Annotations)
	if l.Metadata.Annotations == nil {
		l.Metadata.Annotations = map[string]string{}
	}
	if l.Metadata.Annotations[clientAnnotation] == "" {
		l.Metadata.Annotations[clientAnnotation] = "sedge-cluster-" + rand.Text()[:8]
	}
	e.mu.Lock()
	raise := e.raise
	e.mu.Unlock()
	l.Metadata.Annotations[generationAnnotation] = strconv.Itoa(generation(old) + raise)

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
	e.raise -= raise
	return nil
}

// hold leads for as long as the lease can be renewed.
func (e *Election) hold(ctx context.Context, since time.Time, lead func(context.Context)) {
	term, lose := context.WithCancel(ctx)
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
