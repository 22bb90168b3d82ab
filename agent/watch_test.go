package agent

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

func TestTheTrailTellsWhatBecameOfEachEvent(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("picky", `
triggers: [{mqtt: {topic: "in/{device}", when: "payload > 1"}}]
permissions: {publish: ["out/#"]}
delivery: {retry: {attempts: 2, backoff: 1s}}`, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			if string(inv.Event.Payload) == "3" {
				return thrown("never")
			}
			return publishes(inv, r)
		})
		for _, payload := range []string{"1", "2", "3"} {
			n.bus.say("in/a", payload)
			pass(10 * time.Second)
		}
		var got []edge.StepKind
		for s := range n.Steps(t.Context(), edge.Query{Function: "picky", Last: -1}) {
			got = append(got, s.What)
			if s.What == edge.StepFiltered && s.Why != "when: payload > 1" {
				t.Errorf("filtered %q, want the expression", s.Why)
			}
			if s.What == edge.StepDone && !slices.Equal(s.Published, []string{"out/a"}) {
				t.Errorf("done, published %q", s.Published)
			}
		}
		want := []edge.StepKind{edge.StepFiltered, edge.StepDone, edge.StepFailed, edge.StepStored, edge.StepDead}
		if !slices.Equal(got, want) {
			t.Errorf("steps %v, want %v", got, want)
		}
	})
}

func TestLogsAreFollowedByManyAndTheLastAreTold(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("talks", onIn, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			r.Log(functions.LevelInfo, string(inv.Event.Payload))
			return functions.Outcome{}
		})
		n.deploy("silent", onIn, publishes)
		for i := range 5 {
			n.bus.say("in/a", fmt.Sprint(i))
			synctest.Wait()
		}
		var last []string
		for l := range n.Logs(t.Context(), edge.Query{Function: "talks", Last: 2}) {
			last = append(last, l.Text)
		}
		if want := []string{"3", "4"}; !slices.Equal(last, want) {
			t.Errorf("last two %q, want %q", last, want)
		}
		for l := range n.Logs(t.Context(), edge.Query{Function: "silent", Last: -1}) {
			t.Errorf("a line of another function: %v", l)
		}

		ctx, cancel := context.WithCancel(t.Context())
		heard := make(chan []string)
		const watchers = 3
		for range watchers {
			go func() { // ends with ctx, and is received below
				var lines []string
				for l := range n.Logs(ctx, edge.Query{Last: 1, Follow: true}) {
					lines = append(lines, l.Text)
				}
				heard <- lines
			}()
		}
		synctest.Wait()
		n.bus.say("in/a", "new")
		synctest.Wait()
		cancel()
		for range watchers {
			if got, want := <-heard, []string{"4", "new"}; !slices.Equal(got, want) {
				t.Errorf("a watcher heard %q, want %q", got, want)
			}
		}
		if n.logs.watchers != 0 {
			t.Errorf("%d watchers are left", n.logs.watchers)
		}
	})
}

func TestARingKeepsTheLastAndAWatcherWhoStopsIsForgotten(t *testing.T) {
	r := newRing[int](4)
	for i := range 10 {
		r.add(i)
	}
	every := func(*int) bool { return true }
	for _, tt := range []struct {
		last int
		want []int
	}{{-1, []int{6, 7, 8, 9}}, {0, nil}, {1, []int{9}}, {100, []int{6, 7, 8, 9}}} {
		if got := slices.Collect(r.all(t.Context(), tt.last, false, every)); !slices.Equal(got, tt.want) {
			t.Errorf("last %d: %v, want %v", tt.last, got, tt.want)
		}
	}
	even := func(i *int) bool { return *i%2 == 0 }
	if got, want := slices.Collect(r.all(t.Context(), 1, false, even)), []int{8}; !slices.Equal(got, want) {
		t.Errorf("the last even one: %v, want %v", got, want)
	}
	for i := range r.all(t.Context(), -1, true, every) {
		if i == 7 {
			break
		}
	}
	if r.watchers != 0 {
		t.Errorf("%d watchers are left", r.watchers)
	}
}

func TestTheBooksBalanceInEveryScrape(t *testing.T) {
	bubble(t, func(t *testing.T, n *node) {
		n.deploy("mixed", `
triggers: [{mqtt: {topic: "in/{device}", when: "payload != 0"}}]
permissions: {publish: ["out/#"]}
delivery: {retry: {attempts: 2, backoff: 1s}, inbox: {deliveries: 20}}`, func(inv functions.Invocation, r functions.Run) functions.Outcome {
			time.Sleep(30 * time.Millisecond)
			if string(inv.Event.Payload) == "3" {
				return thrown("never")
			}
			return counting(inv, r)
		})
		reg := prometheus.NewPedanticRegistry()
		if err := reg.Register(n.Agent); err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			n.bus.say(fmt.Sprintf("in/d%d", i%7), fmt.Sprint(i%5))
			time.Sleep(3 * time.Millisecond)
			balance(t, reg)
		}
		pass(time.Minute)
		if pending := balance(t, reg); pending != 0 {
			t.Errorf("%v pending in the end", pending)
		}
	})
}

// balance scrapes the metrics and fails if the books do not balance. It returns
// what is pending.
func balance(t *testing.T, reg prometheus.Gatherer) (pending float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	in, out := 0.0, 0.0
	for _, family := range families {
		for _, m := range family.GetMetric() {
			switch family.GetName() {
			case "sedge_function_queue_length":
				pending = m.GetGauge().GetValue()
			case "sedge_deliveries_total":
				value := m.GetCounter().GetValue()
				switch m.GetLabel()[1].GetValue() {
				case "taken", "recovered":
					in += value
				default:
					out += value
				}
			}
		}
	}
	if in != out+pending {
		t.Errorf("in %v, out %v, pending %v: %v lost", in, out, pending, in-out-pending)
	}
	return pending
}
