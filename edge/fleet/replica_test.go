package fleet_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/fleet"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/ledger/ledgertest"
	"github.com/sedge-iot/sedge/edge/ledger/postgres"
	"github.com/sedge-iot/sedge/edge/rollout"
	"github.com/sedge-iot/sedge/edge/selector"
	"github.com/sedge-iot/sedge/functions"
)

// database starts the PostgreSQL that the tests share, once.
var database = sync.OnceValues(ledgertest.StartPostgres)

// started says that there is one to stop.
var started atomic.Bool

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if started.Load() {
		if server, err := database(); err == nil {
			server.Stop()
		}
	}
	os.Exit(code)
}

// replicas starts hubs that share a ledger.
func replicas(t *testing.T, count int) (hubs []*hub) {
	t.Helper()
	started.Store(true)
	server, err := database()
	if err != nil {
		t.Fatal(err)
	}
	dsn, key := server.Database(t), newKey(t)
	for range count {
		l, err := postgres.Open(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		ln, asks := loopback(t), &http.Client{Transport: &http.Transport{}}
		t.Cleanup(asks.CloseIdleConnections)
		hubs = append(hubs, startOn(t, "", l, key, ln, func(c *fleet.Config) { c.Replica, c.Peers = "http://"+ln.Addr().String(), asks }))
	}
	return hubs
}

// die ends a hub as a kill does: the others are told nothing.
func (h *hub) die() {
	h.t.Helper()
	if err := h.ledger.Close(); err != nil {
		h.t.Error(err)
	}
	h.end()
}

// knows waits until the hub knows that a node is connected, or not.
func (h *hub) knows(name string, connected bool) {
	h.t.Helper()
	h.until(fmt.Sprintf("that %s is connected is %v", name, connected), func() bool {
		d, err := h.Node(name)
		return err == nil && d.Connected == connected
	})
}

func TestReplicasKnowOfEachOthersNodes(t *testing.T) {
	t.Parallel() // most of it waits
	hubs := replicas(t, 2)
	a, _ := hubs[0].joined("a", nil)
	b, _ := hubs[1].joined("b", nil)
	hubs[0].knows("b", true)
	hubs[1].knows("a", true)

	lamp := function(t, "lamp", "1", nil)
	at := hubs[0].deploy(lamp).At
	for _, h := range hubs {
		h.inStep(a, at)
		h.inStep(b, at)
		want(t, "Spread", h.Spread(all)["lamp"], edge.Spread{Placed: 2, Connected: 2, Current: 2})
	}
	a.runs(lamp)
	b.runs(lamp)

	b.tell(&edge.Report{Functions: []edge.FunctionReport{{Name: "lamp", Revision: lamp.Revision, Phase: edge.Failing, Runs: 7}}})
	hubs[0].until("what b reports is known at the other replica", func() bool {
		return hubs[0].Reports(all)["lamp"]["b"].Runs == 7 && hubs[0].Spread(all)["lamp"].Failing == 1
	})

	where, err := selector.Parse(functions.HostLabel + "=b")
	if err != nil {
		t.Fatal(err)
	}
	first := hubs[0].First(lamp, where)
	if first == nil || first.Name() != "b" {
		t.Fatalf("First = %v, want b, which is at the other replica", first)
	}
	if got := hubs[1].First(lamp, all).Name(); got != "b" {
		t.Errorf("First = %s, want b, which is at this replica", got)
	}
}

func TestANodeThatMovesIsWhereItCameLast(t *testing.T) {
	hubs := replicas(t, 2)
	m, stay := hubs[0].joined("a", nil)
	hubs[1].knows("a", true)
	m.connect(hubs[1])
	want(t, "the end of the earlier session", stay.ended(t), "another session of this node has begun")
	hubs[0].until("the first replica knows where it is", func() bool {
		r, err := hubs[0].On("a")
		return err == nil && r.Here() == nil
	})
	at := hubs[0].deploy(function(t, "lamp", "1", nil)).At
	hubs[0].inStep(m, at)
	hubs[1].inStep(m, at)
}

func TestOnlyReplicasAreAnswered(t *testing.T) {
	hubs := replicas(t, 2)
	answering(hubs[0], func(c *edge.Call, say func(edge.Message)) { say(&edge.Answer{ID: c.ID, Body: encode(t, 3)}) })
	hubs[1].knows("hall", true)
	if n, err := hubs[1].on("hall").Redrive(t.Context(), "", nil); n != 3 || err != nil {
		t.Errorf("Redrive = %d, %v", n, err)
	}
	stranger := newKey(t) // who has a hub of its own
	foreign := fleet.New(fleet.Config{Key: stranger, Replica: "http://here"})
	for name, token := range map[string]string{"nobody": "", "a stranger": foreign.PeerToken(), "something else": "x"} {
		t.Run(name, func(t *testing.T) {
			body := strings.NewReader(fmt.Sprintf(`{"node": %q, "verb": "redrive"}`, hubs[0].on("hall").ID()))
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+hubs[0].ln.Addr().String()+fleet.PeerPath, body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header["Authorization"] = []string{"Bearer " + token}
			answer, err := hubs[1].Peers.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			want(t, "status", answer.StatusCode, http.StatusForbidden)
		})
	}
}

func TestANodeOfAReplicaThatDoesNotAnswerIsToldAsSuch(t *testing.T) {
	hubs := replicas(t, 2)
	m, _ := answering(hubs[0], func(c *edge.Call, say func(edge.Message)) { say(&edge.Answer{ID: c.ID, Body: encode(t, 3)}) })
	hubs[1].knows("hall", true)
	hubs[0].ln.Close()
	hubs[0].Peers.CloseIdleConnections()
	hubs[1].Peers.CloseIdleConnections()
	_, err := hubs[1].on("hall").Redrive(t.Context(), "", nil)
	if code(err) != edge.Unavailable || !strings.Contains(fmt.Sprint(err), hubs[0].Replica+", which does not answer: ") {
		t.Errorf("Redrive = %v, want that the replica does not answer", err)
	}
	m.connect(hubs[1])
	if n, err := hubs[1].on("hall").Redrive(t.Context(), "", nil); n != 3 || err != nil {
		t.Errorf("once it is here: Redrive = %d, %v", n, err)
	}
}

func TestAReplicaThatEndsTakesItsNodesWithIt(t *testing.T) {
	t.Parallel() // most of it waits
	for how, end := range map[string]func(*hub){"orderly": (*hub).endNow, "killed": (*hub).die} {
		t.Run(how, func(t *testing.T) {
			hubs := replicas(t, 2)
			hubs[1].joined("a", nil)
			hubs[0].knows("a", true)
			end(hubs[1])
			hubs[0].knows("a", false)
		})
	}
}

func (h *hub) endNow() { h.end() }

func TestAReplicaThatDiesUnderLoadLosesNothing(t *testing.T) {
	const machines, deploys = 6, 40
	hubs := replicas(t, 2)
	var list []*machine
	for i := range machines {
		m, _ := hubs[i%2].joined(fmt.Sprint("m", i), nil)
		list = append(list, m)
	}
	var last edge.Position
	var current []functions.Function
	for i := range deploys {
		h := hubs[i%2]
		if i == deploys/2 {
			hubs[0].die()
			for j := 0; j < machines; j += 2 {
				list[j].connect(hubs[1])
			}
		}
		if i >= deploys/2 {
			h = hubs[1]
		}
		f := function(t, fmt.Sprint("f", i), "1", nil)
		last, current = h.deploy(f).At, append(current, f)
	}
	for _, m := range list {
		hubs[1].inStep(m, last)
		m.runs(current...)
	}
}

func TestARolloutGoesOnWhenTheReplicaThatSteersItDies(t *testing.T) {
	t.Parallel() // most of it waits
	hubs := replicas(t, 2)
	old, next := function(t, "lamp", "1", nil), function(t, "lamp", "2", nil)
	at := hubs[0].deploy(old).At
	var list []*machine
	for i := range 4 {
		m, _ := hubs[i%2].joined(fmt.Sprint("m", i), nil)
		list = append(list, m)
	}
	for _, m := range list {
		hubs[0].knows(m.name, true)
		hubs[0].inStep(m, at)
	}
	gate := edge.Gate{MinRuns: 10, MaxErrors: 0.5, Bake: time.Second, Patience: time.Hour}
	r, err := rollout.Begin(edge.RolloutAsk{Stages: []edge.Stage{{Count: 1}, {Count: 2}}, Gate: &gate}, "lamp", old.Revision, next.Revision, "ada", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	id := hubs[0].deploy(next, ledger.Intent{By: "ada", Rollout: &r, Confirmed: true}).Rollout.ID
	stop, reporting := make(chan struct{}), sync.WaitGroup{}
	defer reporting.Wait()
	defer close(stop)
	reporting.Go(func() { report(list, stop) })

	hubs[1].until("the first stage is passed", func() bool { return hubs[1].rollout(id).Stage == 1 })
	hubs[0].die()
	list[0].connect(hubs[1])
	list[2].connect(hubs[1])
	hubs[1].until("the rollout is complete", func() bool { return hubs[1].rollout(id).State == edge.Completed })
	at = hubs[1].position()
	for _, m := range list {
		hubs[1].inStep(m, at)
		m.runs(next)
	}
	want(t, "stages passed", len(hubs[1].audited("rollout.stage")), 2)
}

// report has machines report that what they run runs, until stop is closed.
func report(list []*machine, stop <-chan struct{}) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for runs := int64(100); ; runs += 100 {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		for _, m := range list {
			m.mu.Lock()
			var r edge.Report
			for name, revision := range m.has {
				r.Functions = append(r.Functions, edge.FunctionReport{Name: name, Revision: revision, Phase: edge.Running, Runs: runs})
			}
			if m.conn != nil {
				m.say(&r)
			}
			m.mu.Unlock()
		}
	}
}
