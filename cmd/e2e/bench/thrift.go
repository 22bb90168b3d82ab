package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// A Footprint is the memory of a node and of the largest of its runners.
type Footprint struct{ Node, Runner Memory }

func footprint(pid int) (f Footprint, err error) {
	if f.Node, err = memoryOf(pid); err != nil {
		return f, err
	}
	for _, p := range family(pid)[1:] {
		m, err := memoryOf(p)
		if err == nil && m.PSS > f.Runner.PSS { // else it has gone meanwhile
			f.Runner = m
		}
	}
	return f, nil
}

// under returns the largest footprint of a node while a load lasts.
func under(ctx context.Context, n *node, load Load) (most Footprint, err error) {
	done := make(chan error, 1)
	go func() { // awaited below
		_, err := speak(ctx, load)
		done <- err
	}()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return most, err
		case <-tick.C:
			f, err := footprint(n.pid())
			if err != nil {
				continue // the load's error says more
			}
			if f.Node.RSS > most.Node.RSS {
				most.Node = f.Node
			}
			if f.Runner.PSS > most.Runner.PSS {
				most.Runner = f.Runner
			}
		}
	}
}

// Flash is how many bytes go to storage.
type Flash struct {
	Counted   bool    // false: the file system does not count
	Stateless float64 // an event that changes nothing
	First     float64 // the first event of a sleeping function
	Stateful  float64 // an event that changes state, at 10 events a second
	Busy      float64 // the same at 1,000 events a second
	Idle      float64 // a day of doing nothing
}

// calm is how long a node may take to write what is not urgent.
const calm = 3 * time.Second

// flash measures what a node writes for each kind of event.
func flash(ctx context.Context, o options, n *node, broker string) (f Flash, err error) {
	if f.Counted, err = countsWrites(n.dir); err != nil || !f.Counted {
		return f, err
	}
	for _, m := range []struct {
		function string
		rate     int
		to       *float64
	}{{"lamp", 200, &f.Stateless}, {"count", 10, &f.Stateful}, {"count", 1000, &f.Busy}} {
		load := Load{Broker: broker, In: m.function + "/in", Out: m.function + "/out", Devices: 8, QoS: 1, Rate: m.rate, Window: 4096, For: 2 * o.length}
		if *m.to, err = bytesPerEvent(ctx, n, load); err != nil {
			return f, err
		}
	}
	before := written(n.pid())
	rest(ctx, o.idle)
	f.Idle = float64(written(n.pid())-before) * float64(24*time.Hour) / float64(o.idle)
	return f, ctx.Err()
}

func bytesPerEvent(ctx context.Context, n *node, load Load) (float64, error) {
	rest(ctx, calm)
	before := written(n.pid())
	r, err := speak(ctx, load)
	if err != nil {
		return 0, err
	}
	rest(ctx, calm)
	return float64(written(n.pid())-before) / float64(r.Sent), nil
}

// A Waking is how long first events of a sleeping function took, sorted, and how
// many bytes each cost.
type Waking struct {
	Took  []time.Duration
	Bytes float64
}

// wake sends a function events that each find it asleep.
func wake(ctx context.Context, n *node, broker string, times int) (w Waking, err error) {
	answers := make(chan struct{}, 1)
	c, err := connect(broker, "bench-waker", func(c mqtt.Client) error {
		return wait(c.Subscribe("sleepy/out/+", 1, func(mqtt.Client, mqtt.Message) { answers <- struct{}{} }))
	})
	if err != nil {
		return w, err
	}
	defer c.Disconnect(100)
	before := int64(0)
	for i := range times + 1 {
		if err := n.asleep(ctx, "sleepy"); err != nil {
			return w, err
		}
		if i == 1 { // the first one only prepares the ground
			before = written(n.pid())
		}
		begin := time.Now()
		c.Publish("sleepy/in/d"+strconv.Itoa(i), 1, false, `{"t":0,"occupancy":true,"illuminance":4}`)
		select {
		case <-answers:
		case <-time.After(patience):
			return w, errors.New("a sleeping function did not answer")
		case <-ctx.Done():
			return w, ctx.Err()
		}
		if i > 0 {
			w.Took = append(w.Took, time.Since(begin))
		}
	}
	rest(ctx, calm)
	w.Bytes = float64(written(n.pid())-before) / float64(times)
	slices.Sort(w.Took)
	return w, nil
}

// A Binary is a program as it is shipped.
type Binary struct {
	Name string
	Size int64
}

// binaries lists what "make cross" built.
func binaries(dir string) ([]Binary, error) {
	files, err := filepath.Glob(filepath.Join(dir, "sedge*-linux-*"))
	if err != nil {
		return nil, err
	}
	var all []Binary
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		all = append(all, Binary{filepath.Base(name), info.Size()})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s is empty: make cross fills it", dir)
	}
	return all, nil
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
