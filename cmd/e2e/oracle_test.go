package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// An output is what a function says about the event that it ran on.
type output struct {
	Function string `json:"function"`
	Device   string `json:"device"`
	N        int    `json:"n"`  // the device's number of the event; the first is 1
	ID       string `json:"id"` // that sedge gave the event
}

// An oracle hears every output of a run and judges the run by them. Its methods
// may be called from several goroutines.
type oracle struct {
	mu    sync.Mutex
	lanes map[lane]*track // guarded by mu
}

type lane struct{ function, device string }

func (l lane) String() string { return l.function + "/" + l.device }

// A track is what one function said about one device.
type track struct {
	times    map[int]int    // number → outputs
	ids      map[int]string // number → id of its first output
	highest  int
	inverted []string // a number that came first after a higher one
	renamed  []string // a number whose outputs bear different ids
}

func newOracle() *oracle { return &oracle{lanes: map[lane]*track{}} }

func (o *oracle) hear(out output) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := lane{out.Function, out.Device}
	t := o.lanes[l]
	if t == nil {
		t = &track{times: map[int]int{}, ids: map[int]string{}}
		o.lanes[l] = t
	}
	t.times[out.N]++
	if t.times[out.N] > 1 {
		if id := t.ids[out.N]; id != out.ID {
			t.renamed = append(t.renamed, fmt.Sprintf("%v: %d was %s and %s", l, out.N, id, out.ID))
		}
		return
	}
	t.ids[out.N] = out.ID
	if out.N < t.highest {
		t.inverted = append(t.inverted, fmt.Sprintf("%v: %d came after %d", l, out.N, t.highest))
	}
	t.highest = max(t.highest, out.N)
}

// reached returns nil if the function has said so high a number of the device.
func (o *oracle) reached(function, device string, n int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := lane{function, device}
	if t := o.lanes[l]; t == nil {
		return fmt.Errorf("%v has not begun", l)
	} else if t.highest < n {
		return fmt.Errorf("%v is at %d of %d", l, t.highest, n)
	}
	return nil
}

// heard returns on how many events the function has run.
func (o *oracle) heard(function string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for l, t := range o.lanes {
		if l.function == function {
			n += len(t.times)
		}
	}
	return n
}

// A verdict is how a run was.
type verdict struct {
	events   int      // for one function each
	lost     []string // acknowledged by the broker and never run
	inverted []string
	renamed  []string
	repeated int // outputs beyond the first
}

// judge compares the outputs of the functions with how many events the broker
// acknowledged for each device.
func (o *oracle) judge(functions []string, sent map[string]int) verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	var v verdict
	for _, f := range functions {
		for _, device := range slices.Sorted(maps.Keys(sent)) {
			l := lane{f, device}
			t := o.lanes[l]
			if t == nil {
				t = &track{}
			}
			v.events += sent[device]
			for n := 1; n <= sent[device]; n++ {
				if t.times[n] == 0 {
					v.lost = append(v.lost, fmt.Sprintf("%v: %d", l, n))
				}
				v.repeated += max(t.times[n]-1, 0)
			}
			v.inverted = append(v.inverted, t.inverted...)
			v.renamed = append(v.renamed, t.renamed...)
		}
	}
	return v
}

func (v verdict) String() string {
	return fmt.Sprintf("%d deliveries: %d lost%s, %d out of order%s, %d renamed%s, %d repeated", v.events,
		len(v.lost), sample(v.lost), len(v.inverted), sample(v.inverted), len(v.renamed), sample(v.renamed), v.repeated)
}

// sample shows the first few of what may be thousands.
func sample(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return " (" + strings.Join(all[:min(len(all), 5)], "; ") + ")"
}

func TestAnOracleSeesEachKindOfFault(t *testing.T) {
	for _, c := range []struct {
		name string
		said []output // function f, device d
		want string   // of two events
	}{
		{"none", []output{{N: 1, ID: "a"}, {N: 2, ID: "b"}}, "2 deliveries: 0 lost, 0 out of order, 0 renamed, 0 repeated"},
		{"a repetition is none", []output{{N: 1, ID: "a"}, {N: 2, ID: "b"}, {N: 1, ID: "a"}, {N: 2, ID: "b"}}, "2 deliveries: 0 lost, 0 out of order, 0 renamed, 2 repeated"},
		{"silence", nil, "2 deliveries: 2 lost (f/d: 1; f/d: 2), 0 out of order, 0 renamed, 0 repeated"},
		{"a loss", []output{{N: 2, ID: "b"}}, "2 deliveries: 1 lost (f/d: 1), 0 out of order, 0 renamed, 0 repeated"},
		{"an inversion", []output{{N: 2, ID: "b"}, {N: 1, ID: "a"}}, "2 deliveries: 0 lost, 1 out of order (f/d: 1 came after 2), 0 renamed, 0 repeated"},
		{"another id", []output{{N: 1, ID: "a"}, {N: 1, ID: "x"}, {N: 2, ID: "b"}}, "2 deliveries: 0 lost, 0 out of order, 1 renamed (f/d: 1 was a and x), 1 repeated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOracle()
			for _, out := range c.said {
				out.Function, out.Device = "f", "d"
				o.hear(out)
			}
			if got := o.judge([]string{"f"}, map[string]int{"d": 2}).String(); got != c.want {
				t.Errorf("verdict = %q, want %q", got, c.want)
			}
		})
	}
}
