package fleet

import (
	"context"
	"encoding/json"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
)

const (
	exchangeTime = 500 * time.Millisecond // between exchanges with other replicas
	reportTime   = 5 * time.Second        // between tellings of a node of which only reports are new
	leaseTime    = 5 * time.Second        // after which a replica that does not beat is dead
	maxTold      = 1_000                  // nodes in one exchange
)

// A debt is what the other replicas are to be told of a node.
type debt byte

const (
	nothing debt = iota
	soon
	atOnce
)

// replicas is what a fleet knows of the other replicas of its hub. Fleet.mu guards it.
type replicas struct {
	id    string // its own; "" where the hub is alone
	since int64  // what it has read
	leads bool   // it came first of those that live: it steers
	peers map[string]peer
}

// A peer is a replica that lives, as far as is known.
type peer struct {
	ledger.Replica
	beaten time.Time // when its beat was last seen to rise, by this machine's own clock
}

// A sighting is what replicas tell each other of a node.
type sighting struct {
	Name, Address, Version, Platform string

	At        edge.Position
	Reports   []edge.FunctionReport
	Unfit     []edge.Unfit
	Faults    []edge.Check
	Refusal   *edge.Refusal
	Program   *edge.UpgradeReport
	Away      *edge.Away
	Discarded map[string]int
}

// owe notes that something of the node is new.
func (n *node) owe(d debt) { n.owed = max(n.owed, d) }

// share exchanges with other replicas what is known of nodes, until ctx is done.
func (f *Fleet) share(ctx context.Context) {
	if f.Replica == "" {
		return
	}
	tick := time.NewTicker(exchangeTime)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		err := f.exchange(time.Now())
		if err != nil && !failing {
			f.Logger.Error("other replicas are not told of nodes, nor heard", "err", err)
		}
		failing = err != nil
	}
}

// exchange tells the other replicas what is new, and takes what they tell. Where the hub is
// alone it does nothing.
func (f *Fleet) exchange(now time.Time) error {
	if f.Replica == "" {
		return nil
	}
	news, told, err := f.tidings(now)
	if err != nil {
		return err
	}
	heard, err := f.Ledger.Exchange(news)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		for i, n := range told {
			n.owe(atOnce)
			n.begun = n.begun || news.Seen[i].Begun
		}
		return err
	}
	f.replicas.since = heard.At
	f.peersLocked(heard.Replicas, time.Now())
	if heard.New {
		for _, n := range f.nodes {
			if n.session != nil {
				n.begun = true
				n.owe(atOnce)
			}
		}
	}
	for _, s := range heard.Seen {
		f.sightLocked(s)
	}
	if len(heard.Seen) > 0 {
		f.changedLocked()
	}
	return nil
}

// tidings returns what the other replicas are to be told, and the nodes that it is of.
func (f *Fleet) tidings(now time.Time) (news ledger.News, told []*node, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &f.replicas
	news = ledger.News{Of: ledger.Replica{ID: r.id, URL: f.Replica}, Since: r.since}
	for _, p := range r.peers {
		if p.ID != r.id && now.Sub(p.beaten) > leaseTime {
			news.Dead = append(news.Dead, p.Replica)
		}
	}
	for id, n := range f.nodes {
		if n.owed == nothing || n.owed == soon && now.Sub(n.told) < reportTime {
			continue
		}
		if len(told) == maxTold {
			break
		}
		s := ledger.Sighting{Node: id, Counter: n.is.Counter, Begun: n.begun}
		if n.session != nil {
			s.Replica = r.id
		}
		if s.Body, err = json.Marshal(n.sighting()); err != nil {
			return news, nil, err
		}
		news.Seen, told = append(news.Seen, s), append(told, n)
		n.owed, n.begun, n.told = nothing, false, now
	}
	return news, told, nil
}

// peersLocked takes which replicas there are.
func (f *Fleet) peersLocked(list []ledger.Replica, now time.Time) {
	r := &f.replicas
	was := r.peers
	r.peers = map[string]peer{}
	for _, one := range list {
		p := peer{one, now}
		if before, known := was[one.ID]; known && before.Beat == one.Beat {
			p.beaten = before.beaten
		}
		r.peers[one.ID] = p
	}
	r.leads = len(list) > 0 && list[0].ID == r.id
}

// leads reports whether this replica steers rollouts. While two think so, the ledger lets
// each step be taken once.
func (f *Fleet) leads() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Replica == "" || f.replicas.leads
}

// sightLocked takes what a replica has told of a node.
func (f *Fleet) sightLocked(s ledger.Sighting) {
	n := f.nodes[s.Node]
	switch {
	case s.Replica == f.replicas.id:
		return
	case n == nil && s.Replica == "":
		return // one that departed
	case n == nil: // one that has just joined
		n = &node{}
		n.is.ID = s.Node
		f.nodes[s.Node] = n
		f.Changed()
	case n.session != nil && (s.Replica == "" || n.is.Counter > s.Counter):
		return // the session here is a later one
	case n.session != nil:
		n.session.conn.Close("another session of this node has begun")
		n.session = nil
	}
	var of sighting
	if err := json.Unmarshal(s.Body, &of); err != nil {
		f.Logger.Error("what a replica tells of a node cannot be read", "node", s.Node, "replica", s.Replica, "err", err)
		return
	}
	if n.elsewhere != "" && s.Replica == "" {
		n.is.Seen, n.dirty = time.Now(), true
	}
	if n.is.Name == "" {
		n.is.Name = of.Name
	}
	n.elsewhere, n.owed, n.begun, n.is.Counter = s.Replica, nothing, false, s.Counter
	n.is.Address, n.is.Version, n.is.Platform = of.Address, shared(of.Version), shared(of.Platform)
	for i := range of.Reports {
		r := &of.Reports[i]
		r.Name, r.Revision, r.Phase = shared(r.Name), shared(r.Revision), shared(r.Phase)
	}
	n.reports, n.unfit, n.faults = of.Reports, of.Unfit, of.Faults
	n.refusal, n.away, n.discarded, n.program = of.Refusal, of.Away, of.Discarded, of.Program
	f.movedLocked(n, at(of.At))
}

// sighting returns what is told of the node.
func (n *node) sighting() sighting {
	return sighting{
		Name: n.is.Name, Address: n.is.Address, Version: n.is.Version, Platform: n.is.Platform, At: n.is.At,
		Reports: n.reports, Unfit: n.unfit, Faults: n.faults, Refusal: n.refusal, Away: n.away, Discarded: n.discarded, Program: n.program,
	}
}

// leaveReplicas says that this one ends.
func (f *Fleet) leaveReplicas() {
	if f.Replica == "" {
		return
	}
	if err := f.Ledger.LeaveReplicas(f.replicas.id); err != nil {
		f.Logger.Error("other replicas take this one for dead only after a while", "err", err)
	}
}
