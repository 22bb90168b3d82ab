package edge_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// Random schedules of changes at the hub, messages that are lost, doubled, cut off or come out of
// order, restarts of hub and nodes, a hub that is set back to a copy of old, and owners
// who let nothing in; and what must hold during and after each of them.
// SEDGE_TEST_SYNCS=100+50 plays fifty from seed 100 on.
func TestNodesEndUpWithWhatTheHubSaysWhateverHappensBetween(t *testing.T) {
	first, n := uint64(1), uint64(10_000)
	if testing.Short() {
		n = 2_000
	}
	if _, err := fmt.Sscanf(os.Getenv("SEDGE_TEST_SYNCS"), "%d+%d", &first, &n); err == nil {
		t.Logf("%d schedules from seed %d on", n, first)
	}
	var all tally
	var wg sync.WaitGroup
	cores := uint64(runtime.GOMAXPROCS(0))
	for core := range cores {
		wg.Go(func() {
			for seed := first + core; seed < first+n && !t.Failed(); seed += cores {
				w := play(seed)
				for _, fault := range w.faults {
					t.Errorf("seed %d: %s", seed, fault)
				}
				all.add(w.seen)
			}
		})
	}
	wg.Wait()
	t.Logf("seen: %v", all.counts)
	for _, what := range []string{"whole", "delta", "chunk", "current", "applied", "part applied", "refused backward",
		"refused epoch", "refused emptying", "refused held", "refused failed", "unfit", "fetched on", "died", "purged", "late"} {
		if n >= 1000 && all.counts[what] == 0 {
			t.Errorf("no schedule came to this: %s", what)
		}
	}
}

// A tally counts what schedules have come to.
type tally struct {
	mu     sync.Mutex
	counts map[string]int // guarded by mu
}

func (t *tally) add(seen map[string]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]int{}
	}
	for what, n := range seen {
		t.counts[what] += n
	}
}

const (
	worldNames    = 7
	worldVersions = 5 // of each; the last one cannot be run on the first node
	worldNodes    = 2
)

// stock is every function that there is, by name and version; known has them by revision.
var stock, known = func() (stock [worldNames][worldVersions]functions.Function, known map[functions.Revision][]byte) {
	known = map[functions.Revision][]byte{}
	for i := range stock {
		for v := range stock[i] {
			stock[i][v] = function(fmt.Sprintf("f%d", i), v, 0)
			known[stock[i][v].Revision] = bundle(stock[i][v])
		}
	}
	return stock, known
}()

// isStock reports whether f is one of the functions that there are, as far as a glance
// tells: to make sure of it is the replica's part.
func isStock(f functions.Function) bool {
	return known[f.Revision] != nil && slices.ContainsFunc(stock[:], func(versions [worldVersions]functions.Function) bool {
		return slices.ContainsFunc(versions[:], func(g functions.Function) bool { return g.Revision == f.Revision && g.Code == f.Code })
	})
}

// A world is one random schedule.
type world struct {
	*rand.Rand
	hub    ledger
	backup ledger
	behind bool // the hub is a copy of old, and its operator has not given up its epoch yet
	epochs int
	given  []string              // epochs that are over, whether the operator accepts that already or not
	sets   [worldNodes]*edge.Set // of the hub as it is
	nodes  [worldNodes]*board
	tame   bool
	purges []purge // that there ever were
	faults []string
	seen   map[string]int
}

// A purge is when the state of a function went with it.
type purge struct {
	name, epoch string
	revision    int64
}

// A ledger is what the hub remembers across restarts.
type ledger struct {
	epoch     string
	revision  int64
	runs      [worldNames]entry
	purged    map[string]int64
	accepts   []string
	confirmed int64
}

// An entry is a function of the hub.
type entry struct {
	on      uint // a bit for each node that is to run it
	version int
	enabled bool
}

func (l ledger) clone() ledger {
	l.purged, l.accepts = maps.Clone(l.purged), slices.Clone(l.accepts)
	return l
}

