package agent

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// Random jumps of the wall clock, from 56 years back to 20 ahead, with restarts
// and reboots between them: nothing is lost, and nothing ends before its time.
// SEDGE_TEST_JUMPS=100+950 plays 950 schedules from seed 100 on.
func TestNoRandomJumpOfTheClockLosesOrEndsAnything(t *testing.T) {
	first, n := uint64(1), uint64(50)
	if testing.Short() {
		n = 5
	}
	if _, err := fmt.Sscanf(os.Getenv("SEDGE_TEST_JUMPS"), "%d+%d", &first, &n); err == nil {
		t.Logf("%d schedules from seed %d on", n, first)
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { jumpAbout(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

// A board has a wall clock that jumps, and boots.
type board struct {
	t      *testing.T
	rand   *rand.Rand
	node   *node
	box    *sandbox
	dir    string
	boot   int
	booted time.Time // true time, which is the bubble's
	ahead  atomic.Int64

	keys    map[string]span // of state
	ids     map[string]span // dedupe keys
	timers  map[string]span
	jumps   int
	written int // of names

	mu    sync.Mutex
	runs  map[string]int       // of deduped events, by id; guarded by mu
	rings map[string]time.Time // of timers, by key; guarded by mu
	hours []time.Time          // runs of the schedule; guarded by mu
}

// A span is how long something lives in true time. Where a reboot left a doubt,
// it may be longer.
type span struct {
	until time.Time
	loose bool
}

func jumpAbout(t *testing.T, r *rand.Rand) {
	b := &board{
		t: t, rand: r, box: newSandbox(), dir: t.TempDir(), booted: time.Now().Add(-time.Hour),
		keys: map[string]span{}, ids: map[string]span{}, timers: map[string]span{},
		runs: map[string]int{}, rings: map[string]time.Time{},
	}
	b.setWall(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	b.start()
	b.node.deploy("once", `
triggers: [{mqtt: {topic: "once/{id}"}}]
delivery: {dedupe: {key: id, window: 30m}}`, b.once)
	b.node.deploy("lamp", "triggers: [{mqtt: {topic: \"lamp/{key}\"}}]", b.lamp)
	b.node.deploy("hourly", `triggers: [{schedule: {cron: "0 * * * *", timezone: UTC}}]`, b.hourly)
	for range 40 {
		b.step()
		b.judge()
	}
	b.end()
}

func (b *board) start() {
	booted := b.booted
	b.node = startBy(b.t, store.Clock{
		Boot:  fmt.Sprint("boot ", b.boot),
		Since: func() time.Duration { return time.Since(booted) },
		Wall:  func() time.Time { return time.Now().Add(time.Duration(b.ahead.Load())).Round(0) },
	}, b.dir, b.box, Config{Bus: &bus{}})
	b.node.bus = b.node.Bus.(*bus)
}

func (b *board) setWall(t time.Time) { b.ahead.Store(int64(time.Until(t))) }

func (b *board) once(inv functions.Invocation, _ functions.Run) functions.Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.runs[inv.Event.Capture("id")]++
	return functions.Outcome{}
}

// lamp sets a timer on a message, which says after how long, and notes when it rings.
func (b *board) lamp(inv functions.Invocation, _ functions.Run) functions.Outcome {
	key := inv.Event.Capture("key")
	if inv.Event.Source == devices.Timer {
		b.mu.Lock()
		defer b.mu.Unlock()
		if _, again := b.rings[key]; again {
			b.t.Errorf("timer %s rang twice", key)
		}
		b.rings[key] = time.Now()
		return functions.Outcome{}
	}
	after, err := time.ParseDuration(string(inv.Event.Payload))
	if err != nil {
		b.t.Error(err)
	}
	return functions.Outcome{Effects: functions.Effects{Timers: []functions.TimerWrite{{Key: key, After: after}}}}
}

func (b *board) hourly(functions.Invocation, functions.Run) functions.Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hours = append(b.hours, time.Now())
	return functions.Outcome{}
}

func (b *board) step() {
	switch b.rand.IntN(12) {
	case 0, 1, 2:
		b.jump()
	case 3:
		b.restart()
	case 4:
		b.reboot()
	case 5, 6:
		b.put(b.upTo(3 * time.Hour))
	case 7, 8:
		b.say()
	case 9, 10:
		b.setTimer(b.upTo(3 * time.Hour))
	default:
		pass(b.upTo(time.Hour))
	}
	pass(time.Second)
}

func (b *board) upTo(d time.Duration) time.Duration {
	return time.Duration(b.rand.Int64N(int64(d/time.Second))+1) * time.Second
}

func (b *board) name() string {
	b.written++
	return fmt.Sprint("n", b.written)
}

func (b *board) jump() {
	const year = 365 * 24 * time.Hour
	to := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).Add(b.upTo(76*year) - 56*year)
	b.setWall(to)
	b.jumps++
}

func (b *board) restart() {
	b.node.stop()
	time.Sleep(b.upTo(10 * time.Minute))
	b.start()
	b.jumps++ // what falls into the time between is not made up for, and another minute may be the next
}

// reboot turns the board off. Its clock goes on meanwhile, or begins anew in
// 1970. What is written before and after has told the store where the clock is:
// one that jumps ahead between the two looks like a long time off.
func (b *board) reboot() {
	pass(2 * time.Minute)
	b.put(time.Hour)
	b.node.stop()
	time.Sleep(b.upTo(time.Hour))
	if b.rand.IntN(2) == 0 {
		b.setWall(time.Unix(30, 0))
	}
	b.boot++
	b.booted = time.Now().Add(-30 * time.Second)
	b.jumps++
	for _, spans := range []map[string]span{b.keys, b.ids, b.timers} {
		for name, s := range spans {
			spans[name] = span{s.until, true}
		}
	}
	b.start()
	b.put(time.Hour)
}

func (b *board) put(life time.Duration) {
	key := b.name()
	w := functions.StateWrite{Op: functions.StateSet, Key: key, Value: []byte("1"), TTL: life}
	if err := b.node.Store.Write(b.t.Context(), store.StateChange{Function: "once", Writes: []functions.StateWrite{w}}); err != nil {
		b.t.Error(err)
	}
	b.keys[key] = span{until: time.Now().Add(life)}
}

// say says an event that is new or was said before.
func (b *board) say() {
	id := b.name()
	if known := slices.Sorted(maps.Keys(b.ids)); len(known) > 0 && b.rand.IntN(2) == 0 {
		id = known[b.rand.IntN(len(known))]
	}
	b.mu.Lock()
	before := b.runs[id]
	b.mu.Unlock()
	was, said := b.ids[id]
	b.node.bus.say("once/"+id, "{}")
	pass(time.Second)
	b.mu.Lock()
	ran := b.runs[id] > before
	b.mu.Unlock()
	now := time.Now().Add(-time.Second)
	live := said && now.Before(was.until)
	switch {
	case live && ran:
		b.t.Errorf("%s ran again %v before its window ended", id, was.until.Sub(now))
	case !ran && !live && !was.loose:
		b.t.Errorf("%s did not run, %v after its window had ended", id, now.Sub(was.until))
	}
	if ran {
		b.ids[id] = span{until: now.Add(30 * time.Minute)}
	}
}

func (b *board) setTimer(after time.Duration) {
	key := b.name()
	b.timers[key] = span{until: time.Now().Add(after)}
	b.node.bus.say("lamp/"+key, after.String())
}

// judge looks at what lives and what does not.
func (b *board) judge() {
	now := time.Now()
	for key, s := range b.keys {
		value, _, err := b.node.Store.Get("once", key)
		switch {
		case err != nil:
			b.t.Error(err)
		case value == nil && now.Before(s.until):
			b.t.Errorf("key %s ended %v before its time", key, s.until.Sub(now))
		case value != nil && !s.loose && now.After(s.until):
			b.t.Errorf("key %s lives %v after its time", key, now.Sub(s.until))
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, s := range b.timers {
		rang, ok := b.rings[key]
		switch {
		case s.loose: // after a reboot the wall clock has a say: see below for whether it comes
		case ok && rang.Sub(s.until).Abs() > 10*time.Minute, ok && rang.Before(s.until):
			b.t.Errorf("timer %s rang %v after its time", key, rang.Sub(s.until))
		case !ok && now.After(s.until.Add(time.Second)):
			b.t.Errorf("timer %s is %v late", key, now.Sub(s.until))
		}
	}
}

// end lets everything come that is to come.
func (b *board) end() {
	began := time.Now()
	pass(6 * time.Hour)
	b.judge()
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.timers {
		if _, rang := b.rings[key]; !rang {
			b.t.Errorf("timer %s never rang", key)
		}
	}
	late := 0
	for _, at := range b.hours {
		if at.After(began) {
			late++
		}
	}
	if late < 5 || late > 7 {
		b.t.Errorf("the hourly schedule ran %d times in the last six hours", late)
	}
	if most := int(time.Since(bubbleBegan)/time.Hour) + b.jumps + 1; len(b.hours) > most {
		b.t.Errorf("the hourly schedule ran %d times, want at most %d: once an hour, and once a jump", len(b.hours), most)
	}
	b.node.stop()
}
