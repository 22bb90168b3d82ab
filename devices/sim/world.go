package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/devices"
)

// A Bus is how a world reaches others. Both functions may be called from
// several goroutines.
type Bus struct {
	Publish func(devices.Publication) error

	// Subscribe has hear called with every message that filter, in MQTT's form,
	// means. hear does not wait, but it calls Publish.
	Subscribe func(filter string, hear func(topic string, payload []byte)) error
}

// A World is a set of devices. Its fields are set before Run.
type World struct {
	Rate     float64       // how often a second the story is told
	QoS      byte          // of what the devices say
	Patience time.Duration // how long to wait at the end for reactions that are due

	// Spoke and Obeyed, if set, are told what the devices said and which commands
	// they were given; device is the name without the prefix.
	Spoke  func(topic string, payload []byte, at time.Time)
	Obeyed func(device, command string, at time.Time)

	prefix string
	story  story

	mu      sync.Mutex
	rand    *rand.Rand         // guarded by mu
	all     []*device          // guarded by mu
	byName  map[string]*device // the map never changes
	tally   tally              // guarded by mu
	settled chan struct{}      // made by Run; holds a token when no reaction is due
}

// A story is something that a device says and another ought to be told for.
type story struct {
	teller, reacts string
	say            func(*rand.Rand, state)
}

// state is what a device last said of itself.
type state map[string]any

// A device is one thing behind the bridge.
type device struct {
	name  string
	model string
	every time.Duration // that it speaks on its own
	due   time.Time
	state state
	live  func(*rand.Rand, state) // changes the state as time goes by; nil: speaks only when told
	obeys func(state, state)      // takes a command; nil: takes none
}

func newWorld(seed uint64, prefix string, s story, all ...*device) *World {
	w := &World{
		Rate:     0.2,
		Patience: 5 * time.Second,
		prefix:   prefix,
		story:    s,
		rand:     rand.New(rand.NewPCG(seed, 1)),
		all:      all,
		byName:   map[string]*device{},
	}
	for _, d := range all {
		d.state["linkquality"] = 60 + w.rand.IntN(180)
		if d.model != "" && d.obeys == nil {
			d.state["battery"] = 55 + w.rand.IntN(46)
		}
		w.byName[d.name] = d
	}
	return w
}

// Run plays until ctx ends, and then waits for reactions that are still due. It
// returns an error only if the bus does. A world is played once.
func (w *World) Run(ctx context.Context, bus Bus) error {
	w.settled = make(chan struct{}, 1)
	hear := func(topic string, payload []byte) { w.hear(bus, topic, payload) }
	for _, filter := range []string{"/+/set", "/+/set/+", "/+/get"} {
		if err := bus.Subscribe(w.prefix+filter, hear); err != nil {
			return fmt.Errorf("subscribe to commands: %w", err)
		}
	}
	if err := w.publish(bus, w.introduce()); err != nil {
		return err
	}
	if err := w.play(ctx, bus); err != nil {
		return err
	}
	w.await()
	return w.publish(bus, []devices.Publication{w.bridge("offline")})
}

// play tells the devices' lives, and the story at its rate.
func (w *World) play(ctx context.Context, bus Bus) error {
	start := time.Now()
	w.begin(start)
	told := 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		now := time.Now()
		for due := int(now.Sub(start).Seconds() * w.Rate); told < due; told++ {
			if err := w.tell(bus); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return nil
			}
		}
		said, next := w.live(now)
		if err := w.publish(bus, said); err != nil {
			return err
		}
		if w.Rate > 0 {
			next = min(next, time.Duration(float64(told+1)/w.Rate*float64(time.Second))-time.Since(start))
		}
		timer.Reset(max(next, time.Millisecond))
	}
}

// begin spreads the devices' first words over the time in which they speak.
func (w *World) begin(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.all {
		if d.live != nil {
			d.due = now.Add(time.Duration(w.rand.Int64N(int64(d.every))))
		}
	}
}

// live returns what the devices say now, and when the next one speaks.
func (w *World) live(now time.Time) (said []devices.Publication, next time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next = time.Hour
	for _, d := range w.all {
		if d.live == nil {
			continue
		}
		if !d.due.After(now) {
			d.live(w.rand, d.state)
			said = append(said, w.sayLocked(d, now))
			d.due = now.Add(d.every/2 + time.Duration(w.rand.Int64N(int64(d.every))))
		}
		next = min(next, d.due.Sub(now))
	}
	return said, next
}

