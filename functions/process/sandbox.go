package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
)

// A Config says how runners are started.
type Config struct {
	// Command starts a runner, such as {"/proc/self/exe", "runner"}. It finds the
	// agent's socket at file descriptor 3.
	Command []string

	// Pool is how many runners are kept warm; 0 means 1.
	Pool int

	// Secrets returns the secrets of those names, or says what is wrong with one of
	// them: a *functions.LackError if it may come yet. It is called at each start of
	// a function that asks for secrets. nil: there are none.
	Secrets func(names []string) (map[string]string, error)

	// NoCgroups has memory watched by polling, as where there are no control groups.
	NoCgroups bool

	Logger *slog.Logger
}

// A Sandbox runs functions in child processes. Its Run must run for Start to
// return. It may be used from several goroutines.
type Sandbox struct {
	cfg    Config
	log    *slog.Logger
	groups *groups

	warm   chan *child // ready to load
	failed chan error  // why there is none; taken by who waits
	ended  chan struct{}

	wg sync.WaitGroup // children
}

var _ functions.Sandbox = (*Sandbox)(nil)

// New returns a sandbox.
func New(cfg Config) *Sandbox {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Sandbox{
		cfg:    cfg,
		log:    cfg.Logger,
		warm:   make(chan *child, max(1, cfg.Pool)-1), // one more is in the hands of fill
		failed: make(chan error),
		ended:  make(chan struct{}),
	}
}

// Run keeps the warm pool until ctx is done; then it ends every runner, and
// returns when they are gone.
func (s *Sandbox) Run(ctx context.Context) error {
	defer close(s.ended)
	var why string
	if s.groups, why = openGroups(s.cfg.NoCgroups); s.groups != nil {
		defer s.groups.close()
	}
	var forks sync.WaitGroup
	f := newForker()
	forks.Go(f.run)
	defer forks.Wait()
	defer close(f.jobs) // children whose forker has ended die: it goes last
	defer s.wg.Wait()
	s.fill(ctx, f, why)
	return nil
}

// fill starts runners ahead of need.
func (s *Sandbox) fill(ctx context.Context, f *forker, noGroups string) {
	for n := 1; ctx.Err() == nil; n++ {
		c, err := s.start(ctx, f, n, noGroups)
		if ctx.Err() != nil {
			return // what was started is being ended, and its supervisor is waited for
		}
		if err != nil {
			s.log.Error("cannot start a runner", "err", err)
			s.report(ctx, fmt.Errorf("start runner: %w", err))
			continue
		}
		select {
		case s.warm <- c:
		case <-ctx.Done():
		}
	}
}

// report gives err to those who wait for a runner, for a second.
func (s *Sandbox) report(ctx context.Context, err error) {
	again := time.After(time.Second)
	for {
		select {
		case s.failed <- err:
		case <-again:
			return
		case <-ctx.Done():
			return
		}
	}
}

// start starts a generic runner and waits until it is ready.
func (s *Sandbox) start(ctx context.Context, f *forker, n int, noGroups string) (*child, error) {
	c, err := s.fork(f, n, noGroups)
	if err != nil {
		return nil, err
	}
	s.wg.Go(func() { c.supervise(ctx) })
	ready, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	if err := c.link.Ready(ready); err != nil {
		c.end(&functions.Failure{Code: functions.CodeStart, Message: "runner did not get ready"})
		<-c.gone
		return nil, fmt.Errorf("%w%s", err, c.lastWords())
	}
	return c, nil
}

// Start takes a warm runner and gives it the function.
func (s *Sandbox) Start(ctx context.Context, fn functions.Function) (functions.Instance, error) {
	src, err := runner.NewSource(fn, s.cfg.Secrets)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", fn.Name(), err)
	}
	c, err := s.take(ctx)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", fn.Name(), err)
	}
	memory := fn.Manifest.Spec.Resources.Memory
	if err := c.confine(int64(memory)); err != nil {
		c.Close()
		return nil, fmt.Errorf("start %s: %w: limit memory to %v: %w", fn.Name(), functions.ErrUnfit, memory, err)
	}
	if err := c.load(ctx, src); err != nil {
		return nil, fmt.Errorf("start %s: %w", fn.Name(), err)
	}
	return c, nil
}

// take returns a warm runner that lives.
func (s *Sandbox) take(ctx context.Context) (*child, error) {
	for {
		select {
		case c := <-s.warm:
			select {
			case <-c.gone:
				continue
			default:
				return c, nil
			}
		case err := <-s.failed:
			return nil, err
		case <-s.ended:
			return nil, errors.New("sandbox has ended")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
