package agent

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A lease says which of a test's nodes leads.
type lease struct {
	node string
	mu   sync.Mutex
	lead func(context.Context) // set while the node stands by
	ends chan struct{}         // closed when lead has returned; nil before the first time
	stop context.CancelFunc    // takes the lease away
	name string                // of the holder, as this node knows it
}

// Lead makes the node stand by.
func (l *lease) Lead(ctx context.Context, lead func(context.Context)) error {
	l.mu.Lock()
	l.lead = lead
	l.mu.Unlock()
	<-ctx.Done()
	l.lose()
	return nil
}

func (l *lease) Holder() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.name
}

// says tells the node who the holder is.
func (l *lease) says(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.name = name
}

// win gives the node the lease, once it has let go of the one that it had.
func (l *lease) win() {
	l.mu.Lock()
	defer l.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	before, ends := l.ends, make(chan struct{})
	l.stop, l.ends, l.name = stop, ends, l.node
	go func() {
		defer close(ends)
		if before != nil {
			<-before
		}
		if ctx.Err() == nil {
			l.lead(ctx)
		}
	}()
}

// expire tells the node that its lease is over, and returns what is closed when the
// node has let go.
func (l *lease) expire() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop != nil {
		l.stop()
	}
	return l.ends
}

// lose takes the lease away, and returns when the node has let go.
func (l *lease) lose() {
	if ends := l.expire(); ends != nil {
		<-ends
	}
}

// A pair is a node of a cluster, with the lease and the cluster's bus in its hand.
type pair struct {
	*node
	lease   *lease
	cluster *bus
}

// clustered runs a test with a node of a cluster, which leads at first.
func clustered(t *testing.T, do func(t *testing.T, p *pair)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &pair{lease: &lease{node: "test"}, cluster: &bus{}}
		b := &bus{}
		p.node = start(t, t.TempDir(), newSandbox(), Config{Bus: b, Unacked: 16, Cluster: &Cluster{
			Bus: p.cluster, Lead: p.lease.Lead, Holder: p.lease.Holder,
		}})
		p.bus = b
		p.lease.win()
		synctest.Wait()
		do(t, p)
		p.stop()
	})
}

const onceIn = onIn + "placement: {mode: one}\n"

// sent fails unless exactly this went out on the cluster's bus.
func (p *pair) sent(published ...string) {
	p.t.Helper()
	if got := p.cluster.published(); !slices.Equal(got, published) {
		p.t.Errorf("published %q as the cluster, want %q", got, published)
	}
	p.want() // nothing as the node
}

func TestOnceForTheClusterIsHeardAndPublishedAsTheCluster(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		p.deploy("once", onceIn, publishes)
		if len(p.bus.filters) != 0 || !slices.Equal(p.cluster.filters, []string{"in/+"}) {
			t.Errorf("the node subscribes to %q and the cluster to %q, want in/+ for the cluster alone", p.bus.filters, p.cluster.filters)
		}
		said := p.cluster.say("in/a", "1")
		pass(time.Second)
		p.sent("out/a=1")
		if !said.acked() {
			t.Error("not acknowledged though done")
		}
	})
}

// handingOver has the node lose the lease while what it did for it is not acknowledged yet: that
// ends once slow is closed. The channel is closed when the node has let go.
func (p *pair) handingOver(slow <-chan struct{}) (acked, left <-chan struct{}) {
	p.t.Helper()
	run, done := make(chan struct{}), make(chan struct{})
	p.deploy("once", onceIn, func(inv functions.Invocation, r functions.Run) functions.Outcome { <-run; return publishes(inv, r) })
	m := p.cluster.saying("in/a", "1")
	m.Message.Ack = acknowledge(func() { <-slow; close(done) })
	p.cluster.hear(m.Message)
	close(run)
	synctest.Wait()
	p.sent("out/a=1")
	left = p.lease.expire()
	synctest.Wait()
	return done, left
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestTheLeaseIsKeptUntilWhatEndedIsAcknowledged(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		slow := make(chan struct{})
		acked, left := p.handingOver(slow)
		if closed(left) {
			t.Error("the node has let go of the lease before what it did was acknowledged")
		}
		close(slow)
		<-left
		if !closed(acked) {
			t.Error("it was never acknowledged")
		}
	})
}

