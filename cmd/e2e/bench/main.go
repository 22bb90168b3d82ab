package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
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
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "load":
		return runLoad(ctx, os.Stdin, os.Stdout)
	case len(args) == 2 && args[0] == "echo":
		return runEcho(ctx, args[1])
	}
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.program, "program", "bin/sedge", "the sedge to measure")
	f.StringVar(&o.agent, "agent", "bin/sedge-agent", "the sedge-agent to measure")
	f.StringVar(&o.dist, "dist", "dist", "folder of the programs whose sizes are told")
	f.StringVar(&o.out, "o", "BENCHMARKS.md", "file for the report")
	f.IntVar(&o.rounds, "rounds", 5, "turns of each subject at each load")
	f.DurationVar(&o.length, "length", 4*time.Second, "of one load")
	f.DurationVar(&o.idle, "idle", time.Minute, "how long to watch an idle node")
	f.IntVar(&o.wakings, "wakings", 30, "first events of a sleeping function")
	if err := f.Parse(args); err != nil {
		return err
	}
	r, err := measure(ctx, o)
	if err != nil {
		return err
	}
	return os.WriteFile(o.out, append(r.markdown(), ofPods(o.out)...), 0o644)
}

// ofPods returns the last section of the report that is there, which is not this
// program's: make bench-cluster writes it.
func ofPods(path string) []byte {
	old, err := os.ReadFile(path)
	if err != nil {
		return nil // there is none yet
	}
	if i := bytes.Index(old, []byte("\n## Pods\n")); i >= 0 {
		return old[i:]
	}
	return nil
}
