package agent

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
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

// Random schedules of messages, lost connections, dying runners, crashes,
// restarts and redeployments, and what must hold after each of them.
// SEDGE_TEST_SCHEDULES=100+50 plays fifty schedules from seed 100 on.
func TestNoRandomScheduleLosesTurnsRoundOrCountsTwice(t *testing.T) {
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
				for _, fault := range play(t, seed, false) {
					t.Errorf("seed %d: %s", seed, fault)
				}
			})
		})
	}
}

// The proof of the proof: a node that acknowledges first is found out.
func TestTheRandomSchedulesFindOutANodeThatAcknowledgesFirst(t *testing.T) {
	for seed := uint64(1); seed <= 10; seed++ {
		var faults []string
		synctest.Test(t, func(t *testing.T) { faults = play(t, seed, true) })
		if slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, "lost") }) {
			return
		}
	}
	t.Error("ten schedules lost nothing though nothing was safe when it was acknowledged")
}

const simDevices = 4

// A game is one random schedule.
type game struct {
	t        *testing.T
	broker   *broker
	box      *sandbox
	node     *node
	line     *line
	ackFirst bool
	seed     uint64
	said     [simDevices]int
	revision int
	dropped  time.Time // when a connection was ended last

	mu    sync.Mutex
	asked map[string]int // how often for each purpose; guarded by mu
	tamed bool           // nothing fails any more; guarded by mu
}

// play plays the schedule of that seed, and returns what was wrong.
func play(t *testing.T, seed uint64, ackFirst bool) (faults []string) {
	g := &game{t: t, box: newSandbox(), ackFirst: ackFirst, seed: seed, asked: map[string]int{}}
	g.broker = &broker{g: g}
	g.start(t.TempDir())
	g.deploy()
	for range 250 {
		g.step()
	}
	g.mu.Lock()
	g.tamed = true
	g.mu.Unlock()
	time.Sleep(10 * time.Minute)
	synctest.Wait()
	faults = g.judge()
	g.node.stop()
	return faults
}

func (g *game) start(dir string) {
	g.line = &line{b: g.broker, wake: make(chan struct{}, 1), sent: make(chan struct{}, 1)}
	g.node = start(g.t, dir, g.box, Config{Bus: g.line, AckFirst: g.ackFirst})
}

// A luck is chance for one purpose. What falls to one thing does not depend on
// the order in which goroutines ask, so that a seed brings back its schedule.
func (g *game) luck(purpose string) *luck {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked[purpose]++
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s %d", g.seed, purpose, g.asked[purpose])
	return &luck{rand.New(rand.NewPCG(h.Sum64(), 1)), g.tamed}
}

type luck struct {
	*rand.Rand
	tamed bool // nothing happens any more
}

// chance is true once in so many times.
func (l *luck) chance(in int) bool { return !l.tamed && l.IntN(in) == 0 }

func (l *luck) upTo(d time.Duration) time.Duration { return time.Duration(l.Int64N(int64(d))) }

func (g *game) deploy() {
	g.revision++
	delivery := fmt.Sprintf("delivery: {retry: {attempts: 100, backoff: 100ms, max: 1s}}\nenv: {REVISION: \"%d\"}", g.revision)
	for name, h := range map[string]handler{"echo": g.echo, "count": g.count, "mixed": g.mixed} {
		g.node.deploy(name, strings.Replace(onIn, "{device}", "{device}/+", 1)+delivery, h)
	}
	g.node.deploy("odd", strings.Replace(onIn, "{device}", "{device}/odd", 1)+delivery, g.odd)
}

// fate lets an attempt take its time, and fail.
func (g *game) fate(of string, inv functions.Invocation) *functions.Failure {
	l := g.luck(fmt.Sprintf("fate of %s on %s=%s", of, inv.Event.Topic, inv.Event.Payload))
	if l.chance(2) {
		time.Sleep(l.upTo(200 * time.Millisecond))
	}
	if l.chance(8) {
		return &functions.Failure{Code: functions.CodeThrown, Message: "bad luck"}
	}
	return nil
}

func (g *game) echo(inv functions.Invocation, _ functions.Run) functions.Outcome {
	return functions.Outcome{Err: g.fate("echo", inv), Effects: functions.Effects{Publish: []devices.Publication{{
		Topic: "out/echo/" + inv.Event.Capture("device"), Payload: inv.Event.Payload, QoS: 1,
	}}}}
}

// odd counts the odd numbers, of which alone it hears, and takes its time: the
// others are done with what it still has, and with what came after.
func (g *game) odd(inv functions.Invocation, _ functions.Run) functions.Outcome {
	if l := g.luck(fmt.Sprintf("sloth on %s=%s", inv.Event.Topic, inv.Event.Payload)); l.chance(3) {
		time.Sleep(l.upTo(2 * time.Second))
	}
	n, _ := strconv.Atoi(string(inv.Event.Payload))
	return functions.Outcome{Err: g.fate("odd", inv), Effects: functions.Effects{Publish: []devices.Publication{{
		Topic: "out/odd/" + inv.Event.Capture("device"), Payload: strconv.AppendInt(nil, int64(n+1)/2, 10), QoS: 1,
	}}}}
}

