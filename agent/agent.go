package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A Bus carries messages between the node and its devices. Its methods may be
// called from several goroutines; none but Run blocks.
type Bus interface {
	// Run connects, and hands every message to hear, in order, until ctx is
	// done. A lost broker is no error.
	Run(ctx context.Context, hear func(devices.Message)) error
	// Subscribe sets the filters to hear, in MQTT's form.
	Subscribe(filters []string)
	// Line names the connection that publishes go out on now, by any value that is
	// equal to itself alone; nil: there is none, or it cannot break. A connection is
	// named only once all that was given to those before it has its outcome.
	Line() any
	// PublishOn sends p over that line and calls done once: with nil when the broker
	// has it, [devices.ErrLost] if the connection ended on it, or another error if it
	// was not sent at all, such as because that line is no more.
	PublishOn(line any, p devices.Publication, done func(error))
	// Pause stops hearing without losing anything: the broker keeps what
	// comes until Resume.
	Pause()
	Resume()
}

// A Config is what an agent is made of.
type Config struct {
	Node      string // the node's name
	Bus       Bus
	Store     *store.Store                 // the agent runs it
	Sandboxes map[string]functions.Sandbox // by the name that a manifest's placement.sandbox gives
	Logger    *slog.Logger
	Unacked   int           // how many messages may be unacknowledged before the rest is stored at once; 0 for 1,024
	Hold      time.Duration // how long a delivery may wait before it is stored; 0 for 50 ms

	Cluster *Cluster // or nil: the node is in none

	// Connected says whether the bus has its broker and hears what it is to hear;
	// nil: always.
	Connected func() (ok bool, why string)

	// AckFirst acknowledges messages before their work is done. It breaks the
	// promise on purpose, so that the test of the promise can show that it sees.
	AckFirst bool
}

// An Agent runs functions on a node. Its methods may be called from several
// goroutines.
type Agent struct {
	Config
	boot   string       // prefix of the ids this process gives
	ids    atomic.Int64 // events and invocations numbered by this process
	seq    atomic.Int64 // positions in inbox and outbox
	heard  atomic.Int64 // messages
	ending atomic.Bool  // what comes now is left to the next process
	leads  atomic.Bool  // this node works for the cluster

	own     *ear
	cluster *ear          // or nil
	crowd   chan struct{} // holds a token when an ear was paused
	loops   loops
	timers  *timers
	trail   *ring[edge.Step]
	logs    *ring[edge.LogLine]
	work    sync.WaitGroup // starts, closings and loads of functions

	changing turn        // held while a definition is changed
	synced   edge.Synced // what the hub has told last; guarded by changing

	mu        sync.Mutex
	functions map[string]*function // guarded by mu; a removed one stays until its publishes are out
}

// A turn is a lock of which one place is free. It is held while the disk works, so that
// who waits for it is idle, also in the eyes of testing/synctest, as with a mutex he is not.
type turn chan struct{}

func (t turn) Lock()   { t <- struct{}{} }
func (t turn) Unlock() { <-t }

// New returns an agent that goes on where the one before stopped: with the
// functions, deliveries, publishes and timers that the store holds.
func New(cfg Config) (*Agent, error) {
	if cfg.Unacked == 0 {
		cfg.Unacked = 1024
	}
	if cfg.Hold == 0 {
		cfg.Hold = 50 * time.Millisecond
	}
	a := &Agent{
		Config:    cfg,
		boot:      newBoot(),
		crowd:     make(chan struct{}, 1),
		trail:     newRing[edge.Step](1024),
		logs:      newRing[edge.LogLine](1024),
		functions: map[string]*function{},
		changing:  make(turn, 1),
	}
	a.timers = newTimers(a)
	a.own = newEar(a, cfg.Bus, false)
	if cfg.Cluster != nil {
		a.cluster = newEar(a, cfg.Cluster.Bus, true)
	}
	if err := a.recover(); err != nil {
		return nil, fmt.Errorf("recover what was under way: %w", err)
	}
	return a, nil
}

// Run hears and works until ctx is done; then it finishes or stores what runs,
// within ten seconds, and returns nil. It returns an error only for what
// waiting cannot mend.
func (a *Agent) Run(ctx context.Context) error {
	storing, stopStoring := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStoring()
	stored := make(chan error, 1)
	go func() { stored <- a.Store.Run(storing) }() // awaited below

	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	var g errgroup.Group
	g.Go(func() error { return a.timers.run(working) })
	g.Go(func() error { return a.watch(working) })
	g.Go(func() error { return a.checkpoints(working) })
	for _, f := range a.all() {
		f.begin()
	}

	// The bus is the last to begin. It ends only when what has come is brought to
	// an end, for that has to be published and acknowledged.
	bus := make(chan error, 1)
	busCtx, stopBus := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBus()
	leading, stopLeading := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLeading()
	led := make(chan error, 1)
	go func() { led <- a.standBy(leading) }()                // awaited below
	go func() { bus <- a.own.bus.Run(busCtx, a.own.hear) }() // awaited below

	var err error
	select {
	case <-ctx.Done():
	case err = <-bus:
		bus <- nil
	case err = <-led:
		led <- nil
	case err = <-stored:
		stored <- nil
	}
	a.ending.Store(true)
	stopLeading()
	a.finish()
	stopBus()
	err = errors.Join(err, <-led, <-bus)
	stopWorking()
	err = errors.Join(err, g.Wait())
	a.work.Wait()
	stopStoring()
	return errors.Join(err, <-stored)
}

// all returns the functions there are.
func (a *Agent) all() []*function {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Values(a.functions))
}

// function returns the function of that name that is defined, or nil.
func (a *Agent) function(name string) *function {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f := a.functions[name]; f != nil && !f.removed.Load() {
		return f
	}
	return nil
}
