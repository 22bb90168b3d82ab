package fleet

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/link"
)

// A Config is what a fleet is made of.
type Config struct {
	Ledger    *ledger.Ledger
	Key       ed25519.PrivateKey // the hub's, which nodes have pinned
	Replica   string             // the URL at which this one of several hubs on one ledger is asked by the others; "" where it is alone
	Peers     *http.Client       // with which it asks the others; nil: it does not
	Logger    *slog.Logger
	Bandwidth int              // bytes a second of functions that nodes fetch, all together; 0 for 32 MiB
	Now       func() time.Time // the time that nodes are told; nil for time.Now. The zero time: the hub does not know
}

const usualBandwidth = 32 << 20

// A Fleet is the nodes of a hub. Its methods may be called from several goroutines,
// Run once.
type Fleet struct {
	Config
	gate     link.Gate
	library  *library
	refusals *tally
	news     chan struct{} // holds a token when the ledger may have changed
	arrivals chan *session
	running  atomic.Bool
	over     chan struct{} // closed when Run takes no more sessions
	counts   counts

	mu       sync.Mutex
	nodes    map[string]*node       // by id; guarded by mu, with what they hold
	plan     *plan                  // guarded by mu; nil until the ledger has been read
	taken    []taken                // lately, and nobody has confirmed it; guarded by mu
	reads    int64                  // of the ledger, begun; guarded by mu
	rollouts map[int64]edge.Rollout // under way, with the counts that the ledger does not keep; guarded by mu
	stir     chan struct{}          // closed and replaced when something changes that somebody waits for; guarded by mu
	waiting  int                    // how many do; guarded by mu
	replicas replicas               // guarded by mu
}

// New returns a fleet. Nodes are admitted while [Fleet.Run] runs.
func New(cfg Config) *Fleet {
	if cfg.Bandwidth <= 0 {
		cfg.Bandwidth = usualBandwidth
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	f := &Fleet{
		Config:   cfg,
		library:  newLibrary(cfg.Ledger, rate.NewLimiter(rate.Limit(cfg.Bandwidth), max(cfg.Bandwidth, edge.ChunkSize))),
		refusals: newTally(),
		news:     make(chan struct{}, 1),
		arrivals: make(chan *session),
		over:     make(chan struct{}),
		nodes:    map[string]*node{},
		rollouts: map[int64]edge.Rollout{},
		stir:     make(chan struct{}),
	}
	if cfg.Replica != "" {
		f.replicas.id = rand.Text()
	}
	f.gate = link.Gate{Key: cfg.Key, Admit: f.admit, Now: cfg.Now}
	return f
}

// Run brings nodes in step with the ledger until ctx is done; then it ends all sessions
// and returns nil. It returns an error only if the ledger cannot be read at the start.
func (f *Fleet) Run(ctx context.Context) error {
	if err := errors.Join(f.refresh(ctx), f.exchange(time.Now())); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	f.ready(true)
	group.Go(func() error { f.Ledger.Watch(ctx, f.Changed); return nil })
	group.Go(func() error { f.follow(ctx); return nil })
	group.Go(func() error { f.serve(ctx); return nil })
	group.Go(func() error { f.beat(ctx); return nil })
	group.Go(func() error { f.steer(ctx); return nil })
	group.Go(func() error { f.upgrade(ctx); return nil })
	group.Go(func() error { f.share(ctx); return nil })
	err := group.Wait()
	f.save(time.Now(), true)
	f.leaveReplicas()
	return err
}

// Changed says that the ledger may have changed. Run finds that out by itself; who
// cannot wait may say so.
func (f *Fleet) Changed() { signal(f.news) }

// signal leaves a token in c unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ServeHTTP makes a session with the node that asks for one, at [link.Path]. It
// returns once the session stands: that goes on in Run.
func (f *Fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !f.running.Load() {
		w.Header().Set("Retry-After", "2")
		http.Error(w, "the hub is not ready", http.StatusServiceUnavailable)
		return
	}
	conn, arrival, err := f.gate.Accept(w, r)
	if err != nil {
		f.counts.refused.Add(1)
		if _, told := errors.AsType[*link.Refused](err); !told { // else the audit has it
			f.Logger.Debug("no session", "address", r.RemoteAddr, "err", err)
		}
		return
	}
	s := newSession(f, conn, arrival, r.RemoteAddr)
	select {
	case f.arrivals <- s:
	case <-f.over:
		conn.Close("the hub ends")
		conn.Serve(context.Background(), func([]byte) error { return nil }) // lasts a second at most
	}
}

// serve runs the sessions, and waits for all of them.
func (f *Fleet) serve(ctx context.Context) {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	defer close(f.over)
	for {
		select {
		case s := <-f.arrivals:
			sessions.Go(func() { s.run(ctx) })
		case <-ctx.Done():
			f.ready(false)
			return
		}
	}
}

// ready says whether nodes are let in.
func (f *Fleet) ready(on bool) {
	f.running.Store(on)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changedLocked()
}

// Ready waits until nodes are let in. The error is that of ctx.
func (f *Fleet) Ready(ctx context.Context) error {
	return f.wait(ctx, func() (bool, error) { return f.running.Load(), nil })
}

// Check says whether nodes are let in, and whether the hub knows less than they do.
func (f *Fleet) Check() edge.Check {
	c := edge.Check{Name: "fleet", OK: f.running.Load()}
	if !c.OK {
		c.Why = "nodes are not let in yet"
	} else if err := f.Behind(); err != nil {
		c.Why = err.Error()
	}
	return c
}

// changedLocked wakes those who wait for something.
func (f *Fleet) changedLocked() {
	if f.waiting > 0 {
		close(f.stir)
		f.stir = make(chan struct{})
	}
}

// hubAtLocked returns the position of the plan.
func (f *Fleet) hubAtLocked() edge.Position {
	if f.plan == nil {
		return edge.Position{}
	}
	return f.plan.at
}
