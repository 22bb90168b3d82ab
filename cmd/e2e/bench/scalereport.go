package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"time"
)

const hubPreamble = `
## Hub

%s, on %s. %s.

%d nodes, simulated in one process beside the hub's, on the same machine, so that
what TLS and the seal within it cost the nodes is in all times: each has a key, a link
over TLS from 127.0.0.x, a replica and what it reports, and runs %d functions without
running them. A message to all is read once for all of them. Medians; the load is the
machine's over the minute before, in processes that want to run.

`

// measureHub returns the section about the hub.
func measureHub(ctx context.Context, o options) ([]byte, error) {
	dir, err := os.MkdirTemp("", "sedge-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s, err := scale(ctx, o, dir)
	if err != nil {
		return nil, err
	}
	if s.Deploys, err = measureDeploys(ctx, o, dir); err != nil {
		return nil, err
	}
	return s.markdown(), nil
}

// A goal is a budget of the hub, and what of it was profiled.
type goal struct {
	Budget
	profile string
}

// goals compares the scale with what was promised.
func (s *Scale) goals() []goal {
	most := func(profile, what, format string, limit, got float64) goal {
		return goal{Budget{what, "≤ " + fmt.Sprintf(format, limit), fmt.Sprintf(format, got), got <= limit}, profile}
	}
	back := middle(s.Storms, func(x Storm) time.Duration { return x.Took })
	crowd := middle(s.Storms, func(x Storm) float64 { return float64(x.Peak) / x.Mean })
	return []goal{
		most("memory", "resident memory of the hub for a node", "%.1f KiB", 32, s.each(s.Full.Resident-s.Empty.Resident)),
		most("a change", "a change of 10 kB to all, until the last has said to have it", "%.2f s", 1, s.pushed().Seconds()),
		most("a restart", "all back after a restart of the hub", "%.1f s", 30, back.Seconds()),
		most("a restart", "dials in the busiest tenth of a second of that, against the mean", "%.2f×", 3, crowd),
		most("", "from `sedge deploy` to the function running on a connected node, median of 50", "%.2f s", 1, s.Deploys.Median.Seconds()),
		most("", "an idle node to the hub", "%.3f kbit/s", 0.25, s.Idle.Up*8/1000),
	}
}

// each returns bytes as KiB for a node.
func (s *Scale) each(bytes int64) float64 { return float64(bytes) / 1024 / float64(s.Nodes) }

func (s *Scale) pushed() time.Duration {
	return middle(s.Pushes, func(p Push) time.Duration { return p.Took })
}

func (s *Scale) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, hubPreamble, s.Time.UTC().Format(time.DateOnly), s.Machine, s.Versions, s.Nodes, s.Functions)
	fmt.Fprint(&b, "| what | budget | measured | |\n|---|---|---|---|\n")
	missed := map[string]bool{}
	for _, g := range s.goals() {
		verdict := "kept"
		if !g.Kept {
			verdict, missed[g.profile] = "**missed**", true
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", g.What, g.Allowed, g.Got, verdict)
	}
	s.memory(&b)
	s.efforts(&b)
	for _, what := range slices.Sorted(maps.Keys(missed)) {
		if p := s.Profile[what]; p != "" {
			fmt.Fprintf(&b, "\nWhere the hub was at %s, since a budget was missed:\n\n```\n%s```\n", what, p)
		}
	}
	return b.Bytes()
}

func (s *Scale) memory(w io.Writer) {
	fmt.Fprint(w, "\nMemory of the hub; for a node: less that of the hub without nodes.\n\n| | resident, MB | heap, MB | stacks, MB | resident for a node, KiB | heap and stacks for a node, KiB |\n|---|---:|---:|---:|---:|---:|\n")
	for _, row := range []struct {
		what string
		Weight
	}{{"without nodes", s.Empty}, {"all connected and idle", s.Full}, {"all back after restarts", s.Back}} {
		fmt.Fprintf(w, "| %s | %.1f | %.1f | %.1f | %.1f | %.1f |\n", row.what, mb(row.Resident), mb(row.Heap), mb(row.Stack),
			s.each(row.Resident-s.Empty.Resident), s.each(row.Heap+row.Stack-s.Empty.Heap-s.Empty.Stack))
	}
	fmt.Fprintf(w, "\nAt most, while all came back, %.1f MB were resident. The process of all nodes has %.1f MB.\n", mb(s.Peak), mb(s.Simulation))
}

// efforts writes what took time.
func (s *Scale) efforts(w io.Writer) {
	fmt.Fprint(w, "\n| | took | processor time of the hub | of all nodes | load |\n|---|---:|---:|---:|---:|\n")
	row := func(what string, e Effort) {
		fmt.Fprintf(w, "| %s | %.2f s | %.2f s | %.2f s | %.1f |\n", what, e.Took.Seconds(), e.Hub.Seconds(), e.Nodes.Seconds(), e.Load)
	}
	row(fmt.Sprintf("all join with one token, %.0f a second", float64(s.Nodes)/s.Join.Took.Seconds()), s.Join)
	for _, p := range s.Pushes {
		row(fmt.Sprintf("a change of 10 kB to all; the hub says so after %.2f s", p.Known.Seconds()), p.Effort)
	}
	for _, x := range s.Storms {
		row(fmt.Sprintf("all back after `kill -9`, 99 %% of them after %.1f s; the hub answers after %.2f s, %d dials at most and %.0f on average in 0.1 s, %d led to no session",
			x.Most.Seconds(), x.Up.Seconds(), x.Peak, x.Mean, x.Failed), x.Effort)
	}
	both := func(e Effort) time.Duration { return e.Hub + e.Nodes }
	fmt.Fprintf(w, "\nThe first change after all have joined has the nodes' buffers grow to its size. Hub and nodes share %d processors,\n"+
		"and whatever else wants to run: a change takes %.1f s of their time, most of it reading and writing sockets, a\n"+
		"restart %.1f s, most of it keys and signatures. Nodes on machines of their own would leave the hub its part of that.\n",
		runtime.NumCPU(), middle(s.Pushes, func(p Push) time.Duration { return both(p.Effort) }).Seconds(),
		middle(s.Storms, func(x Storm) time.Duration { return both(x.Effort) }).Seconds())
	fmt.Fprintf(w, "\nIdle, over %.0f s: %.1f bytes a second up and %.1f down for a node, without what TCP adds, and %.1f %% of a processor for the hub.\n",
		s.Idle.For.Seconds(), s.Idle.Up, s.Idle.Down, s.Idle.Hub*100)
}

// middle returns the median of what get takes from each, or zero.
func middle[T any, V float64 | time.Duration](all []T, get func(T) V) (zero V) {
	if len(all) == 0 {
		return zero
	}
	var values []V
	for _, x := range all {
		values = append(values, get(x))
	}
	slices.Sort(values)
	return values[len(values)/2]
}