// A board is a node: what it has stored, and what it has in memory.
type board struct {
	w       *world
	index   int
	synced  edge.Synced
	has     map[string]functions.Function
	state   map[string]edge.Position // where the node last had a function that has state here
	replica *edge.Replica
	held    string
	feed    *edge.Feed    // of the session, or nil
	open    edge.Position // of the step that the node has not answered yet
	down    queue
	up      queue
}

// A queue is one way of a session.
type queue struct {
	next []edge.Message
	late []edge.Message // copies that may yet come
}

func (q *queue) add(m ...edge.Message) { q.next = append(q.next, m...) }

func (q *queue) take() edge.Message {
	m := q.next[0]
	q.next = q.next[1:]
	return m
}

func play(seed uint64) *world {
	w := &world{Rand: rand.New(rand.NewPCG(seed, 0)), seen: map[string]int{}}
	w.hub = ledger{epoch: "e0", purged: map[string]int64{}}
	for i := range w.nodes {
		w.nodes[i] = &board{w: w, index: i, has: map[string]functions.Function{}, state: map[string]edge.Position{}}
		w.nodes[i].start()
	}
	for range 3 {
		w.change()
	}
	w.backup = w.hub.clone()
	for range 40 + w.IntN(40) {
		w.step()
	}
	w.calm()
	return w
}

func (w *world) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

func (w *world) chance(one int) bool { return w.IntN(one) == 0 }

func (w *world) step() {
	n := w.nodes[w.IntN(worldNodes)]
	switch w.IntN(26) {
	case 0, 1, 2:
		w.change()
	case 3:
		if w.chance(3) {
			w.restart()
		}
	case 4:
		if w.chance(4) {
			w.setBack()
		}
	case 5:
		w.operate()
	case 6:
		if w.chance(2) {
			n.start()
		}
	case 7:
		if w.chance(2) {
			n.cut()
		}
	case 8:
		n.held = []string{"", "", "at night only"}[w.IntN(3)]
	case 9, 10, 11:
		n.lose()
	case 12:
		n.tick()
	default:
		n.connect()
		for range w.IntN(6) {
			n.deliver()
		}
	}
}

// change changes something at the hub, which tells those who are there.
func (w *world) change() {
	if w.behind {
		return
	}
	w.hub.revision++
	for range 1 + w.IntN(3) {
		i := w.IntN(worldNames)
		e, name := &w.hub.runs[i], stock[i][0].Name()
		switch w.IntN(8) {
		case 0:
			e.on = 0
		case 1:
			e.on = 0
			w.hub.purged[name] = w.hub.revision
			w.purges = append(w.purges, purge{name, w.hub.epoch, w.hub.revision})
		case 2:
			e.enabled = !e.enabled
		case 3:
			e.on = uint(w.IntN(1 << worldNodes))
		default:
			*e = entry{on: uint(1 + w.IntN(1<<worldNodes-1)), version: w.IntN(worldVersions), enabled: true}
		}
	}
	w.tell()
}

// tell makes the sets of the hub as it is, and has the feeds say them.
func (w *world) tell() {
	for n := range w.nodes {
		var refs []edge.Ref
		for i, e := range w.hub.runs {
			if e.on&(1<<n) != 0 {
				r := ref(stock[i][e.version], w.chance(2))
				r.Enabled = e.enabled
				refs = append(refs, r)
			}
		}
		at := edge.Position{Epoch: w.hub.epoch, Revision: w.hub.revision}
		s, err := edge.NewSet(at, refs, edge.Terms{Purged: w.hub.purged, Accepts: w.hub.accepts, Confirmed: w.hub.confirmed})
		if err != nil {
			w.fault("%v", err)
			return
		}
		w.sets[n] = s
		if node := w.nodes[n]; node.feed != nil {
			said := node.feed.Want(s)
			if len(said) > 0 && node.open != (edge.Position{}) {
				w.fault("node %d is told %s before it has answered", n, text(said[0]))
			}
			node.tell(said)
		}
	}
}

// restart ends the hub, which comes back with what its ledger says.
func (w *world) restart() {
	for _, n := range w.nodes {
		n.cut()
	}
	w.tell()
}

