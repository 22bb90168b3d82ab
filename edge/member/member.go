package member

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/link"
	"github.com/sedge-iot/sedge/functions"
)

// An Agent runs functions, as *agent.Agent does. Its errors that a person should see are
// *edge.Error. Its methods may be called from several goroutines.
type Agent interface {
	follower
	operated
}

// A follower takes what the hub tells. Apply does all of a step, with next, or nothing; see
// there for what the definitions are.
type follower interface {
	Synced() edge.Synced
	Apply(ctx context.Context, put []edge.Definition, remove []edge.Removal, next edge.Synced) (unfit []edge.Unfit, discarded map[string]int, err error)
	Reports() []edge.FunctionReport
}

// An operated answers what an operator asks for by way of the hub.
type operated interface {
	Try(ctx context.Context, f functions.Function) error
	Functions() []edge.FunctionStatus
	Invoke(ctx context.Context, name string, in edge.Invoke) (edge.Invoked, error)
	Logs(ctx context.Context, q edge.Query) iter.Seq[edge.LogLine]
	Steps(ctx context.Context, q edge.Query) iter.Seq[edge.Step]
	Dead(ctx context.Context, q edge.Query) ([]edge.DeadLetter, error)
	Redrive(ctx context.Context, function string, ids []int64) (int, error)
	Discard(ctx context.Context, function string, ids []int64) (int, error)
	State(ctx context.Context, function, prefix, after string, limit int) ([]edge.StateEntry, error)
	StateGet(ctx context.Context, function, key string) (edge.StateEntry, error)
	StatePut(ctx context.Context, function string, e edge.StateEntry, ifVersion *int64) (edge.StateEntry, error)
	StateDelete(ctx context.Context, function, key string, ifVersion *int64) error
}

// A Config is what a member is made of. What is not said to be needed has a default.
type Config struct {
	Home     *Home // needed
	Agent    Agent // needed
	Version  string
	Extra    []byte                  // certificates of authorities besides the hub's, PEM: see link.Trust
	Owner    Owner                   // what the hub may do
	Rate     int                     // bytes a second at which large functions are fetched; 0: as fast as can be
	Built    time.Time               // a time that has passed for certain: that of the program
	Trusted  func() bool             // whether the clock was set by somebody who knows, like NTP; nil: it was not
	Checks   func() []edge.Check     // of the whole node; nil: none
	Diagnose func() edge.Diagnostics // what only the program knows; nil: nothing
	Upgrades Upgrades                // takes other versions of the program; nil: none are taken
	Logger   *slog.Logger

	// Net makes the connections; nil for TCP.
	Net func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Member keeps a node in step with its hub.
type Member struct {
	Config
	dialer  *link.Dialer
	replica *edge.Replica // of who follows: one goroutine in each session
	backoff link.Backoff  // of Run
	fetches *rate.Limiter
	absence *absence

	sessions atomic.Int64
	refusals atomic.Int64
	unknown  atomic.Int64 // messages of kinds that this program does not know

	mu     sync.Mutex
	status Status // guarded by mu

	spurned *edge.UpgradeRefusal // the version that was not taken last; guarded by mu
}

// A Status is how a node is with its hub.
type Status struct {
	Connected bool
	Since     time.Time // of being connected, or away
	Error     string    // why it is away, as far as that is known
	At        edge.Position
	Goal      edge.Position // where the hub leads it now; At when it is there
	Refusal   string        // why it did not take what the hub told last, or ""
}

// New returns a member, to be run. From now on nobody else calls the agent's Apply.
func New(cfg Config) (*Member, error) {
	hub := cfg.Home.hub
	m := &Member{
		Config: cfg,
		dialer: &link.Dialer{
			URL: hub.URL, Hub: hub.Key, Key: cfg.Home.key, Net: cfg.Net,
			Trust: link.Trust{Pin: hub.CA, Extra: cfg.Extra},
		},
		fetches: rate.NewLimiter(rate.Inf, 0),
	}
	if cfg.Rate > 0 {
		m.fetches = rate.NewLimiter(rate.Limit(cfg.Rate), max(cfg.Rate, chunkCost))
	}
	policy := edge.Policy{Held: func() string { return cfg.Home.held(cfg.Owner, time.Now()) }}
	if cfg.Owner.Signers != nil {
		policy.Trust = cfg.Owner.Signers.Check
	}
	synced := cfg.Agent.Synced()
	m.replica = edge.NewReplica(synced, policy)
	m.status = Status{Since: time.Now(), Error: notYet, At: m.replica.Synced().At, Goal: m.replica.Synced().At}
	var err error
	m.absence, err = openAbsence(cfg.Home, cfg.Agent)
	return m, err
}

// notYet is why there is no session before the first dial.
const notYet = "not connected yet"

// Status returns how the node is with its hub.
func (m *Member) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status
}

