package main

import (
	"bytes"
	"testing"
	"time"
)

func TestATallyMatchesAnswersByPlaceAndOrder(t *testing.T) {
	began := time.Unix(0, 0)
	at := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	ta := newTally()
	ta.said("hall", at(0))
	ta.said("attic", at(1))
	ta.said("hall", at(10))
	ta.answered("attic", at(4))  // after 3 ms
	ta.answered("hall", at(2))   // after 2 ms
	ta.answered("cellar", at(5)) // nobody asked
	c := ta.count()
	if c.events != 3 || c.reactions != 2 || c.lost() != 1 {
		t.Errorf("tally has %d events, %d reactions, %d lost; want 3, 2, 1", c.events, c.reactions, c.lost())
	}
	ta.answered("hall", at(30)) // after 20 ms
	ta.answered("hall", at(31)) // once too often
	c = ta.count()
	if c.lost() != 0 || c.p50 != 3*time.Millisecond || c.p99 != 20*time.Millisecond {
		t.Errorf("tally has %d lost, p50 %s, p99 %s; want 0, 3ms, 20ms", c.lost(), c.p50, c.p99)
	}
	if last := c.latest[len(c.latest)-1]; last.place != "hall" || last.took != 20*time.Millisecond {
		t.Errorf("the latest reaction is %+v, want hall's after 20 ms", last)
	}
}

func TestATallyStaysSmall(t *testing.T) {
	ta := newTally()
	for range maxTook + 100 {
		ta.said("hall", time.Time{})
		ta.answered("hall", time.Time{})
	}
	if c := ta.count(); c.lost() != 0 || len(c.latest) != maxLatest || len(ta.took) != maxTook {
		t.Errorf("tally has %d lost, %d latest, %d kept; want 0, %d, %d", c.lost(), len(c.latest), len(ta.took), maxLatest, maxTook)
	}
}

func TestADemoThatLeftAnEventUnansweredFails(t *testing.T) {
	for _, tt := range []struct {
		count count
		want  int
		line  string
	}{
		{count{events: 2, reactions: 2, p50: 800 * time.Microsecond, p99: 2 * time.Millisecond}, exitOK, "events=2 reactions=2 lost=0 p50_ms=0.80 p99_ms=2.00\n"},
		{count{events: 2, reactions: 1}, exitFailure, "events=2 reactions=1 lost=1 p50_ms=0.00 p99_ms=0.00\n"},
		{count{}, exitFailure, "events=0 reactions=0 lost=0 p50_ms=0.00 p99_ms=0.00\n"},
	} {
		var out bytes.Buffer
		err := (&shell{out: &out}).sumUp(tt.count)
		if got := exitCode(err); got != tt.want || out.String() != tt.line {
			t.Errorf("sumUp(%+v) exits with %d and says %q, want %d and %q", tt.count, got, out.String(), tt.want, tt.line)
		}
	}
}
