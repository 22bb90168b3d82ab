package agent

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// Random schedules of messages, lost connections, dying runners, crashes, and a
// lease that goes from one of two nodes to the other at any moment, and what must
// hold after each of them. SEDGE_TEST_SCHEDULES=100+50 plays fifty from seed 100 on.
func TestNoRandomHandOverLosesTurnsRoundOrRenames(t *testing.T) {
	first, n := uint64(1), uint64(20)
	if testing.Short() {
		n = 3
	}
	if _, err := fmt.Sscanf(os.Getenv("SEDGE_TEST_SCHEDULES"), "%d+%d", &first, &n); err == nil {
		t.Logf("%d schedules from seed %d on", n, first)
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, fault := range playTwo(t, seed, false) {
					t.Errorf("seed %d: %s", seed, fault)
				}
			})
		})
	}
}

// The proof of the proof: nodes that acknowledge first are found out.
func TestTheRandomHandOversFindOutNodesThatAcknowledgeFirst(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		var faults []string
		synctest.Test(t, func(t *testing.T) { faults = playTwo(t, seed, true) })
		if slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, "lost") }) {
			return
		}
	}
	t.Error("ten schedules lost nothing though nothing was safe when it was acknowledged")
}

// A league is one random schedule of two nodes.
type league struct {
	*game
	members [2]*member
	holder  int // index of the one that has the lease

	ids   map[string]string // of the event that was published so; guarded by the game's mu
	twice []string          // events that bore two ids; guarded by the game's mu
}

// A member is one of the nodes, and what it has of the cluster.
type member struct {
	*node
	name  string
	lease *lease
	wire  *wire
}

// A wire is the cluster's bus of one node: each run of it is a line of its own,
// which takes the session over.
type wire struct {
	g *league

	mu     sync.Mutex
	line   *line // or nil
	paused bool
}

func (w *wire) Run(ctx context.Context, hear func(devices.Message)) error {
	l := &line{b: w.g.broker, wake: make(chan struct{}, 1), sent: make(chan struct{}, 1)}
	w.g.broker.mu.Lock()
	before := w.g.line
	w.g.line = l
	w.g.broker.mu.Unlock()
	before.die()
	w.mu.Lock()
	w.line, l.paused = l, w.paused
	w.mu.Unlock()
	defer l.die()
	return l.Run(ctx, hear)
}

func (w *wire) now() *line {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.line
}

func (w *wire) Subscribe([]string) {}

func (w *wire) Line() any {
	if l := w.now(); l != nil {
		return l.Line()
	}
	return nil
}

func (w *wire) PublishOn(line any, p devices.Publication, done func(error)) {
	if l := w.now(); l != nil {
		l.PublishOn(line, p, done)
		return
	}
	done(errNoConnection)
}

func (w *wire) Pause()  { w.pause(true) }
func (w *wire) Resume() { w.pause(false) }

func (w *wire) pause(on bool) {
	w.mu.Lock()
	l := w.line
	w.paused = on
	w.mu.Unlock()
	if l != nil {
		l.pause(on)
	}
}

// playTwo plays the schedule of that seed, and returns what was wrong.
func playTwo(t *testing.T, seed uint64, ackFirst bool) (faults []string) {
	g := &league{
		game: &game{t: t, box: newSandbox(), ackFirst: ackFirst, seed: seed, asked: map[string]int{}},
		ids:  map[string]string{},
	}
	g.broker = &broker{g: g.game}
	g.line = &line{b: g.broker, wake: make(chan struct{}, 1), sent: make(chan struct{}, 1)}
	for i := range g.members {
		g.begin(i, t.TempDir())
	}
	g.deploy()
	g.members[0].lease.win()
	for range 250 {
		g.step()
	}
	g.mu.Lock()
	g.tamed = true
	g.mu.Unlock()
	time.Sleep(10 * time.Minute)
	synctest.Wait()
	faults = g.judge()
	for _, m := range g.members {
		m.stop()
	}
	return faults
}

// begin starts the node of that index on what is in dir.
func (g *league) begin(i int, dir string) {
	m := &member{name: fmt.Sprintf("pi-%d", i), wire: &wire{g: g}}
	m.lease = &lease{node: m.name}
	m.node = start(g.t, dir, g.box, Config{Bus: &bus{}, AckFirst: g.ackFirst, Cluster: &Cluster{
		Bus: m.wire, Lead: m.lease.Lead, Holder: m.lease.Holder,
	}})
	g.members[i] = m
}