// Run keeps the node in step until ctx is done, and returns nil then. That there is no
// hub is no error.
func (m *Member) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		lasted, err := m.session(ctx)
		if ctx.Err() != nil {
			break
		}
		m.left(err)
		select {
		case <-time.After(m.backoff.Next(lasted, link.RetryAfter(err))):
		case <-ctx.Done():
		}
	}
	return m.absence.save()
}

// session dials, and keeps the node in step as long as the session lasts.
func (m *Member) session(ctx context.Context) (lasted time.Duration, err error) {
	proof := edge.Proof{Name: m.Home.hub.Name, Version: m.Version, Platform: platform()}
	if proof.Counter, err = m.Home.nextDial(); err != nil {
		return 0, err
	}
	clock := link.Clock{Now: time.Now(), Floor: m.Home.floor(), Trusted: m.Trusted != nil && m.Trusted()}
	if m.Built.After(clock.Floor) {
		clock.Floor = m.Built
	}
	conn, reply, err := m.dialer.Dial(ctx, clock, proof)
	if !reply.Time.IsZero() {
		err = errors.Join(err, m.Home.passed(reply.Time))
	}
	if conn == nil {
		return 0, err
	}
	if err != nil { // the disk does not take the hub's time: that can wait
		m.Logger.Warn("what the hub said is not stored", "err", err)
	}
	began := time.Now()
	m.arrived()
	err = newSession(m, conn).run(ctx)
	return time.Since(began), err
}

// arrived notes that there is a session.
func (m *Member) arrived() {
	m.sessions.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	away := time.Since(m.status.Since).Round(time.Second)
	m.Logger.Info("connected to the hub", "hub", m.Home.hub.URL, "away", away)
	m.status.Connected, m.status.Since, m.status.Error = true, time.Now(), ""
}

// left notes that there is no session, and says so if that is new. Errors of the network
// vary from dial to dial, and only the first is said.
func (m *Member) left(err error) {
	why := "the hub has closed the link"
	if err != nil {
		why = err.Error()
	}
	m.mu.Lock()
	was := m.status
	if m.status.Error = why; was.Connected {
		m.status.Connected, m.status.Since = false, time.Now()
	}
	m.mu.Unlock()
	if err := m.absence.begin(time.Now()); err != nil {
		m.Logger.Warn("that the hub is away is not stored", "err", err)
	}
	_, refused := errors.AsType[*link.Refused](err)
	if was.Connected || was.Error == notYet || refused && was.Error != why {
		m.Logger.Warn("hub is away", "hub", m.Home.hub.URL, "err", why)
	}
}

// note brings the status in line with the replica.
func (m *Member) note() {
	at := m.replica.Synced().At
	goal, leads := m.replica.Pending()
	if !leads {
		goal = at
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.status.At != at {
		m.status.Refusal = ""
	}
	m.status.At, m.status.Goal = at, goal
}

// agreed notes that there is nothing, or not yet, that the node does not take.
func (m *Member) agreed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.Refusal = ""
}

// refused notes that the node did not take what the hub told.
func (m *Member) refused(r *edge.Refusal) {
	m.refusals.Add(1)
	m.mu.Lock()
	was := m.status.Refusal
	m.status.Refusal = string(r.Reason) + ": " + r.Why
	is := m.status.Refusal
	m.mu.Unlock()
	if was != is {
		m.Logger.Warn("the hub's step is not taken", "of", string(r.Of), "revision", r.To.Revision, "reason", string(r.Reason), "why", r.Why)
	}
}