// count counts the events of each device by incr, all events by what it has
// read, and publishes.
func (g *game) count(inv functions.Invocation, r functions.Run) functions.Outcome {
	v, err := r.Get("all")
	if err != nil {
		g.t.Error(err)
	}
	all, _ := strconv.Atoi(string(v))
	o := functions.Outcome{Err: g.fate("count", inv), Effects: functions.Effects{
		State: []functions.StateWrite{
			{Op: functions.StateIncr, Key: inv.Event.Capture("device"), By: 1},
			{Op: functions.StateSet, Key: "all", Value: strconv.AppendInt(nil, int64(all)+1, 10)},
		},
		Publish: []devices.Publication{{Topic: "out/count/" + inv.Event.Capture("device"), Payload: inv.Event.Payload, QoS: 1}},
	}}
	return o
}

// mixed changes state on every third event only.
func (g *game) mixed(inv functions.Invocation, _ functions.Run) functions.Outcome {
	o := functions.Outcome{Err: g.fate("mixed", inv), Effects: functions.Effects{Publish: []devices.Publication{{
		Topic: "out/mixed/" + inv.Event.Capture("device"), Payload: inv.Event.Payload, QoS: 1,
	}}}}
	if n, _ := strconv.Atoi(string(inv.Event.Payload)); n%3 == 0 {
		o.Effects.State = []functions.StateWrite{{Op: functions.StateIncr, Key: inv.Event.Capture("device"), By: 1}}
	}
	return o
}

func (g *game) step() {
	l := g.luck("step")
	switch {
	case l.chance(60):
		g.crash()
	case l.chance(60):
		g.node.stop()
		g.line.die()
		g.start(g.node.dir)
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
		kind := [...]string{"even", "odd"}[g.said[d]%2]
		g.broker.say(fmt.Sprintf("in/d%d/%s", d, kind), strconv.Itoa(g.said[d]))
	}
	if l.chance(2) {
		time.Sleep(l.upTo(150 * time.Millisecond))
	}
}

// crash goes on with a copy of what the disk holds in this moment: nothing that
// the old process does afterwards is heard of.
func (g *game) crash() {
	dir := g.node.copyDir()
	g.line.die()
	g.node.stop()
	g.start(dir)
}

// judge looks at what came out in the end.
func (g *game) judge() (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	letters, err := g.node.Dead(g.t.Context(), edge.Query{})
	if err != nil || len(letters) > 0 {
		fault("dead letters %v, %v", letters, err)
	}
	if g.broker.left() > 0 {
		fault("%d messages are not acknowledged", g.broker.left())
	}
	all := 0
	for d, said := range g.said {
		all += said
		for fn, n := range map[string]int{"echo": said, "count": said, "mixed": said, "odd": (said + 1) / 2} {
			topic := fmt.Sprintf("out/%s/d%d", fn, d)
			faults = append(faults, inOrder(topic, g.broker.published(topic), n)...)
		}
		if got := g.number(fmt.Sprintf("d%d", d)); got != said {
			fault("counted %d of d%d, %d were said: %d lost", got, d, said, said-got)
		}
	}
	if got := g.number("all"); got != all {
		fault("counted %d in all, %d were said: %d lost", got, all, all-got)
	}
	for _, f := range g.node.Functions() {
		if f.Counts.Pending > 0 || f.Waiting > 0 || f.Running > 0 {
			fault("%s: something is left: %+v", f.Name, f)
		}
	}
	for _, f := range g.node.all() {
		f.mu.Lock()
		if n := len(f.lanes); n > 0 {
			fault("%s: %d lanes are left", f.name, n)
		}
		f.mu.Unlock()
	}
	return faults
}

func (g *game) number(key string) int {
	e, _ := g.node.StateGet(g.t.Context(), "count", key)
	n, _ := strconv.Atoi(e.Value)
	return n
}

// inOrder looks for numbers from 1 to n, each once or more. Whatever is repeated
// after a crash, each must first come after those before it, and last come after
// those before it: what is repeated is always an end of what was.
func inOrder(topic string, got []string, n int) (faults []string) {
	firsts, lasts := map[int]int{}, map[int]int{}
	for i, text := range got {
		k, _ := strconv.Atoi(text)
		if _, again := firsts[k]; !again {
			firsts[k] = i
		}
		lasts[k] = i
	}
	for k := 1; k <= n; k++ {
		if _, ok := firsts[k]; !ok {
			faults = append(faults, fmt.Sprintf("%s: %d was lost; published %v", topic, k, got))
			return faults
		}
		if k > 1 && firsts[k] < firsts[k-1] {
			faults = append(faults, fmt.Sprintf("%s: %d first came before %d: %v", topic, k, k-1, got))
		}
		if k > 1 && lasts[k] < lasts[k-1] {
			faults = append(faults, fmt.Sprintf("%s: %d last came before %d: %v", topic, k, k-1, got))
		}
	}
	return faults
}