// setBack takes a copy of the hub, or replaces the hub by the last one.
func (w *world) setBack() {
	if w.chance(2) {
		w.backup = w.hub.clone()
		return
	}
	w.hub, w.behind = w.backup.clone(), true
	w.restart()
}

// operate does what an operator does who looks at the nodes.
func (w *world) operate() {
	if w.behind && (w.tame || w.chance(3)) {
		w.behind = false
		w.given = append(w.given, w.hub.epoch)
		w.epochs++
		w.hub.epoch = fmt.Sprint("e", w.epochs)
		w.hub.revision++
		w.tell()
		w.backup = w.hub.clone() // the old one is of no use any more
	}
	if len(w.given) > len(w.hub.accepts) && (w.tame || w.chance(3)) {
		w.hub.accepts = slices.Clone(w.given)
		w.hub.revision++
		w.tell()
	}
	for _, n := range w.nodes {
		if n.feed == nil {
			continue
		}
		if n.feed.Behind() && !w.behind {
			w.fault("node %d is at %v, the hub at %v", n.index, n.feed.At(), w.sets[n.index].At())
		}
		if r := n.feed.Refusal(); r != nil && r.Reason == edge.RefusedEmptying && !w.behind {
			w.hub.revision++
			w.hub.confirmed = w.hub.revision
			w.tell()
		}
	}
}

// calm lets everything that goes wrong end, and judges what came of it.
func (w *world) calm() {
	w.tame = true
	for _, n := range w.nodes {
		n.held = ""
		if w.chance(2) {
			n.cut()
		}
	}
	for range 40 {
		w.operate()
		for _, n := range w.nodes {
			n.connect()
			n.tick()
			n.talk(1000)
		}
		unsettled := func(n *board) bool { return !n.feed.InStep() || n.feed.At() != n.synced.At || n.busy() } // what one node says may move another
		if !slices.ContainsFunc(w.nodes[:], unsettled) {
			break
		}
	}
	for _, n := range w.nodes {
		n.judge()
		n.tick()
		n.talk(2)
	}
}

// talk delivers what there is, and what comes of it, which is to be no more than so much
// each way.
func (n *board) talk(most int) {
	for ; n.busy(); most-- {
		if most == 0 {
			n.w.fault("node %d: no end of messages: %s", n.index, text(append(n.up.next, n.down.next...)[0]))
			return
		}
		n.deliver()
	}
}

// busy reports whether something is on its way.
func (n *board) busy() bool { return len(n.up.next)+len(n.down.next) > 0 }

// start begins the node's program on what is stored.
func (n *board) start() {
	n.cut()
	policy := edge.Policy{Held: func() string { return n.held }, Memory: []int{0, 1, 700}[n.w.IntN(3)]}
	if n.w.chance(4) { // a broken card, or a runtime that is there now
		n.forget()
	}
	n.replica = edge.NewReplica(n.synced, policy)
}

// forget loses one function of the store, or has what was unfit tried again.
func (n *board) forget() {
	if refs := n.synced.Functions; len(refs) > 0 && n.w.chance(2) {
		lost := n.w.IntN(len(refs))
		delete(n.has, refs[lost].Name)
		n.synced.Functions = slices.Delete(slices.Clone(refs), lost, lost+1)
		return
	}
	n.synced.At.Digest = ""
}

func (n *board) connect() {
	if n.feed == nil {
		n.feed = edge.NewFeed(n.w.sets[n.index])
		n.up.add(n.replica.Begin()...)
	}
}

func (n *board) cut() { n.feed, n.up, n.down, n.open = nil, queue{}, queue{}, edge.Position{} }

// lose makes the link a bad one for once: a message is lost, comes a second time some time
// later, or changes places with another.
func (n *board) lose() {
	for _, q := range []*queue{&n.up, &n.down} {
		if len(q.late) > 0 && n.w.chance(2) {
			q.next = append(slices.Clone(q.next), q.late[n.w.IntN(len(q.late))])
			n.w.seen["late"]++
		}
		if len(q.next) == 0 {
			continue
		}
		i, j := n.w.IntN(len(q.next)), n.w.IntN(len(q.next))
		switch n.w.IntN(4) {
		case 0:
			q.next = slices.Delete(slices.Clone(q.next), i, i+1)
		case 1:
			q.next[i], q.next[j] = q.next[j], q.next[i]
		default:
			q.late = append(q.late, q.next[i])
		}
	}
}

