package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sedge-iot/sedge/cmd/node"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/functions"
)

// demoFunction is the night-light of the demo: each room's motion sensor and lamp.
//
//go:embed demo
var demoFunction embed.FS

type demoOptions struct {
	time time.Duration
	rate float64
}

func newDemo(sh *shell) *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show a simulated home react to a function",
		Long: `Show a simulated home react to a function: hub, agent and broker start in this
process, the home's devices connect to them, night-light is deployed, and in
every dark room the lamp answers whoever moves. Nothing is left behind.

The last line on stdout sums up. Exits with 1 if an event went unanswered.`,
		Example: `  sedge demo
  sedge demo --for 10s --rate 200`,
		RunE: func(cmd *cobra.Command, _ []string) error { return sh.demo(cmd.Context(), o) },
	}
	cmd.Flags().DurationVar(&o.time, "for", 0, "`TIME` after which it ends (default: at ^C)")
	cmd.Flags().Float64Var(&o.rate, "rate", 4, "`NUMBER` of people's moves a second, in the dark")
	return cmd
}

func (sh *shell) demo(ctx context.Context, o demoOptions) (err error) {
	if o.rate <= 0 || o.rate > 10_000 || o.time < 0 {
		return wrongUsage("sedge demo --help", "--rate wants 0 to 10,000 a second, --for a time to come")
	}
	dir, err := os.MkdirTemp("", "sedge-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := openProgram(demoUp(dir), slog.New(slog.NewTextHandler(sh.talk, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	g.Go(func() error { defer stop(); return p.Run(running) })
	c, err := sh.showHome(ctx, running, p, o)
	stop()
	if err := errors.Join(err, g.Wait()); err != nil {
		return err
	}
	return sh.sumUp(c)
}

// sumUp prints the last line of a demo, and fails if an event went unanswered.
func (sh *shell) sumUp(c count) error {
	fmt.Fprintf(sh.out, "events=%d reactions=%d lost=%d p50_ms=%s p99_ms=%s\n", c.events, c.reactions, c.lost(), ms(c.p50), ms(c.p99))
	if c.lost() > 0 || c.events == 0 {
		return exitError(exitFailure)
	}
	return nil
}

// demoUp is sedge up on free ports.
func demoUp(dir string) upOptions {
	const free = "127.0.0.1:0"
	o := upOptions{listen: free, brokerListen: free}
	o.Options = node.Options{Name: "demo", DataDir: dir, HTTPListen: "off"}
	return o
}

// showHome deploys the function, has the home live until its time is over or
// the user has seen enough, and returns what was said and answered.
func (sh *shell) showHome(ctx, running context.Context, p *program, o demoOptions) (count, error) {
	if err := deployDemo(running, p); err != nil {
		return count{}, fmt.Errorf("deploy the demo's function: %w", err)
	}
	h, err := openHome(running, p.brokerAddr())
	if err != nil {
		return count{}, err
	}
	defer h.close()
	ctx, stop := context.WithCancel(ctx)
	defer context.AfterFunc(running, stop)() // a program that has ended shows nothing more
	if o.time > 0 {
		ctx, stop = context.WithTimeout(ctx, o.time)
	}
	defer stop()
	sh.say("A home of %s speaks, night-light answers.%s", plural(h.devices(), "device", "devices"), until(o.time))
	var shown errgroup.Group
	shown.Go(func() error { return sh.show(ctx, h.tally) })
	err = h.live(ctx, running, o.rate)
	return h.tally.count(), errors.Join(err, shown.Wait())
}

func until(d time.Duration) string {
	if d > 0 {
		return " It ends after " + d.String() + "."
	}
	return " ^C ends it."
}

// deployDemo deploys the function through the hub's API, as anyone would.
func deployDemo(ctx context.Context, p *program) error {
	manifest, err := demoFunction.ReadFile("demo/function.yaml")
	if err != nil {
		return err
	}
	code, err := demoFunction.ReadFile("demo/index.js")
	if err != nil {
		return err
	}
	m, err := functions.Parse(functions.ManifestFile, manifest)
	if err != nil {
		return err
	}
	f, err := functions.New(m, string(code))
	if err != nil {
		return err
	}
	sh := &shell{hub: "http://" + p.api.Addr().String(), tokenFile: p.tokenFile, talk: io.Discard, lookup: none}
	err = sh.ask(ctx, "", func(c *client.Client) error {
		_, err := c.Deploy(ctx, f, client.DeployOptions{})
		return err
	})
	if err != nil {
		return err
	}
	return sh.await(ctx, []functions.Function{f}, 20*time.Second)
}

// ms writes a time in milliseconds, for programs.
func ms(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d.Microseconds())/1000) }
