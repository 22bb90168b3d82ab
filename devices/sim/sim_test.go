package sim

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/devices"
)

// A bus in memory keeps what was said, and has a rule that may answer.
type bus struct {
	answer func(topic string, payload map[string]any) (string, string)

	mu   sync.Mutex
	said []devices.Publication           // guarded by mu
	subs map[string]func(string, []byte) // guarded by mu
}

func (b *bus) Bus() Bus {
	return Bus{Publish: b.publish, Subscribe: func(filter string, hear func(string, []byte)) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.subs == nil {
			b.subs = map[string]func(string, []byte){}
		}
		b.subs[filter] = hear
		return nil
	}}
}

func (b *bus) publish(p devices.Publication) error {
	b.mu.Lock()
	b.said = append(b.said, p)
	b.mu.Unlock()
	if b.answer == nil {
		return nil
	}
	var payload map[string]any
	json.Unmarshal(p.Payload, &payload)
	if topic, command := b.answer(p.Topic, payload); topic != "" {
		b.tell(topic, command)
	}
	return nil
}

// tell publishes a command to whoever subscribes to it.
func (b *bus) tell(topic, command string) {
	b.mu.Lock()
	var hear []func(string, []byte)
	for filter, h := range b.subs {
		if f, err := devices.ParseFilter(filter); err == nil {
			if _, ok := f.Match(topic); ok {
				hear = append(hear, h)
			}
		}
	}
	b.mu.Unlock()
	for _, h := range hear {
		h(topic, []byte(command))
	}
}

// last returns what was last said on topic.
func (b *bus) last(t *testing.T, topic string) map[string]any {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range slices.Backward(b.said) {
		if p.Topic == topic {
			var v map[string]any
			if err := json.Unmarshal(p.Payload, &v); err != nil {
				t.Fatalf("%s: %v", topic, err)
			}
			return v
		}
	}
	t.Fatalf("nothing was said on %s", topic)
	return nil
}

// nightLight is what the example function does.
func nightLight(topic string, payload map[string]any) (string, string) {
	lux, _ := payload["illuminance"].(float64)
	if strings.HasPrefix(topic, "zigbee2mqtt/") && payload["occupancy"] == true && lux < 20 {
		return "zigbee2mqtt/hall_lamp/set", `{"state":"ON","brightness":80}`
	}
	return "", ""
}

// play runs a world for some time in a bubble.
func play(t *testing.T, w *World, b *bus, span time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), span)
	defer cancel()
	if err := w.Run(ctx, b.Bus()); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}

func TestEveryWalkIsAnsweredByTheNightLight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b := Home(1), &bus{answer: nightLight}
		w.Rate = 100
		play(t, w, b, 10*time.Second)
		got := w.Tally()
		if got.Events < 990 || got.Events > 1000 || got.Lost() != 0 || got.Surplus != 0 {
			t.Errorf("tally is %v with %d surplus, want about 1000 events and as many reactions", got, got.Surplus)
		}
		if lamp := b.last(t, "zigbee2mqtt/hall_lamp"); lamp["state"] != "ON" || lamp["brightness"] != 80.0 {
			t.Errorf("the lamp says %v", lamp)
		}
	})
}

func TestAReactionThatDoesNotComeIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, n := Home(1), 0
		w.Rate = 10
		play(t, w, &bus{answer: func(topic string, payload map[string]any) (string, string) {
			to, command := nightLight(topic, payload)
			if to != "" {
				if n++; n%4 == 0 {
					return "", ""
				}
			}
			return to, command
		}}, 10*time.Second+time.Millisecond)
		if got := w.Tally(); got.Events != 100 || got.Lost() != 25 {
			t.Errorf("tally is %v, want 100 events and 25 lost", got)
		}
	})
}

func TestReactionTimesAreMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late sync.WaitGroup
		w, b := Home(1), &bus{}
		w.Rate = 10
		b.answer = func(topic string, payload map[string]any) (string, string) {
			if to, command := nightLight(topic, payload); to != "" {
				late.Go(func() {
					time.Sleep(20 * time.Millisecond)
					b.tell(to, command)
				})
			}
			return "", ""
		}
		play(t, w, b, 10*time.Second)
		late.Wait()
		got := w.Tally()
		near := func(d time.Duration) bool { return 19*time.Millisecond < d && d < 21*time.Millisecond }
		if got.Lost() != 0 || !near(got.P50) || !near(got.P99) {
			t.Errorf("tally is %v, want none lost and about 20 ms", got)
		}
	})
}

