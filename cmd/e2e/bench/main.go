package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// options say what is measured and for how long.
type options struct {
	program string        // sedge
	agent   string        // sedge-agent
	dist    string        // folder of the programs as they are shipped
	out     string        // file for the report
	rounds  int           // of each comparison
	length  time.Duration // of one load
	idle    time.Duration // of the idle measurement
	wakings int           // of a sleeping function
	only    string        // what is measured, or "" for all
	hub     string        // sedge-hub
	nodes   int           // of the hub
	storms  int           // restarts of the hub
	window  float64       // share of the usual time that nodes take to come back
	short   bool          // a hub is only seen to work: no profiles, no rests
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "load":
		return runLoad(ctx, os.Stdin, os.Stdout)
	case len(args) == 2 && args[0] == "echo":
		return runEcho(ctx, args[1])
	case len(args) == 1 && args[0] == "fleet":
		return runFleet(ctx, os.Stdin, os.Stdout)
	}
	o := options{window: 1}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.program, "program", "bin/sedge", "the sedge to measure")
	f.StringVar(&o.agent, "agent", "bin/sedge-agent", "the sedge-agent to measure")
	f.StringVar(&o.hub, "hub", "bin/sedge-hub", "the sedge-hub to measure")
	f.StringVar(&o.dist, "dist", "dist", "folder of the programs whose sizes are told")
	f.StringVar(&o.out, "o", "BENCHMARKS.md", "file for the report")
	f.StringVar(&o.only, "only", "", "measure only this: node, hub, or deploy, which writes no report")
	f.IntVar(&o.rounds, "rounds", 5, "turns of each subject at each load, and changes to all nodes of a hub")
	f.DurationVar(&o.length, "length", 4*time.Second, "of one load")
	f.DurationVar(&o.idle, "idle", time.Minute, "how long to watch an idle node")
	f.IntVar(&o.wakings, "wakings", 30, "first events of a sleeping function")
	f.IntVar(&o.nodes, "nodes", 10_000, "that a hub has")
	f.IntVar(&o.storms, "storms", 3, "restarts of a hub")
	if err := f.Parse(args); err != nil {
		return err
	}
	switch o.only {
	case "", "node", "hub":
	case "deploy":
		return onlyDeploys(ctx, o)
	default:
		return fmt.Errorf("-only %s: want node, hub or deploy", o.only)
	}
	page, err := readPage(o.out)
	if err != nil {
		return err
	}
	if o.only != "hub" {
		r, err := measure(ctx, o)
		if err != nil {
			return err
		}
		page.node = r.markdown()
	}
	if o.only != "node" {
		if page.hub, err = measureHub(ctx, o); err != nil {
			return err
		}
	}
	return page.write(o.out)
}

// A page is the report by who writes its parts: the last one is not this program's, but
// make bench-cluster's.
type page struct{ node, hub, pods []byte }

func readPage(path string) (p page, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	p.node, p.pods = cutAt(text, "\n## Pods\n")
	p.node, p.hub = cutAt(p.node, "\n## Hub\n")
	return p, err
}

// cutAt returns what is before a heading, and it with what is behind.
func cutAt(text []byte, heading string) (before, from []byte) {
	if i := bytes.Index(text, []byte(heading)); i >= 0 {
		return text[:i], text[i:]
	}
	return text, nil
}

func (p page) write(path string) error {
	return os.WriteFile(path, slices.Concat(p.node, p.hub, p.pods), 0o644)
}
