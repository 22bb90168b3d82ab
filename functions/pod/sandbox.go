package pod

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions"
)

// A Config says where pods run and what is in them.
type Config struct {
	Client *kube.Client

	// Node is the name that this machine has in Kubernetes. Two agents with the same
	// one would take each other's pods for their own.
	Node string

	Namespace string // "" for sedge
	Image     string // of the agent, which is also the keeper and the runner
	Pool      int    // how many runner pods are kept warm
	Secret    []byte // SecretSize bytes, the same after every restart

	// Secrets returns the values of secrets; nil: there are none.
	Secrets func(names []string) (map[string]string, error)

	// Current returns the revision of a function that is in force on this node;
	// nil: not known, and nothing is swept for it.
	Current func(name string) (functions.Revision, bool)

	Logger *slog.Logger
}

// ErrAway is wrapped by what [Sandbox.Start] returns when a pod could not be had
// because the API server cannot be reached.
var ErrAway = errors.New("the Kubernetes API server cannot be reached")

var errEnded = errors.New("sandbox has ended")

// A Sandbox runs functions in pods. Its Run must run for Start to return. It may be
// used from several goroutines.
type Sandbox struct {
	cfg   Config
	log   *slog.Logger
	pods  *kube.Objects[kube.Pod]
	maps  *kube.Objects[kube.ConfigMap]
	watch *kube.Watch[kube.Pod]
	keys  keys
	wg    sync.WaitGroup // instances, and what works for them

	// life ends when Run begins to end. Instances hang on it, which outlive the
	// context of their Start.
	life context.Context
	end  context.CancelFunc

	leaving atomic.Bool // instances that are closed leave their pods

	mu      sync.Mutex
	over    bool               // no more work begins; guarded by mu
	records map[string]*record // the pods of this node, by name; guarded by mu
	taken   time.Time          // when a pod was taken from the pool last; guarded by mu
	changed chan struct{}      // closed and made anew whenever a record changes; guarded by mu
}

// A record is what is known of a pod. Its fields are guarded by the sandbox's mu.
type record struct {
	pod    *kube.Pod // as last seen; never changed, only replaced
	used   bool      // by an instance, or by a Start that is under way
	since  time.Time // when it was last used; zero: not by this process
	warm   *line     // to a pool pod's runner that is ready, or nil
	calls  bool      // a pool pod is being connected to
	doomed bool      // is to be deleted
	gone   bool      // has been, or was never made
}

var _ functions.Sandbox = (*Sandbox)(nil)

// New returns a sandbox.
func New(cfg Config) (*Sandbox, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Namespace == "" {
		cfg.Namespace = "sedge"
	}
	k, err := newKeys(cfg.Secret)
	if err != nil {
		return nil, err
	}
	s := &Sandbox{
		cfg:     cfg,
		log:     cfg.Logger,
		pods:    kube.Pods.In(cfg.Client, cfg.Namespace),
		maps:    kube.ConfigMaps.In(cfg.Client, cfg.Namespace),
		keys:    k,
		records: map[string]*record{},
		changed: make(chan struct{}),
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.watch = s.pods.Watch(kube.Selector{Labels: labelManaged + "=" + managed + "," + labelNode + "=" + labelValue(cfg.Node)}, s.see)
	return s, nil
}

// Run follows the node's pods, keeps the pool and sweeps, until ctx is done; then it
// lets go of every pod, and leaves them as they are for the next Run.
func (s *Sandbox) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return s.watch.Run(ctx) })
	g.Go(func() error { return s.keepPool(ctx) })
	g.Go(func() error { return s.sweep(ctx) })
	<-ctx.Done()
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.end()
	s.wg.Wait()
	return g.Wait()
}

// Leave says that the agent is about to end: from now on Close lets go of a pod and
// leaves it for the next agent.
func (s *Sandbox) Leave() { s.leaving.Store(true) }

// work runs f on a goroutine that Run waits for. It returns false if the sandbox has
// ended.
func (s *Sandbox) work(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false
	}
	s.wg.Go(f)
	return true
}

// see takes what the watch saw.
func (s *Sandbox) see(c kube.Change[kube.Pod]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Now != nil {
		s.recordLocked(c.Now)
	} else if r := s.records[c.Old.Metadata.Name]; r != nil && r.pod.Metadata.UID == c.Old.Metadata.UID {
		r.gone = true
		delete(s.records, c.Old.Metadata.Name)
	}
	s.changeLocked()
}

// recordLocked notes how a pod is and returns its record.
func (s *Sandbox) recordLocked(p *kube.Pod) *record {
	r := s.records[p.Metadata.Name]
	if r == nil {
		r = &record{}
		s.records[p.Metadata.Name] = r
	}
	r.pod = p
	return r
}

// changeLocked wakes all who wait for a record to change.
func (s *Sandbox) changeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// await waits until ok says so of a record, which it calls with mu held, or until
// ctx or the sandbox ends.
func (s *Sandbox) await(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		done, changed := ok(), s.changed
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.life.Done():
			return errEnded
		}
	}
}

// ready waits until the node's pods are known.
func (s *Sandbox) ready(ctx context.Context) error {
	clock := time.NewTicker(50 * time.Millisecond)
	defer clock.Stop()
	for {
		select {
		case <-s.watch.Synced():
			return nil
		case <-clock.C:
			if err := s.watch.Err(); err != nil {
				return away(err)
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-s.life.Done():
			return errEnded
		}
	}
}

// away marks an error of the server's being away as such.
func away(err error) error {
	if kube.Away(err) {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return err
}
