package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices/sim"
)

func TestADemoThatLeftAnEventUnansweredFails(t *testing.T) {
	for _, tt := range []struct {
		tally sim.Tally
		want  int
		line  string
	}{
		{sim.Tally{Events: 2, Reactions: 2, P50: 800 * time.Microsecond, P99: 2 * time.Millisecond}, exitOK, "events=2 reactions=2 lost=0 p50_ms=0.80 p99_ms=2.00\n"},
		{sim.Tally{Events: 2, Reactions: 1}, exitFailure, "events=2 reactions=1 lost=1 p50_ms=0.00 p99_ms=0.00\n"},
		{sim.Tally{}, exitFailure, "events=0 reactions=0 lost=0 p50_ms=0.00 p99_ms=0.00\n"},
	} {
		var out bytes.Buffer
		err := (&shell{out: &out}).sumUp(tt.tally)
		if got := exitCode(err); got != tt.want || out.String() != tt.line {
			t.Errorf("sumUp(%v) exits with %d and says %q, want %d and %q", tt.tally, got, out.String(), tt.want, tt.line)
		}
	}
}

func TestTheTapeKeepsTheLatest(t *testing.T) {
	var ta tape
	began := time.Unix(0, 0)
	ta.lit("unasked", began)
	for i := range 20 {
		at := began.Add(time.Duration(i) * time.Second)
		ta.moved(at)
		ta.lit("on", at.Add(time.Duration(i)*time.Millisecond))
	}
	all := ta.reactions()
	if len(all) != maxLatest {
		t.Fatalf("tape has %d reactions, want %d", len(all), maxLatest)
	}
	if got, want := all[len(all)-1].took, 19*time.Millisecond; got != want {
		t.Errorf("the latest took %s, want %s", got, want)
	}
}
