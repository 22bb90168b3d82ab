package fleet_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/rollout"
	"github.com/sedge-iot/sedge/functions"
)

// A pipes is a listener whose connections are pipes, so that a hub and its nodes live
// in a bubble where time is fake.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// piped listens to pipes.
func piped() *listener {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	return &listener{p, func(ctx context.Context, _, _ string) (net.Conn, error) {
		here, there := net.Pipe()
		select {
		case p.conns <- there:
			return here, nil
		case <-p.closed:
			return nil, errors.New("nobody listens")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
}

// inBubble runs a test where time is fake, with a hub.
func inBubble(t *testing.T, test func(t *testing.T, h *hub)) {
	synctest.Test(t, func(t *testing.T) { test(t, start(t, t.TempDir(), newKey(t), piped())) })
}

// A site is some machines that report what their functions do.
type site struct {
	machines []*machine
	runs     map[string]int64 // by machine and revision
	bad      functions.Revision
}

func newSite(h *hub, names ...string) *site {
	s := &site{runs: map[string]int64{}}
	for _, name := range names {
		m, _ := h.joined(name, nil)
		s.machines = append(s.machines, m)
	}
	return s
}

// live lets time pass, in which every function runs once each second. Half of the runs
// of the revision bad fail.
func (s *site) live(d time.Duration) {
	for ; d > 0; d -= 10 * time.Second {
		time.Sleep(10 * time.Second)
		for _, m := range s.machines {
			var r edge.Report
			m.mu.Lock()
			for name, revision := range m.has {
				key := m.name + string(revision)
				s.runs[key] += 10
				f := edge.FunctionReport{Name: name, Revision: revision, Phase: edge.Running, Runs: s.runs[key]}
				if revision == s.bad {
					f.Failed = f.Runs / 2
				}
				r.Functions = append(r.Functions, f)
			}
			m.mu.Unlock()
			m.tell(&r)
		}
	}
	synctest.Wait()
}

// with returns how many machines run a revision.
func (s *site) with(f functions.Function) (n int) {
	for _, m := range s.machines {
		m.mu.Lock()
		if m.has[f.Name()] == f.Revision {
			n++
		}
		m.mu.Unlock()
	}
	return n
}

// rollOut deploys next with a rollout: one node, half of them, all.
func (h *hub) rollOut(from, next functions.Function) int64 {
	h.t.Helper()
	r, err := rollout.Begin(edge.RolloutAsk{Stages: []edge.Stage{{Count: 1}, {Percent: 50}}}, next.Name(), from.Revision, next.Revision, "ada", time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	return h.deploy(next, ledger.Intent{By: "ada", Rollout: &r, Confirmed: true}).Rollout.ID
}

func (h *hub) rollout(id int64) edge.Rollout {
	h.t.Helper()
	r, err := h.Rollout(context.Background(), id)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func TestARolloutGoesOnStageByStage(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub) {
		old, next := function(t, "lamp", "1", nil), function(t, "lamp", "2", nil)
		h.deploy(old)
		s := newSite(h, "a", "b", "c", "d")
		s.live(time.Minute)
		id := h.rollOut(old, next)
		s.live(2 * time.Minute)
		want(t, "nodes of stage 1 with the new revision", s.with(next), 1)
		want(t, "and with the old one", s.with(old), 3)
		want(t, "current", h.Spread(all)["lamp"].Current, 1)
		s.live(5 * time.Minute)
		want(t, "nodes of stage 2 with the new revision", s.with(next), 2)
		s.live(15 * time.Minute)
		want(t, "nodes with the new revision in the end", s.with(next), 4)
		want(t, "state", h.rollout(id).State, edge.Completed)
	})
}

func TestARevisionThatFailsGoesBackByItself(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub) {
		old, next := function(t, "lamp", "1", nil), function(t, "lamp", "2", nil)
		h.deploy(old)
		s := newSite(h, "a", "b", "c", "d")
		s.bad = next.Revision
		s.live(time.Minute)
		id := h.rollOut(old, next)
		s.live(time.Minute)
		r := h.rollout(id)
		if r.State != edge.RolledBack || len(r.Nodes) != 1 {
			t.Errorf("the rollout is %s after %d nodes: %s", r.State, len(r.Nodes), r.Why)
		}
		want(t, "nodes with the old revision", s.with(old), 4)
		d, err := h.ledger.Function(context.Background(), "lamp")
		if err != nil || d.Function.Revision != old.Revision {
			t.Errorf("current is %s, %v, want the old revision", d.Function.Revision.Short(), err)
		}
	})
}

func TestOperatorsSteerARollout(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub) {
		old, next := function(t, "lamp", "1", nil), function(t, "lamp", "2", nil)
		h.deploy(old)
		s := newSite(h, "a", "b", "c", "d")
		s.live(time.Minute)
		id := h.rollOut(old, next)
		s.live(time.Minute)
		if _, err := h.Pause(id, ada); err != nil {
			t.Fatal(err)
		}
		s.live(20 * time.Minute)
		want(t, "nodes with the new revision while it is paused", s.with(next), 1)
		if _, err := h.Pause(id, ada); code(err) != edge.Conflict {
			t.Errorf("Pause of what is paused = %v", err)
		}
		if _, err := h.Promote(id, ada); err != nil {
			t.Fatal(err)
		}
		s.live(time.Minute)
		want(t, "nodes with the new revision once it is promoted", s.with(next), 2)
		if r, err := h.Abort(id, ada); err != nil || r.State != edge.Aborted {
			t.Fatalf("Abort = %+v, %v", r, err)
		}
		s.live(time.Minute)
		want(t, "nodes with the old revision once it is aborted", s.with(old), 4)
	})
}

func TestEachSideIsHeardAndWhoIsSilentIsOut(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub) {
		m, s := h.joined("hall", nil)
		for range 20 { // ten minutes
			time.Sleep(edge.BeatTime)
			m.tell(&edge.Report{})
		}
		if n := m.kinds()[edge.KindCurrent]; n < 15 || n > 25 {
			t.Errorf("the hub said in ten minutes %d times that nothing is new", n)
		}
		m.mu.Lock()
		last := m.said[len(m.said)-1].(*edge.Current)
		m.mu.Unlock()
		if age := time.Since(last.Time); age < 0 || age > 2*edge.BeatTime {
			t.Errorf("the time that the hub last told is %v old", age)
		}
		time.Sleep(3 * edge.BeatTime) // the node says nothing
		synctest.Wait()
		want(t, "connected", h.node("hall").Connected, false)
		if why := s.ended(t); !strings.Contains(why, "silence") {
			t.Errorf("the session ended with %q", why)
		}
	})
}

func TestANodeThatDoesNotAnswerIsNotWaitedForForEver(t *testing.T) {
	inBubble(t, func(t *testing.T, h *hub) {
		m, _ := answering(h, func(*edge.Call, func(edge.Message)) {})
		done := make(chan error)
		go func() {
			_, err := h.on("hall").Status(context.Background())
			done <- err
		}()
		for range 20 {
			time.Sleep(10 * time.Second)
			m.tell(&edge.Report{})
		}
		if err := <-done; code(err) != edge.Unavailable || !strings.Contains(err.Error(), "has not answered") {
			t.Errorf("Status = %v", err)
		}
		synctest.Wait()
		want(t, "cancels", m.kinds()[edge.KindCancel], 1)
	})
}
