package cluster

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/kube"
)

// An Agent runs functions on a node.
type Agent interface {
	// Put makes d the definition of its function. An *edge.Error with code
	// Invalid says that the same would be refused again.
	Put(ctx context.Context, d edge.Definition) error
	// Remove deletes a function; a missing one is an error that does not matter.
	Remove(ctx context.Context, name string, purge bool) (discarded int, err error)
	// Functions returns how all functions are.
	Functions() []edge.FunctionStatus
}

// A NodeConfig is what a node of a cluster is made of.
type NodeConfig struct {
	Name      string // of the node, as the cluster calls it
	Client    *kube.Client
	Agent     Agent
	Sandboxes []string // what the node can confine functions in
	Version   string   // of the program
	Logger    *slog.Logger
}

// A Node has its agent run what the cluster's Function resources say, and says in
// their status how they are.
type Node struct {
	cfg       NodeConfig
	functions *kube.Objects[Resource]
	events    *kube.Objects[kube.Event]
	wake      chan struct{} // holds a token when there is something in inbox

	mu    sync.Mutex
	inbox inbox // guarded by mu
}

// An inbox is what was seen and not told to the desk yet.
type inbox struct {
	resources map[string]*Resource // nil: gone
	sign      *sign
}

// NewNode returns a node, to be run.
func NewNode(cfg NodeConfig) *Node {
	return &Node{
		cfg:       cfg,
		functions: Functions.In(cfg.Client, ""),
		events:    kube.Events.In(cfg.Client, "default"), // of objects that belong to no namespace
		wake:      make(chan struct{}, 1),
		inbox:     inbox{resources: map[string]*Resource{}},
	}
}

// Run works until ctx is done, and returns nil then. While the API server is away
// what runs goes on running.
func (n *Node) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	watch := n.functions.Watch(kube.Selector{}, n.saw)
	g.Go(func() error { return watch.Run(ctx) })
	g.Go(func() error { return newSigner(n.cfg).Run(ctx, n.signed) })
	g.Go(func() error { n.work(ctx, watch.Synced()); return nil })
	return g.Wait()
}

func (n *Node) saw(c kube.Change[Resource]) {
	n.mu.Lock()
	n.inbox.resources[c.Key] = c.Now
	n.mu.Unlock()
	n.stir()
}

func (n *Node) signed(s sign) {
	n.mu.Lock()
	n.inbox.sign = &s
	n.mu.Unlock()
	n.stir()
}

func (n *Node) stir() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// glance is how often the agent is asked how its functions are.
const glance = 2 * time.Second

// work keeps the desk and does what it says.
func (n *Node) work(ctx context.Context, synced <-chan struct{}) {
	d := NewDesk(n.cfg.Name)
	d.Functions(n.cfg.Agent.Functions())
	tick := time.NewTicker(glance)
	defer tick.Stop()
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-synced:
			synced = nil
			n.open(d) // what belongs to the whole came before
			d.Whole()
		case <-n.wake:
		case <-tick.C:
		case <-again:
		}
		again = nil
		if at := n.step(ctx, d); !at.IsZero() {
			again = time.After(time.Until(at))
		}
	}
}

// open tells the desk what came.
func (n *Node) open(d *Desk) {
	n.mu.Lock()
	in := n.inbox
	n.inbox = inbox{resources: map[string]*Resource{}}
	n.mu.Unlock()
	for _, name := range sorted(in.resources) {
		if r := in.resources[name]; r == nil {
			d.Gone(name)
		} else {
			d.See(*r)
		}
	}
	if in.sign != nil {
		d.Labels(in.sign.labels)
		d.Members(in.sign.members)
	}
}

// step tells the desk what there is to tell and does what it wants, until it
// wants nothing more; it returns when to come again at the latest.
func (n *Node) step(ctx context.Context, d *Desk) time.Time {
	const enough = 10 // then it is the turn of what came meanwhile
	for range enough {
		n.open(d)
		d.Functions(n.cfg.Agent.Functions())
		todo, again := d.Next(time.Now())
		if len(todo) == 0 {
			return again
		}
		for _, a := range todo {
			if ctx.Err() != nil {
				return time.Time{}
			}
			if !n.act(ctx, d, a) {
				return time.Now().Add(glance)
			}
		}
	}
	return time.Now().Add(time.Second)
}

// act does one thing and tells the desk; it returns false if the same is not to be
// tried at once again.
func (n *Node) act(ctx context.Context, d *Desk, a Action) bool {
	lg := n.cfg.Logger.With("fn", a.Name)
	switch {
	case a.Put != nil:
		err := n.cfg.Agent.Put(ctx, edge.Definition{Function: *a.Put, Enabled: true, Origin: edge.FromCluster})
		if err != nil {
			lg.Warn("function resource is not taken up", "err", err)
		} else {
			lg.Info("function resource is taken up", "revision", a.Put.Revision.Short())
		}
		d.Put(a.Name, a.Put.Revision, err, time.Now())
	case a.Remove:
		if _, err := n.cfg.Agent.Remove(ctx, a.Name, false); err != nil {
			lg.Warn("function could not be removed", "err", err)
			return false
		}
		lg.Info("function is removed: its resource is gone, or is not meant for this node")
	case a.Event != nil:
		if err := n.tell(ctx, a.Event); err != nil {
			lg.Debug("event could not be told", "err", err) // the status says the same
		}
	case a.Patch != nil:
		_, err := n.functions.Patch(ctx, a.Name, a.Patch.Body(), "status")
		if err != nil && !kube.IsConflict(err) && !kube.IsNotFound(err) {
			lg.Warn("status of the function could not be written", "err", err)
		}
		d.Wrote(a.Name, err, time.Now())
	}
	return true
}

func (n *Node) tell(ctx context.Context, e *Event) error {
	now, kind := time.Now().UTC().Truncate(time.Second), "Normal"
	if e.Warning {
		kind = "Warning"
	}
	m := e.Resource.Metadata
	_, err := n.events.Create(ctx, &kube.Event{
		Metadata: kube.Meta{GenerateName: m.Name + ".", Namespace: "default"},
		Object:   kube.Reference{APIVersion: e.Resource.APIVersion, Kind: "Function", Name: m.Name, UID: m.UID},
		Type:     kind, Reason: e.Reason, Message: e.Message, Count: 1, First: &now, Last: &now,
		Source:     kube.EventSource{Component: "sedge-agent", Host: n.cfg.Name},
		Controller: "sedge.dev/agent", Instance: n.cfg.Name,
	})
	return err
}