func (g *league) deploy() {
	g.revision++
	delivery := fmt.Sprintf("delivery: {retry: {attempts: 100, backoff: 100ms, max: 1s}}\nenv: {REVISION: \"%d\"}", g.revision)
	for _, m := range g.members {
		m.deploy("echo", onceIn+delivery, g.echo)
		m.deploy("odd", strings.Replace(onceIn, `"in/{device}"`, `"in/{device}", when: int(payload) % 2 == 1`, 1)+delivery, g.odd)
	}
}

func (g *league) echo(inv functions.Invocation, r functions.Run) functions.Outcome {
	g.note(inv)
	return g.game.echo(inv, r)
}

// odd counts the odd numbers.
func (g *league) odd(inv functions.Invocation, _ functions.Run) functions.Outcome {
	g.note(inv)
	n, _ := strconv.Atoi(string(inv.Event.Payload))
	return functions.Outcome{Err: g.fate("odd", inv), Effects: functions.Effects{Publish: []devices.Publication{{
		Topic: "out/odd/" + inv.Event.Capture("device"), Payload: strconv.AppendInt(nil, int64(n+1)/2, 10), QoS: 1,
	}}}}
}

// note looks whether the event bears the id that it bore before.
func (g *league) note(inv functions.Invocation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	what := inv.Event.Topic + "=" + string(inv.Event.Payload)
	if id, again := g.ids[what]; again && id != inv.Event.ID {
		g.twice = append(g.twice, fmt.Sprintf("%s was %s and %s", what, id, inv.Event.ID))
	}
	g.ids[what] = inv.Event.ID
}

func (g *league) step() {
	l := g.luck("step")
	switch {
	case l.chance(50):
		g.crash()
	case l.chance(50): // the holder is told in time
		g.members[g.holder].lease.lose()
		g.next()
	case l.chance(50): // the next one is there before the holder has let go
		g.members[g.holder].lease.expire()
		g.next()
	case l.chance(100): // the same one again
		g.members[g.holder].lease.lose()
		g.members[g.holder].lease.win()
	case l.chance(60):
		m := g.members[1-g.holder]
		m.stop()
		g.begin(1-g.holder, m.dir)
	case l.chance(25) && time.Since(g.dropped) > 2*time.Second: // so that no publish is lost three times
		g.dropped = time.Now()
		g.line.drop()
	case l.chance(25):
		g.box.die(functions.CodeDied)
	case l.chance(50):
		g.deploy()
	default:
		d := int(l.upTo(simDevices))
		g.said[d]++
		g.broker.say(fmt.Sprintf("in/d%d", d), strconv.Itoa(g.said[d]))
	}
	if l.chance(2) {
		time.Sleep(l.upTo(150 * time.Millisecond))
	}
}

// next gives the lease to the other node.
func (g *league) next() {
	g.holder = 1 - g.holder
	g.members[g.holder].lease.win()
	synctest.Wait() // it has taken the session over
}

// crash ends the holder in the middle of everything: what its process does after
// this moment nobody hears of.
func (g *league) crash() {
	i, m := g.holder, g.members[g.holder]
	dir := m.copyDir()
	g.line.die()
	g.next()
	m.stop()
	g.begin(i, dir)
}

// judge looks at what came out in the end.
func (g *league) judge() (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if g.broker.left() > 0 {
		fault("%d messages are not acknowledged", g.broker.left())
	}
	for d, said := range g.said {
		for fn, n := range map[string]int{"echo": said, "odd": (said + 1) / 2} {
			topic := fmt.Sprintf("out/%s/d%d", fn, d)
			faults = append(faults, inOrder(topic, g.broker.published(topic), n)...)
		}
	}
	faults = append(faults, g.twice...)
	for _, m := range g.members {
		letters, err := m.Dead(g.t.Context(), edge.Query{})
		if err != nil || len(letters) > 0 || len(m.stored()) > 0 {
			fault("%s: dead letters %v, %v, inbox %v", m.name, letters, err, m.stored())
		}
		if n := m.Agent.cluster.load.messages.Load(); n != 0 {
			fault("%s: %d messages count as unacknowledged", m.name, n)
		}
		for _, f := range m.Functions() {
			if f.Counts.Pending > 0 || f.Running > 0 || f.Counts.Lost() != 0 {
				fault("%s: %s: something is left: %+v", m.name, f.Name, f)
			}
		}
		for _, f := range m.all() {
			f.mu.Lock()
			if n := len(f.lanes); n > 0 {
				fault("%s: %s: %d lanes are left", m.name, f.name, n)
			}
			f.mu.Unlock()
		}
	}
	return faults
}
