package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// A Subject answers events.
type Subject struct {
	Name    string
	Broker  string // host:port
	In, Out string // prefixes of topics
}

// A Scenario is a load that is put to several subjects in turn.
type Scenario struct {
	Name string
	Load Load
}

// scenarios are the loads that all subjects meet.
func scenarios(o options) []Scenario {
	paced := func(rate int) Scenario {
		return Scenario{fmt.Sprintf("%d/s, QoS 1", rate), Load{QoS: 1, Rate: rate, Window: 4096}}
	}
	full := func(qos byte, window int) Scenario {
		return Scenario{fmt.Sprintf("QoS %d, %d in flight", qos, window), Load{QoS: qos, Window: window}}
	}
	all := []Scenario{paced(100), paced(1000), full(1, 64), full(1, 256), full(0, 64), full(0, 256)}
	for i := range all {
		all[i].Load.Devices, all[i].Load.Warm, all[i].Load.For = 64, o.length/4, o.length
	}
	return all
}

// A Comparison is how several subjects met one scenario.
type Comparison struct {
	Scenario Scenario
	Results  map[string][]Result // by subject, round by round
}

// compare puts a scenario to the subjects, turn by turn, so that whatever else
// the machine does meets them all.
func compare(ctx context.Context, sc Scenario, subjects []Subject, rounds int) (Comparison, error) {
	c := Comparison{Scenario: sc, Results: map[string][]Result{}}
	for range rounds {
		for _, s := range subjects {
			load := sc.Load
			load.Broker, load.In, load.Out = s.Broker, s.In, s.Out
			r, err := speak(ctx, load)
			if err != nil {
				return c, fmt.Errorf("%s, %s: %w", s.Name, sc.Name, err)
			}
			c.Results[s.Name] = append(c.Results[s.Name], r)
		}
	}
	return c, nil
}

// P50, P99 and Rate return the median over the rounds of a subject.
func (c Comparison) P50(subject string) time.Duration {
	return median(c.Results[subject], func(r Result) time.Duration { return r.P50 })
}

func (c Comparison) P99(subject string) time.Duration {
	return median(c.Results[subject], func(r Result) time.Duration { return r.P99 })
}

func (c Comparison) Rate(subject string) float64 {
	return median(c.Results[subject], func(r Result) float64 { return r.Rate })
}

// Lost returns how many events of a subject were not answered.
func (c Comparison) Lost(subject string) (sum int) {
	for _, r := range c.Results[subject] {
		sum += r.Lost
	}
	return sum
}

// median returns the middle one of what get takes from each result, or zero.
func median[T cmp.Ordered](results []Result, get func(Result) T) (zero T) {
	var values []T
	for _, r := range results {
		values = append(values, get(r))
	}
	if len(values) == 0 {
		return zero
	}
	slices.Sort(values)
	return values[len(values)/2]
}