func TestWhatComesAgainAsTheLeaseGoesIsLeftToTheNextNode(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		slow := make(chan struct{})
		_, left := p.handingOver(slow)
		again := p.cluster.repeat(p.cluster.saying("in/b", "2"))
		close(slow)
		<-left
		p.lease.win()
		synctest.Wait()
		p.cluster.say("in/b", "3")
		pass(time.Second)
		p.sent("out/a=1", "out/b=3")
		if again.acked() {
			t.Error("it is acknowledged, though it ran nowhere")
		}
	})
}

func TestWhatFailsForTheClusterWaitsInMemoryAndIsNotAcknowledged(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		var ok atomic.Bool
		p.deploy("once", onceIn+"delivery: {retry: {attempts: 5, backoff: 10s}}", func(inv functions.Invocation, r functions.Run) functions.Outcome {
			if !ok.Load() {
				return thrown("not yet")
			}
			return publishes(inv, r)
		})
		one, two := p.cluster.say("in/a", "1"), p.cluster.say("in/a", "2")
		pass(2 * time.Second)
		if one.acked() || two.acked() || len(p.stored()) > 0 {
			t.Errorf("acknowledged %v, %v, stored %v; want neither, nothing", one.acked(), two.acked(), p.stored())
		}
		ok.Store(true)
		pass(time.Minute)
		p.sent("out/a=1", "out/a=2")
		if !one.acked() || !two.acked() {
			t.Error("not acknowledged though done")
		}
	})
}

func TestADeadLetterOfTheClusterIsStoredBeforeItIsAcknowledged(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		p.deploy("once", onceIn+"delivery: {retry: {attempts: 1}}", func(functions.Invocation, functions.Run) functions.Outcome {
			return thrown("bad")
		})
		said := p.cluster.say("in/a", "1")
		pass(time.Second)
		letters, err := p.Dead(t.Context(), edge.Query{})
		if err != nil || len(letters) != 1 || !said.acked() {
			t.Errorf("dead letters %v, %v, acknowledged %v; want one, true", letters, err, said.acked())
		}
		p.box.set("once", publishes)
		p.box.die(functions.CodeDied) // the next runner has the new handler
		p.lease.lose()
		if n, err := p.Redrive(t.Context(), "once", nil); n != 1 || err != nil {
			t.Fatalf("redrove %d, %v", n, err)
		}
		pass(time.Second)
		p.want("out/a=1") // from the node that has kept it, though another may lead
	})
}

func TestALostPublishOfTheClusterIsRepeatedFromMemoryInOrder(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		p.deploy("once", onceIn, publishes)
		pass(time.Second) // what deploying has started is over
		p.cluster.lose = 1
		one, two := p.cluster.say("in/a", "1"), p.cluster.say("in/a", "2")
		pass(100 * time.Millisecond)
		if one.acked() || two.acked() {
			t.Error("acknowledged before the broker had the answers")
		}
		pass(time.Minute)
		p.sent("out/a=1", "out/a=1", "out/a=2")
		r, err := p.Store.Recover()
		if err != nil || len(r.Outbox) > 0 || !one.acked() || !two.acked() {
			t.Errorf("outbox %v, %v, acknowledged %v, %v; want nothing, both", r.Outbox, err, one.acked(), two.acked())
		}
	})
}

func TestAPublishOnWhichConnectionsEndIsADeadLetterAlsoOfTheCluster(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		p.deploy("once", onceIn, publishes)
		p.cluster.lose = maxLosses
		one, two := p.cluster.say("in/a", "1"), p.cluster.say("in/a", "2")
		pass(time.Minute)
		letters, err := p.Dead(t.Context(), edge.Query{})
		if err != nil || len(letters) != 1 || letters[0].Failure.Code != functions.CodePublish || !one.acked() || !two.acked() {
			t.Errorf("dead letters %v, %v, acknowledged %v, %v; want the publish, both", letters, err, one.acked(), two.acked())
		}
	})
}