// tell tells the story once.
func (w *World) tell(bus Bus) error {
	w.mu.Lock()
	d := w.byName[w.story.teller]
	w.story.say(w.rand, d.state)
	now := time.Now()
	p := w.sayLocked(d, now)
	w.tally.expect(now)
	w.mu.Unlock()
	return w.publish(bus, []devices.Publication{p})
}

// sayLocked returns what a device says of itself.
func (w *World) sayLocked(d *device, now time.Time) devices.Publication {
	q := d.state["linkquality"].(int) + w.rand.IntN(9) - 4
	d.state["linkquality"] = min(max(q, 20), 255)
	d.state["last_seen"] = now.UTC().Format(time.RFC3339Nano)
	return devices.Publication{Topic: w.prefix + "/" + d.name, Payload: encode(d.state), QoS: w.QoS}
}

// encode never fails: what devices say is numbers, words and lists of them.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func (w *World) publish(bus Bus, all []devices.Publication) error {
	for _, p := range all {
		if w.Spoke != nil {
			w.Spoke(p.Topic, p.Payload, time.Now())
		}
		if err := bus.Publish(p); err != nil {
			return fmt.Errorf("publish %s: %w", p.Topic, err)
		}
	}
	return nil
}

// hear has a device obey. What makes no sense to it is passed over, as the
// bridge would.
func (w *World) hear(bus Bus, topic string, payload []byte) {
	now := time.Now()
	name, verb, _ := strings.Cut(strings.TrimPrefix(topic, w.prefix+"/"), "/")
	d := w.byName[name]
	if d == nil {
		return
	}
	command := state{}
	if verb != "get" {
		var err error
		if command, err = parse(strings.TrimPrefix(verb, "set"), payload); err != nil || d.obeys == nil {
			return
		}
		if w.Obeyed != nil {
			w.Obeyed(name, string(payload), now)
		}
	}
	w.mu.Lock()
	if verb != "get" {
		d.obeys(d.state, command)
		if name == w.story.reacts && w.tally.react(now) {
			w.settle()
		}
	}
	p := w.sayLocked(d, now)
	w.mu.Unlock()
	w.publish(bus, []devices.Publication{p}) // Run meets the same error
}

// parse reads a command: an object, a bare word for the state, or a bare value
// for the attribute that the topic names.
func parse(attribute string, payload []byte) (state, error) {
	attribute = strings.TrimPrefix(attribute, "/")
	var v any
	if err := json.Unmarshal(payload, &v); err != nil {
		v = string(payload)
	}
	if attribute != "" {
		return state{attribute: v}, nil
	}
	switch v := v.(type) {
	case map[string]any:
		return v, nil
	case string:
		return state{"state": v}, nil
	}
	return nil, errors.New("neither an object nor a word")
}

func (w *World) settle() {
	select {
	case w.settled <- struct{}{}:
	default:
	}
}

// await waits for the reactions that are due, as long as patience lasts.
func (w *World) await() {
	over := time.After(w.Patience)
	for {
		if t := w.Tally(); t.Reactions >= t.Events {
			return
		}
		select {
		case <-w.settled:
		case <-over:
			return
		}
	}
}

// introduce returns what a bridge says when it comes up.
func (w *World) introduce() []devices.Publication {
	all := []devices.Publication{w.bridge("online"), {Topic: w.prefix + "/bridge/devices", Payload: w.inventory(), QoS: w.QoS, Retain: true}}
	for _, d := range w.all {
		all = append(all, devices.Publication{
			Topic: w.prefix + "/" + d.name + "/availability", Payload: []byte(`{"state":"online"}`), QoS: w.QoS, Retain: true,
		})
	}
	return all
}

func (w *World) bridge(is string) devices.Publication {
	return devices.Publication{Topic: w.prefix + "/bridge/state", Payload: encode(state{"state": is}), QoS: w.QoS, Retain: true}
}

// inventory lists the devices with what they expose.
func (w *World) inventory() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []state
	for i, d := range w.all {
		var exposes []state
		for _, property := range properties(d.state) {
			exposes = append(exposes, state{"name": property, "property": property, "access": access(d, property), "type": kind(d.state[property])})
		}
		list = append(list, state{
			"friendly_name": d.name, "ieee_address": fmt.Sprintf("0x00158d00%08x", i+1), "type": "EndDevice",
			"supported": true, "interview_completed": true,
			"definition": state{"model": d.model, "vendor": "sedge", "description": d.name, "exposes": exposes},
		})
	}
	return encode(list)
}
