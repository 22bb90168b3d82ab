package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

const preamble = `# Benchmarks

Written by ` + "`make bench`" + `, the section about the hub also by ` + "`make bench-hub`" + `, the
last one by ` + "`make bench-cluster`" + `; do not edit.

%s, on %s.
%s.

All processes (load, echo, broker, node) share that machine and speak over
loopback. Subjects take turns within one run, %d rounds of %v at each load; every
figure is the median over the rounds. Times are from before the load publishes an
event until its answer is back with it, both hops of the broker included.

- *bare echo*: one Go paho client with its default settings, in a process of its
  own. It publishes each message back from within its handler, in order, at the
  QoS it came with, and waits for nothing: no isolation, no retry, no promise.
- *sedge*: the same broker; a JavaScript function in a worker process parses the
  payload and publishes a small answer. The event is acknowledged when that
  publish is.
- *sedge, embedded broker*: the same function in ` + "`sedge up`" + ` with the broker of
  its own.

64 devices speak in turn. MB are millions of bytes.
`

// markdown returns the report as a page.
func (r *Report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, preamble, r.Time.UTC().Format(time.DateOnly), r.Machine, r.Versions, r.Options.rounds, r.Options.length)

	fmt.Fprint(&b, "\n## Budgets\n\n| what | budget | measured | |\n|---|---|---|---|\n")
	for _, g := range r.budgets() {
		verdict := "kept"
		if !g.Kept {
			verdict = "**missed**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", g.What, g.Allowed, g.Got, verdict)
	}
	fmt.Fprint(&b, "\n## Speed\n\nmosquitto with `max_inflight_messages 0`, `set_tcp_nodelay true` and no persistence.\n\n")
	speed(&b, r.Tuned, outside, embedded)
	fmt.Fprint(&b, "\nmosquitto as it comes.\n\n")
	speed(&b, r.Default, outside)
	r.thriftTables(&b)
	r.profiles(&b)
	return b.Bytes()
}

// speed writes the table of some comparisons with the bare echo.
func speed(w io.Writer, all []Comparison, others ...string) {
	fmt.Fprintf(w, "| load | figure | %s |", bare)
	for _, s := range others {
		fmt.Fprintf(w, " %s | ratio |", s)
	}
	fmt.Fprintf(w, "\n|---|---|---:|%s\n", strings.Repeat("---:|---:|", len(others)))
	for _, c := range all {
		if c.Scenario.Load.Rate > 0 {
			times(w, c, "p50", c.P50, others)
			times(w, c, "p99", c.P99, others)
			continue
		}
		fmt.Fprintf(w, "| %s | events/s | %.0f |", c.Scenario.Name, c.Rate(bare))
		for _, s := range others {
			fmt.Fprintf(w, " %.0f | %.2f× |", c.Rate(s), ratio(c.Rate(s), c.Rate(bare)))
		}
		fmt.Fprintln(w)
	}
	for _, c := range all {
		for _, s := range append([]string{bare}, others...) {
			if n := c.Lost(s); n > 0 {
				fmt.Fprintf(w, "\n%s left %d events without an answer at %s.\n", s, n, c.Scenario.Name)
			}
		}
	}
}

func times(w io.Writer, c Comparison, figure string, get func(string) time.Duration, others []string) {
	fmt.Fprintf(w, "| %s | %s, ms | %.3f |", c.Scenario.Name, figure, ms(get(bare)))
	for _, s := range others {
		fmt.Fprintf(w, " %.3f | %.2f× |", ms(get(s)), ratio(get(s), get(bare)))
	}
	fmt.Fprintln(w)
}

func (r *Report) thriftTables(w io.Writer) {
	took := r.Waking.Took
	fmt.Fprintf(w, "\n## First event of a sleeping function\n\n| | ms |\n|---|---:|\n| p50 | %.1f |\n| p90 | %.1f |\n| longest of %d | %.1f |\n",
		ms(quantile(took, 0.5)), ms(quantile(took, 0.9)), len(took), ms(took[len(took)-1]))

	fmt.Fprint(w, "\n## Bytes to storage\n\nAs the kernel counts them for the node and its runners (`write_bytes`).\n\n| | bytes |\n|---|---:|\n")
	for _, row := range []struct {
		what  string
		bytes float64
	}{
		{"an event that changes no state", r.Flash.Stateless},
		{"the first event of a sleeping function", r.Waking.Bytes},
		{"an event that changes state, 10 events a second", r.Flash.Stateful},
		{"an event that changes state, 1,000 events a second", r.Flash.Busy},
		{"an idle day, from " + r.Options.idle.String(), r.Flash.Idle},
	} {
		fmt.Fprintf(w, "| %s | %.0f |\n", row.what, row.bytes)
	}

	fmt.Fprint(w, "\n## Memory\n\nMB. Idle: three functions deployed, none at work. Loaded: the most seen at QoS 1 with 256 in flight.\n\n| | resident | proportional | anonymous |\n|---|---:|---:|---:|\n")
	for _, row := range []struct {
		what string
		m    Memory
	}{
		{"sedge-agent, idle", r.Agent.Node}, {"its runner, idle", r.Agent.Runner},
		{"sedge up, idle", r.Idle.Node}, {"its runner, idle", r.Idle.Runner},
		{"sedge up, loaded", r.Loaded.Node}, {"its runner, loaded", r.Loaded.Runner},
	} {
		fmt.Fprintf(w, "| %s | %.1f | %.1f | %.1f |\n", row.what, mb(row.m.RSS), mb(row.m.PSS), mb(row.m.Anonymous))
	}

	fmt.Fprint(w, "\n## Programs\n\nStripped.\n\n| | MB |\n|---|---:|\n")
	for _, b := range r.Binaries {
		fmt.Fprintf(w, "| %s | %.1f |\n", b.Name, mb(b.Size))
	}
}

// profiles shows where the time goes, if there was not enough of it.
func (r *Report) profiles(w io.Writer) {
	if !r.missed("QoS 1", "embedded") {
		return
	}
	fmt.Fprint(w, "\n## Where the time goes\n\nThe node's own processor time (runners, broker and load are processes of their own) at QoS 1 with 64 in flight, since a budget of speed was missed.\n")
	for _, s := range slices.Sorted(maps.Keys(r.Profiles)) {
		fmt.Fprintf(w, "\n%s:\n\n```\n%s```\n", s, r.Profiles[s])
	}
}