func TestPastTheCapTheClusterIsPausedAndNothingShedOrStored(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		release := make(chan struct{})
		p.deploy("once", onceIn+"resources: {timeout: 10m}", stuck(release))
		p.deploy("each", onIn, publishes)
		for range p.Unacked + 1 {
			p.cluster.say("in/a", "1")
		}
		pass(time.Second)
		if !p.cluster.isPaused() || p.bus.isPaused() || len(p.stored()) > 0 {
			t.Errorf("cluster paused %v, node paused %v, stored %v; want true, false, nothing", p.cluster.isPaused(), p.bus.isPaused(), p.stored())
		}
		close(release)
		pass(time.Second)
		if p.cluster.isPaused() {
			t.Error("paused still, though all is done")
		}
		if c := p.status("once").Counts; c.Done != int64(p.Unacked+1) || c.Shed != 0 {
			t.Errorf("counts %+v, want all done", c)
		}
	})
}

func TestAFunctionThatCannotRunDoesNotKeepTheClusterFromHearing(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		p.deploy("once", onceIn, publishes)
		p.function("once").pause("to see")
		for range 2 * p.Unacked {
			p.cluster.say("in/a", "1")
			synctest.Wait()
		}
		if c := p.status("once").Counts; p.cluster.isPaused() || c.Pending != int64(p.Unacked/4) || c.Dead != int64(2*p.Unacked)-c.Pending {
			t.Errorf("paused %v, counts %+v; want a quarter of the cap pending and the rest dead", p.cluster.isPaused(), c)
		}
	})
}

func TestAFunctionThatFailsForAMomentLosesNothing(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		p.deploy("once", onceIn, publishes)
		p.box.refuse(errors.New("no memory now"))
		p.box.die(functions.CodeDied)
		say := func() {
			for range p.Unacked / 2 {
				p.cluster.say("in/a", "1")
				synctest.Wait()
			}
		}
		say()
		pass(time.Second)
		if c := p.status("once").Counts; c.Dead > 0 || c.Pending != int64(p.Unacked/2) {
			t.Errorf("counts %+v after a start has failed, want all pending", c)
		}
		p.box.refuse(nil)
		pass(5 * time.Second)
		if c := p.status("once").Counts; c.Done != int64(p.Unacked/2) || c.Dead > 0 {
			t.Errorf("counts %+v once it starts, want all done", c)
		}

		p.box.refuse(errors.New("no memory"))
		p.box.die(functions.CodeDied)
		for range 3 {
			say()
		}
		pass(time.Second)
		if !p.cluster.isPaused() {
			t.Error("the cluster hears though all that it may hold waits")
		}
		pass(time.Minute)
		say()
		if c := p.status("once").Counts; p.cluster.isPaused() || c.Pending != int64(p.Unacked/4) || c.Dead == 0 {
			t.Errorf("paused %v, counts %+v after a minute without a start; want a quarter of the cap pending and the rest dead", p.cluster.isPaused(), c)
		}
	})
}

func TestANodeThatLosesTheLeaseLeavesWhatWaitsAndEndsWhatRuns(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		p.deploy("once", onceIn, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			time.Sleep(time.Second)
			return publishes(inv, r)
		})
		runs, waits := p.cluster.say("in/a", "1"), p.cluster.say("in/a", "2")
		synctest.Wait()
		ended := p.lease.expire()
		synctest.Wait()
		late := p.cluster.say("in/b", "3")
		began := time.Now()
		<-ended
		if took := time.Since(began); took != time.Second {
			t.Errorf("let go after %v, want it when what ran had ended", took)
		}
		if !runs.acked() || waits.acked() || late.acked() {
			t.Errorf("acknowledged: what ran %v, what waited %v, what came late %v; want the first alone", runs.acked(), waits.acked(), late.acked())
		}
		p.sent("out/a=1")
		c := p.status("once").Counts
		if c.Taken != 2 || c.Done != 1 || c.Filtered != 1 || c.Pending != 0 || c.Lost() != 0 {
			t.Errorf("counts %+v, want one done and one handed over", c)
		}
	})
}