func (n *board) tick() {
	if n.feed == nil {
		return
	}
	n.down.add(n.feed.Tick()...)
	n.up.add(n.replica.Tick()...)
}

// deliver brings the next message of each way to where it goes.
func (n *board) deliver() {
	if n.feed == nil {
		return
	}
	if len(n.down.next) > 0 {
		n.step(n.carry(n.down.take()))
	}
	if n.feed == nil || len(n.up.next) == 0 {
		return
	}
	m := n.carry(n.up.take())
	if a, ok := m.(*edge.At); ok && a.At == n.open || m.Kind() == edge.KindRefusal {
		n.open = edge.Position{}
	}
	said := n.feed.Heard(m)
	if n.feed.InStep() { // by an answer of old, it thinks
		n.open = edge.Position{}
	}
	n.tell(said)
	if f, ok := m.(*edge.Fetch); ok {
		if f.Offset > 0 {
			n.w.seen["fetched on"]++
		}
		c := edge.Cut(known[f.Revision], *f)
		c.Data = c.Data[:min(len(c.Data), 150+n.w.IntN(400))]
		n.down.add(c)
	}
}

// honest are the refusals that come to pass though the hub says nothing wrong.
var honest = []edge.RefusalReason{edge.RefusedBackward, edge.RefusedEpoch, edge.RefusedEmptying, edge.RefusedHeld, edge.RefusedFailed}

// tell sends what the feed says.
func (n *board) tell(said []edge.Message) {
	for _, m := range said {
		switch m := m.(type) {
		case *edge.Whole:
			n.open = m.At
		case *edge.Delta:
			n.open = m.At
		}
	}
	n.down.add(said...)
}

// carry sends a message as bytes, sometimes.
func (n *board) carry(m edge.Message) edge.Message {
	n.w.seen[string(m.Kind())]++
	if r, ok := m.(*edge.Refusal); ok {
		n.w.seen["refused "+string(r.Reason)]++
		stale := r.Reason == edge.RefusedBackward || r.Reason == edge.RefusedEpoch
		if !slices.Contains(honest, r.Reason) || stale && r.Of == edge.KindDelta { // a delta of old leads from where the node is not
			n.w.fault("node %d refuses what an honest hub says: %+v", n.index, *r)
		}
	}
	if !n.w.chance(10) {
		return m
	}
	data, err := edge.Encode(m)
	if err == nil {
		m, err = edge.Decode(data)
	}
	if err != nil {
		n.w.fault("%v", err)
	}
	return m
}

// step has the replica take a message, and does what it says.
func (n *board) step(m edge.Message) {
	out := n.replica.Step(m)
	n.up.add(out.Send...)
	if out.Apply == nil {
		return
	}
	if !n.w.tame && n.w.chance(12) {
		n.up.add(n.replica.Applied(edge.Result{Err: fmt.Errorf("the disk is full")})...)
		return
	}
	if !n.w.tame && n.w.chance(20) {
		n.w.seen["died"]++
		n.start()
		return
	}
	res := n.apply(out.Apply)
	if !n.w.tame && n.w.chance(20) {
		n.w.seen["died"]++
		n.start()
		return
	}
	n.up.add(n.replica.Applied(res)...)
	if got := n.replica.Synced(); got.At != n.synced.At || !reflect.DeepEqual(edge.Plain(got.Functions), edge.Plain(n.synced.Functions)) {
		n.w.fault("node %d: the replica is at %v, the store at %v", n.index, got, n.synced)
	}
}

