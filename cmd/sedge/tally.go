package main

import (
	"slices"
	"sync"
	"time"
)

// A tally counts what devices said that a function must answer, and what was
// answered. Answers of one place come in the order of what was said there. Its
// methods may be called from several goroutines.
type tally struct {
	mu        sync.Mutex
	open      map[string][]time.Time // guarded by mu; by place: when it was said and not answered yet, oldest first
	events    int                    // guarded by mu
	reactions int                    // guarded by mu
	took      []time.Duration        // guarded by mu; the latest, in no order
	latest    []reaction             // guarded by mu; newest last
}

// A reaction is an event of a place and how long its answer took.
type reaction struct {
	place string
	at    time.Time
	took  time.Duration
}

const (
	maxTook   = 1 << 16 // reactions that the quantiles are of
	maxLatest = 8
)

func newTally() *tally { return &tally{open: map[string][]time.Time{}} }

// said notes that something was said which must be answered.
func (t *tally) said(place string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events++
	t.open[place] = append(t.open[place], at)
}

// answered notes an answer. One that nothing asked for is not counted.
func (t *tally) answered(place string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	open := t.open[place]
	if len(open) == 0 {
		return
	}
	r := reaction{place, at, at.Sub(open[0])}
	t.open[place] = open[1:]
	if len(t.took) < maxTook {
		t.took = append(t.took, r.took)
	} else {
		t.took[t.reactions%maxTook] = r.took
	}
	t.reactions++
	t.latest = append(t.latest[max(0, len(t.latest)-maxLatest+1):], r)
}

// A count is a tally at one moment.
type count struct {
	events, reactions int
	p50, p99          time.Duration
	latest            []reaction
}

// lost is how many events were not answered.
func (c count) lost() int { return c.events - c.reactions }

func (t *tally) count() count {
	t.mu.Lock()
	took := slices.Clone(t.took)
	c := count{events: t.events, reactions: t.reactions, latest: slices.Clone(t.latest)}
	t.mu.Unlock()
	if len(took) > 0 {
		slices.Sort(took)
		c.p50, c.p99 = took[len(took)/2], took[len(took)*99/100]
	}
	return c
}