func TestWhatDoesNotEndIsInterruptedWithinTheTime(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		release := make(chan struct{})
		p.deploy("once", onceIn+"resources: {timeout: 10m}", stuck(release))
		p.deploy("silent", strings.Replace(onceIn, "in/", "other/", 1), publishes)
		runs := p.cluster.say("in/a", "1")
		p.cluster.setSilent(true)
		unsure := p.cluster.say("other/b", "2")
		synctest.Wait()
		began := time.Now()
		p.lease.lose()
		if took := time.Since(began); took > HandOverTime {
			t.Errorf("let go after %v, want within %v", took, HandOverTime)
		}
		p.cluster.setSilent(false)
		close(release) // what it comes to is void now
		pass(time.Minute)
		if runs.acked() || unsure.acked() {
			t.Errorf("acknowledged: what ran %v, what was not confirmed %v; want neither", runs.acked(), unsure.acked())
		}
		p.sent("out/b=2")
		if n := len(p.function("once").lanes) + len(p.function("silent").lanes); n > 0 {
			t.Errorf("%d lanes are left", n)
		}
		if n := p.Agent.cluster.load.messages.Load(); n != 0 {
			t.Errorf("%d messages count as unacknowledged, want none", n)
		}
	})
}

func TestASecondMessageIsNotAcknowledgedBeforeAFirstThatAnotherFunctionHas(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		release := make(chan struct{})
		p.deploy("all", onceIn, publishes)
		p.deploy("some", strings.Replace(onceIn, `"in/{device}"`, `"in/{device}", when: payload == 1`, 1)+"resources: {timeout: 10m}", stuck(release))
		one, two := p.cluster.say("in/a", "1"), p.cluster.say("in/a", "2")
		pass(time.Second)
		if one.acked() || two.acked() {
			t.Errorf("acknowledged %v, %v; want neither: alone, the first would come again after the second", one.acked(), two.acked())
		}
		again, after := p.cluster.repeat(one), p.cluster.repeat(two)
		pass(time.Second)
		if again.acked() || after.acked() {
			t.Errorf("over another connection acknowledged %v, %v; want neither", again.acked(), after.acked())
		}
		close(release)
		pass(time.Second)
		if !again.acked() || !after.acked() {
			t.Errorf("acknowledged %v, %v when all was done; want both", again.acked(), after.acked())
		}
		p.sent("out/a=1", "out/a=2", "out/a=1")
	})
}

func TestANodeThatLeadsAgainRunsWhatCountedAsDone(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		p.deploy("once", strings.Replace(onceIn, `"in/{device}"`, `"in/{device}", changed: payload`, 1), publishes)
		said := p.cluster.say("in/a", "1")
		pass(time.Second)
		p.lease.lose()
		p.lease.win()
		synctest.Wait()
		p.cluster.repeat(said) // of another event, perhaps, that came under the same id to the node between
		pass(time.Second)
		p.sent("out/a=1", "out/a=1")
	})
}

func TestSchedulesAndRequestsRunOnTheHolderOnly(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		p.deploy("once", "triggers: [{schedule: {every: 10s}}, {http: {path: /once}}]\nplacement: {mode: one}",
			func(functions.Invocation, functions.Run) functions.Outcome { return functions.Outcome{} })
		pass(time.Minute)
		ran := p.status("once").Counts.Done
		if ran < 5 {
			t.Errorf("ran %d times in a minute, want at least 5", ran)
		}
		if got := p.ask("/once"); got.Code != http.StatusNoContent {
			t.Errorf("the holder answers %d %s, want 204", got.Code, got.Body)
		}
		p.lease.lose()
		p.lease.says("pi-7")
		pass(time.Minute)
		if got := p.status("once").Counts.Done; got != ran+1 {
			t.Errorf("ran %d times without the lease", got-ran-1)
		}
		got := p.ask("/once")
		if got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Body.String(), "pi-7 holds the lease") {
			t.Errorf("a node that stands by answers %d %s, want 503 with the holder's name", got.Code, got.Body)
		}
		if s := p.status("once"); s.Phase != edge.Standby || s.Reason != "pi-7 holds the lease" {
			t.Errorf("is %s: %s, want standby: pi-7 holds the lease", s.Phase, s.Reason)
		}
		if _, err := p.Invoke(t.Context(), "once", edge.Invoke{}); err == nil {
			t.Error("ran by hand on a node that stands by")
		}
	})
}