// apply stores, as an agent does, and judges what it is told to.
func (n *board) apply(a *edge.Apply) (res edge.Result) {
	n.w.seen["applied"]++
	n.judgeMove(n.synced.At, a.Next)
	for _, d := range a.Put {
		f, name := d.Function, d.Function.Name()
		switch {
		case f.Code == "" && n.has[name].Revision != f.Revision:
			n.w.fault("node %d: %s is put without content, and the node has %q", n.index, name, n.has[name].Revision.Short())
		case f.Code == "":
		case !isStock(f):
			n.w.fault("node %d: what came for revision %s of %s is not it", n.index, f.Revision.Short(), name)
		case n.index == 0 && f.Code == stock[0][worldVersions-1].Code:
			n.w.seen["unfit"]++
			u := edge.Unfit{Name: name, Revision: f.Revision, Error: &edge.Error{Code: edge.Invalid, Message: "it does not load"}}
			res.Unfit = append(res.Unfit, u)
			continue
		default:
			n.has[name] = f
		}
		n.state[name] = a.Next.At
	}
	for _, gone := range a.Remove {
		delete(n.has, gone.Name)
		if gone.Purge {
			n.judgePurge(gone.Name, a.Next.At)
			delete(n.state, gone.Name)
		}
	}
	for _, r := range a.Next.Functions {
		if _, kept := n.state[r.Name]; kept {
			n.state[r.Name] = a.Next.At
		}
	}
	n.synced = a.Next
	n.synced.Unfit = slices.Concat(n.synced.Unfit, res.Unfit)
	return res
}

// judgePurge judges whether the state that goes on the way to a position was purged since the
// node last had the function, and is not that of one which came after.
func (n *board) judgePurge(name string, to edge.Position) {
	n.w.seen["purged"]++
	had, kept := n.state[name]
	if !kept || had.Epoch != to.Epoch {
		return
	}
	if !slices.ContainsFunc(n.w.purges, func(p purge) bool {
		return p.name == name && p.epoch == to.Epoch && had.Revision < p.revision && p.revision <= to.Revision
	}) {
		n.w.fault("node %d loses the state of %s, which it had at %v, at %v, and nobody has purged that", n.index, name, had, to)
	}
}

// judgeMove judges where a node goes from a position.
func (n *board) judgeMove(from edge.Position, to edge.Synced) {
	switch {
	case from.Epoch == to.At.Epoch && to.At.Revision < from.Revision:
		n.w.fault("node %d goes back from %v to %v", n.index, from, to.At)
	case from.Epoch != to.At.Epoch && from.Epoch != "" && !slices.Contains(n.w.hub.accepts, from.Epoch):
		n.w.fault("node %d goes from %v to %v, and nobody has accepted that", n.index, from, to.At)
	case to.At.Digest == "":
		n.w.seen["part applied"]++
	case to.At.Digest != edge.Digest(to.Functions):
		n.w.fault("node %d goes to %v with other functions: %v", n.index, to.At, to.Functions)
	}
}

// judge compares the node with the hub once all is calm.
func (n *board) judge() {
	want := n.w.sets[n.index]
	if n.synced.At.Digest != want.At().Digest || n.synced.At.Epoch != want.At().Epoch || !n.feed.InStep() {
		n.w.fault("node %d ends at %v, want %v; refusal %+v", n.index, n.synced.At, want.At(), n.feed.Refusal())
		return
	}
	for _, r := range want.Refs() {
		unfit := slices.ContainsFunc(n.synced.Unfit, func(u edge.Unfit) bool { return u.Name == r.Name && u.Revision == r.Revision })
		if n.has[r.Name].Revision != r.Revision && !unfit {
			n.w.fault("node %d has %q of %s, want %q", n.index, n.has[r.Name].Revision.Short(), r.Name, r.Revision.Short())
		}
	}
	for name := range n.has {
		if !runs(want, name) {
			n.w.fault("node %d still has %s", n.index, name)
		}
	}
	for name, at := range n.w.hub.purged {
		if had, kept := n.state[name]; kept && (had.Epoch != n.w.hub.epoch || had.Revision < at) && !runs(want, name) {
			n.w.fault("node %d still has state of %s, which was purged", n.index, name)
		}
	}
}

func runs(s *edge.Set, name string) bool {
	return slices.ContainsFunc(s.Refs(), func(r edge.Ref) bool { return r.Name == name })
}
