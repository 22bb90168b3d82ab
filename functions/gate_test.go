package functions

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices"
)

// A visit is one event at a gate and what is to come of it.
type visit struct {
	at      time.Duration
	key     string
	payload string
	want    string // pass, drop REASON, arm DUE or disarm
}

func newGate(t testing.TB, trigger MQTTTrigger) *Gate {
	t.Helper()
	trigger.Topic = "home/{device}"
	g, err := NewGate(trigger)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

var start = time.Date(2026, 11, 23, 22, 0, 0, 0, time.UTC)

func step(t testing.TB, g *Gate, at time.Duration, key, payload string) Verdict {
	t.Helper()
	return g.Step(key, start.Add(at), eventOf(t, key, payload))
}

func eventOf(t testing.TB, key, payload string) Scope {
	t.Helper()
	value, err := ParsePayload([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return Scope{Payload: value, Event: &devices.Event{
		Topic: "home/" + key, Payload: []byte(payload), Captures: []devices.Capture{{Name: "device", Value: key}},
	}}
}

func (v Verdict) text() string {
	switch v.Decision {
	case Pass:
		return "pass"
	case Drop:
		return "drop " + v.Reason
	case Arm:
		return "arm " + v.Due.Sub(start).String()
	}
	return "disarm"
}

func walk(t *testing.T, g *Gate, visits []visit) {
	t.Helper()
	for i, v := range visits {
		if got := step(t, g, v.at, v.key, v.payload).text(); got != v.want {
			t.Errorf("event %d (%s at %v: %s): %s, want %s", i, v.key, v.at, v.payload, got, v.want)
		}
	}
}

func TestGateWithoutConditionsLetsAllPass(t *testing.T) {
	g := newGate(t, MQTTTrigger{})
	walk(t, g, []visit{{0, "a", "1", "pass"}, {0, "a", "1", "pass"}})
	if g.NeedsPayload() || g.Snapshot() != nil {
		t.Error("a gate without conditions needs the payload or remembers something")
	}
}

func TestWhenDropsWhatIsFalse(t *testing.T) {
	g := newGate(t, MQTTTrigger{When: `payload.on == true && device == "a"`})
	walk(t, g, []visit{
		{0, "a", `{"on":true}`, "pass"},
		{0, "a", `{"on":false}`, "drop when"},
		{0, "b", `{"on":true}`, "drop when"},
	})
	g = newGate(t, MQTTTrigger{When: `payload.lux < 20`})
	v := step(t, g, 0, "a", `{}`)
	if v.Decision != Drop || v.Err == nil || !strings.Contains(v.Err.Error(), "payload.lux is missing") {
		t.Errorf("a condition on what is missing = %+v, want a drop that says so", v)
	}
}

func TestPreviousIsThePayloadBeforeOfTheSameDevice(t *testing.T) {
	g := newGate(t, MQTTTrigger{When: `previous != nil && payload.t - previous.t > 2`})
	walk(t, g, []visit{
		{0, "a", `{"t":1}`, "drop when"},
		{1, "b", `{"t":9}`, "drop when"},
		{2, "a", `{"t":4}`, "pass"},
		{3, "a", `{"t":5}`, "drop when"},
		{4, "a", `{"t":8}`, "pass"},
	})
}

func TestChangedFiresWhenTheValueDiffers(t *testing.T) {
	g := newGate(t, MQTTTrigger{When: `payload.state != "OFF"`, Changed: `payload.state`})
	walk(t, g, []visit{
		{0, "a", `{"state":"ON"}`, "pass"},
		{1, "a", `{"state":"ON"}`, "drop changed"},
		{2, "b", `{"state":"ON"}`, "pass"},
		{3, "a", `{"battery":7}`, "drop changed"}, // says nothing of state
		{4, "a", `{"state":"OFF"}`, "drop when"},  // is remembered though
		{5, "a", `{"state":"ON"}`, "pass"},
	})
}

func TestThrottleLetsTheFirstThrough(t *testing.T) {
	g := newGate(t, MQTTTrigger{Throttle: Duration(time.Minute)})
	walk(t, g, []visit{
		{0, "a", "1", "pass"},
		{59 * time.Second, "a", "2", "drop throttle"},
		{59 * time.Second, "b", "2", "pass"},
		{60 * time.Second, "a", "3", "pass"},
		{-1000 * time.Hour, "a", "4", "pass"}, // the clock was set back
		{-1000*time.Hour + time.Second, "a", "5", "drop throttle"},
	})
}

func TestDebounceWaitsForSilence(t *testing.T) {
	g := newGate(t, MQTTTrigger{When: `payload.on`, Debounce: Duration(10 * time.Second)})
	walk(t, g, []visit{
		{0, "a", `{"on":true}`, "arm 10s"},
		{4 * time.Second, "a", `{"on":true}`, "arm 14s"},
		{5 * time.Second, "a", `{"on":false}`, "drop when"},
	})
}

func TestHoldFiresOnceWhileWhenStaysTrue(t *testing.T) {
	g := newGate(t, MQTTTrigger{When: `payload.open`, Hold: Duration(5 * time.Minute)})
	walk(t, g, []visit{
		{0, "door", `{"open":false}`, "drop when"},
		{1 * time.Minute, "door", `{"open":true}`, "arm 6m0s"},
		{2 * time.Minute, "door", `{"open":true}`, "drop hold"},
		{2 * time.Minute, "window", `{"open":true}`, "arm 7m0s"},
		{3 * time.Minute, "door", `{"open":false}`, "disarm"},
		{4 * time.Minute, "door", `{"open":true}`, "arm 9m0s"},
		{10 * time.Minute, "door", `{"open":true}`, "drop hold"}, // it has fired at 9m
		{11 * time.Minute, "door", `{"open":false}`, "disarm"},
		{12 * time.Minute, "door", `{"open":true}`, "arm 17m0s"},
	})
}

func TestHoldKnowsAfterARestartWhatIsArmed(t *testing.T) {
	g := newGate(t, MQTTTrigger{When: `payload.open`, Hold: Duration(5 * time.Minute)})
	g.Armed("door")
	walk(t, g, []visit{
		{0, "door", `{"open":true}`, "drop hold"},
		{0, "door", `{"open":false}`, "disarm"},
	})
}

func TestSeedTeachesWithoutFiring(t *testing.T) {
	g := newGate(t, MQTTTrigger{When: `previous != nil`, Changed: `payload.state`})
	g.Seed("a", eventOf(t, "a", `{"state":"ON"}`))
	walk(t, g, []visit{
		{0, "a", `{"state":"ON"}`, "drop changed"},
		{0, "a", `{"state":"OFF"}`, "pass"},
		{0, "b", `{"state":"OFF"}`, "drop when"},
	})
}

func TestGateRemembersAcrossARestart(t *testing.T) {
	trigger := MQTTTrigger{When: `previous == nil || payload.n > previous.n`, Changed: `payload.n`, Throttle: Duration(time.Minute)}
	g := newGate(t, trigger)
	walk(t, g, []visit{{0, "a", `{"n":1}`, "pass"}, {0, "b", `{"n":5}`, "pass"}})
	snapshot := g.Snapshot()
	if snapshot == nil || g.Snapshot() != nil {
		t.Fatalf("snapshots = %s, and again though nothing changed", snapshot)
	}
	g = newGate(t, trigger)
	if err := g.Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	if again := g.Snapshot(); again != nil {
		t.Errorf("snapshot right after Restore = %s, want nil", again)
	}
	walk(t, g, []visit{
		{time.Second, "b", `{"n":5}`, "drop when"},
		{time.Second, "a", `{"n":1}`, "drop when"},
		{time.Second, "a", `{"n":2}`, "drop throttle"},
		{time.Minute, "a", `{"n":3}`, "pass"},
	})
}

func TestThrottleRemembersAcrossARestart(t *testing.T) {
	trigger := MQTTTrigger{Throttle: Duration(time.Minute)}
	g := newGate(t, trigger)
	step(t, g, 0, "a", "1")
	snapshot := g.Snapshot()
	g = newGate(t, trigger)
	if err := g.Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	walk(t, g, []visit{{time.Second, "a", "2", "drop throttle"}, {time.Minute, "a", "3", "pass"}})
}

func TestHoldRemembersAcrossARestartThatItFired(t *testing.T) {
	trigger := MQTTTrigger{When: `payload.open`, Hold: Duration(time.Minute)}
	g := newGate(t, trigger)
	step(t, g, 0, "door", `{"open":true}`)
	snapshot := g.Snapshot()
	g = newGate(t, trigger)
	if err := g.Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	walk(t, g, []visit{{time.Hour, "door", `{"open":true}`, "drop hold"}})
}

func TestGateIsNotRestoredFromGarbage(t *testing.T) {
	for _, snapshot := range []string{``, `{}`, `[1]`, `[{"changed":"xyz"}]`, `[{"key":"a","passed":"soon"}]`} {
		g := newGate(t, MQTTTrigger{Changed: `payload`, Throttle: Duration(time.Minute)})
		if err := g.Restore([]byte(snapshot)); err == nil {
			t.Errorf("Restore takes %q", snapshot)
		}
		walk(t, g, []visit{{0, "a", `1`, "pass"}})
	}
}

func TestGateForgetsTheKeysLongestSilent(t *testing.T) {
	g := newGate(t, MQTTTrigger{Changed: `payload`})
	for n := range maxKeys {
		step(t, g, 0, fmt.Sprint(n), "1")
	}
	walk(t, g, []visit{
		{0, "0", "1", "drop changed"}, // now the last heard of
		{0, "new", "1", "pass"},       // pushes out 1
		{0, "0", "1", "drop changed"},
		{0, "1", "1", "pass"},
	})
	if got := g.memory.order.Len(); got != maxKeys || len(g.memory.index) != maxKeys {
		t.Errorf("remembers %d keys, want %d", got, maxKeys)
	}
}

func TestPreviousPayloadsStayWithinTheirBound(t *testing.T) {
	g := newGate(t, MQTTTrigger{When: `previous != nil`})
	large := `"` + strings.Repeat("x", maxPrevious-2) + `"`
	for n := range 2 * maxAllPrevious / maxPrevious {
		step(t, g, 0, fmt.Sprint(n), large)
		sum := 0
		for e := g.memory.order.Front(); e != nil; e = e.Next() {
			sum += pastOf(e).size
		}
		if sum != g.memory.size || sum > maxAllPrevious {
			t.Fatalf("remembers %d bytes and counts %d, at most %d", sum, g.memory.size, maxAllPrevious)
		}
	}
	walk(t, g, []visit{
		{0, "0", "1", "drop when"}, // forgotten
		{0, "0", `"` + large[1:len(large)-1] + `x"`, "pass"},
		{0, "0", "1", "drop when"}, // the one before was too long
	})
}

func BenchmarkGate(b *testing.B) {
	g := newGate(b, MQTTTrigger{When: `payload.occupancy == true`, Changed: `payload.n`, Throttle: Duration(time.Second)})
	s := eventOf(b, "hall", `{"occupancy":true,"n":4}`)
	b.ReportAllocs()
	for b.Loop() {
		g.Step("hall", start, s)
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte(`[{"key":"a","previous":{"n":1},"changed":"000102030405060708090a0b0c0d0e0f","passed":"2026-11-23T22:00:00Z","held":true}]`))
	f.Fuzz(func(t *testing.T, snapshot []byte) {
		g := newGate(t, MQTTTrigger{When: `previous != nil`, Changed: `payload`})
		if g.Restore(snapshot) != nil {
			return
		}
		step(t, g, 0, "fuzz", `1`)
		again := g.Snapshot()
		if !json.Valid(again) {
			t.Fatalf("snapshot %s", again)
		}
		if err := newGate(t, MQTTTrigger{Changed: `payload`}).Restore(again); err != nil {
			t.Errorf("Restore = %v for %s", err, again)
		}
	})
}
