// Command sedge is the operator's program: it writes, deploys and watches
// functions, and with "sedge up" it is hub, agent and broker in one process.
//
// Each verb is a small constructor in a file of its own, with its options
// beside it. What they share is a [shell]: the streams, the global flags and
// the way to the hub.
package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second ^C ends it at once
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run carries out one command line and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, talk io.Writer) int {
	sh := &shell{in: bufio.NewReader(in), out: out, talk: talk, lookup: os.LookupEnv}
	cmd := newRoot(sh)
	cmd.SetArgs(args)
	cmd.SetIn(in)
	cmd.SetOut(out)
	cmd.SetErr(talk)
	return sh.exit(cmd.ExecuteContext(ctx))
}