func TestTheSameSeedSaysTheSame(t *testing.T) {
	said := func(seed uint64, make func(uint64) *World) (all []devices.Publication) {
		synctest.Test(t, func(t *testing.T) {
			b := &bus{}
			play(t, make(seed), b, 10*time.Minute)
			all = b.said
		})
		return all
	}
	equal := func(a, b devices.Publication) bool {
		return a.Topic == b.Topic && string(a.Payload) == string(b.Payload)
	}
	for _, make := range []func(uint64) *World{Home, Factory} {
		first := said(7, make)
		if !slices.EqualFunc(first, said(7, make), equal) {
			t.Error("the same seed says something else")
		}
		if slices.EqualFunc(first, said(8, make), equal) {
			t.Error("another seed says the same")
		}
		if len(first) < 100 {
			t.Errorf("only %d messages in 10 minutes", len(first))
		}
	}
}

func TestEveryDeviceIsIntroducedAndSpeaksJSON(t *testing.T) {
	for _, w := range []*World{Home(1), Factory(1)} {
		synctest.Test(t, func(t *testing.T) {
			b := &bus{}
			play(t, w, b, time.Hour)
			retained := map[string]string{}
			spoke := map[string]bool{}
			for _, p := range b.said {
				if !json.Valid(p.Payload) {
					t.Errorf("%s says %s", p.Topic, p.Payload)
				}
				if p.Retain {
					retained[p.Topic] = string(p.Payload)
				} else {
					spoke[p.Topic] = true
				}
			}
			var list []struct {
				Name string `json:"friendly_name"`
			}
			if err := json.Unmarshal([]byte(retained[w.prefix+"/bridge/devices"]), &list); err != nil || len(list) != len(w.all) {
				t.Errorf("%d devices are listed (%v), want %d", len(list), err, len(w.all))
			}
			for _, d := range w.all {
				if retained[w.prefix+"/"+d.name+"/availability"] != `{"state":"online"}` {
					t.Errorf("%s is not said to be online", d.name)
				}
				if d.live != nil && !spoke[w.prefix+"/"+d.name] {
					t.Errorf("%s never speaks; who does: %v", d.name, slices.Sorted(maps.Keys(spoke)))
				}
			}
			if retained[w.prefix+"/bridge/state"] != `{"state":"offline"}` {
				t.Error("the bridge does not say goodbye")
			}
		})
	}
}

func TestDevicesObey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b := Home(1), &bus{}
		w.Rate = 0
		var obeyed []string
		w.Obeyed = func(device, command string, _ time.Time) { obeyed = append(obeyed, device+" "+command) }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx, b.Bus()) }()
		synctest.Wait()
		for _, tt := range []struct {
			topic, command string
			state          string
			brightness     float64
		}{
			{"set", `{"state":"ON","brightness":80}`, "ON", 80},
			{"set", `{"brightness":9999}`, "ON", 254},
			{"set", `OFF`, "OFF", 254},
			{"set", `{"state":"toggle"}`, "ON", 254},
			{"set/brightness", `12`, "ON", 12},
			{"set/state", `OFF`, "OFF", 12},
			{"set", `{"state":7,"brightness":"x"}`, "OFF", 12},
			{"set", `[1]`, "OFF", 12},
			{"set", ``, "OFF", 12},
			{"get", ``, "OFF", 12},
		} {
			b.tell("zigbee2mqtt/hall_lamp/"+tt.topic, tt.command)
			if s := b.last(t, "zigbee2mqtt/hall_lamp"); s["state"] != tt.state || s["brightness"] != tt.brightness {
				t.Errorf("after %s %s the lamp says %v", tt.topic, tt.command, s)
			}
		}
		b.tell("zigbee2mqtt/nobody/set", `{"state":"ON"}`)
		b.tell("zigbee2mqtt/front_door/set", `{"state":"ON"}`)
		if obeyed[0] != `hall_lamp {"state":"ON","brightness":80}` {
			t.Errorf("obeyed %q first", obeyed[0])
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestABusThatFailsEndsTheWorld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		n := 0
		b := (&bus{}).Bus()
		b.Publish = func(devices.Publication) error {
			if n++; n > 50 {
				return gone
			}
			return nil
		}
		if err := Factory(1).Run(t.Context(), b); !errors.Is(err, gone) {
			t.Errorf("Run = %v, want %v", err, gone)
		}
	})
}