// ask sends a request that would rather be answered at once, which is not heeded.
func (p *pair) ask(path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", path, nil)
	r.Header.Set("Prefer", "respond-async")
	p.Trigger().ServeHTTP(w, r)
	return w
}

func TestStateAndTimersAreRefusedToWhatRunsOnceForTheCluster(t *testing.T) {
	for name, h := range map[string]handler{
		"read": func(_ functions.Invocation, r functions.Run) functions.Outcome {
			if _, err := r.Get("n"); err != nil {
				return thrown(err.Error())
			}
			return functions.Outcome{}
		},
		"reads-on": func(inv functions.Invocation, r functions.Run) functions.Outcome {
			r.Peek("n")
			return publishes(inv, r)
		},
		"writes": counting,
		"waits": func(functions.Invocation, functions.Run) functions.Outcome {
			return functions.Outcome{Effects: functions.Effects{Timers: []functions.TimerWrite{{Key: "k", After: time.Second}}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			clustered(t, func(t *testing.T, p *pair) {
				p.deploy("once", onceIn, h)
				p.cluster.say("in/a", "1")
				pass(time.Minute)
				p.sent()
				letters, err := p.Dead(t.Context(), edge.Query{})
				if err != nil || len(letters) != 1 || letters[0].Failure.Code != functions.CodeRefused || letters[0].Attempts != 1 {
					t.Errorf("dead letters %v, %v; want one, refused at the first attempt", letters, err)
				}
			})
		})
	}
}

func TestAPinnedFunctionRunsOnItsNodeAndKeepsThereWhatItWants(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("count", onIn+"state: {maxBytes: 1Ki}\nplacement: {mode: one, nodes: {kubernetes.io/hostname: test}}", counting)
		n.deploy("away", onIn+"placement: {mode: one, nodes: {kubernetes.io/hostname: pi-7}}", publishes)
		n.bus.say("in/a", "1")
		pass(time.Second)
		n.want("out/a=1")
		if s := n.status("away"); s.Phase != edge.Standby || s.Reason != "it is pinned to pi-7" || s.Counts.Taken != 0 {
			t.Errorf("elsewhere it is %s: %s, %+v; want standby", s.Phase, s.Reason, s.Counts)
		}
	})
}

func TestANodeInNoClusterSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		err := n.tryDeploy("once", onceIn, publishes)
		e, ok := errors.AsType[*edge.Error](err)
		if !ok || e.Code != edge.Invalid || !strings.Contains(e.Message, "cluster") || e.Hint == "" {
			t.Errorf("deploy = %v, want it refused with the reason and a hint", err)
		}
	})
}

func TestAFunctionThatGoesFromOneToEachEndsWhatItHad(t *testing.T) {
	clustered(t, func(t *testing.T, p *pair) {
		var ok atomic.Bool
		h := func(inv functions.Invocation, r functions.Run) functions.Outcome {
			if !ok.Load() {
				return thrown("not yet")
			}
			return publishes(inv, r)
		}
		const retry = "delivery: {retry: {backoff: 1s}}\n"
		p.deploy("f", onceIn+retry, h)
		one := p.cluster.say("in/a", "1")
		pass(100 * time.Millisecond)
		p.deploy("f", onIn+retry, h)
		two := p.bus.say("in/a", "2")
		pass(100 * time.Millisecond)
		if one.acked() || !two.acked() {
			t.Errorf("acknowledged %v, %v; want the second alone, which is stored", one.acked(), two.acked())
		}
		ok.Store(true)
		pass(time.Minute)
		if got := p.cluster.published(); !slices.Equal(got, []string{"out/a=1"}) || !one.acked() {
			t.Errorf("published %q as the cluster, acknowledged %v", got, one.acked())
		}
		p.want("out/a=2")
	})
}
