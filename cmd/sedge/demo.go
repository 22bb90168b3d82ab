package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sedge-iot/sedge/cmd/node"
	"github.com/sedge-iot/sedge/devices/sim"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/functions"
)

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
process, the home's devices connect to the broker, night-light is deployed, and
whenever somebody moves in the dark hall the lamp answers. Nothing is left behind.

The last line on stdout sums up. Exits with 1 if an event went unanswered.`,
		Example: `  sedge demo
  sedge demo --for 10s --rate 200`,
		RunE: func(cmd *cobra.Command, _ []string) error { return sh.demo(cmd.Context(), o) },
	}
	cmd.Flags().DurationVar(&o.time, "for", 0, "`TIME` after which it ends (default: at ^C)")
	cmd.Flags().Float64Var(&o.rate, "rate", 2, "`NUMBER` of moves in the dark, a second")
	return cmd
}

func (sh *shell) demo(ctx context.Context, o demoOptions) (err error) {
	if !(o.rate > 0 && o.rate <= 10_000) || o.time < 0 {
		return wrongUsage("sedge demo --help", "--rate wants up to 10,000 a second, --for a time to come")
	}
	dir, err := os.MkdirTemp("", "sedge-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	lg := slog.New(slog.NewTextHandler(sh.talk, &slog.HandlerOptions{Level: slog.LevelWarn}))
	p, err := openProgram(demoUp(dir), lg)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var program errgroup.Group
	program.Go(func() error { defer stop(); return p.Run(running) })
	tally, err := sh.showHome(ctx, running, p, o)
	stop()
	if err := errors.Join(err, program.Wait()); err != nil {
		return err
	}
	return sh.sumUp(tally)
}

// demoUp is sedge up on free ports.
func demoUp(dir string) upOptions {
	const free = "127.0.0.1:0"
	return upOptions{
		Options:      node.Options{Name: "demo", DataDir: dir, HTTPListen: "off"},
		listen:       free,
		brokerListen: free,
	}
}

// sumUp prints the last line of a demo, and fails if an event went unanswered.
func (sh *shell) sumUp(t sim.Tally) error {
	if terminal(sh.out) {
		fmt.Fprintln(sh.out) // past the ^C
	}
	fmt.Fprintln(sh.out, t)
	if t.Lost() > 0 || t.Events == 0 {
		return exitError(exitFailure)
	}
	return nil
}

// showHome deploys the function, has the home live until its time is over or
// the user has seen enough, and returns what was said and answered.
func (sh *shell) showHome(ctx, running context.Context, p *program, o demoOptions) (sim.Tally, error) {
	if err := deployDemo(running, p); err != nil {
		return sim.Tally{}, fmt.Errorf("deploy the demo's function: %w", err)
	}
	h, err := newHome(p.brokerAddr(), o.rate)
	if err != nil {
		return sim.Tally{}, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer context.AfterFunc(running, stop)() // a program that has ended shows nothing more
	if o.time > 0 {
		ctx, stop = context.WithTimeout(ctx, o.time)
	}
	defer stop()
	sh.say("A simulated home speaks, night-light answers.%s", until(o.time))
	var both errgroup.Group
	both.Go(func() error { defer stop(); return h.live(ctx) })
	both.Go(func() error { return sh.show(ctx, h) })
	err = both.Wait()
	return h.world.Tally(), err
}

func until(d time.Duration) string {
	if d > 0 {
		return " It ends after " + d.String() + "."
	}
	return " ^C ends it."
}

// deployDemo deploys the function of sedge new through the hub's API, as anyone
// would.
func deployDemo(ctx context.Context, p *program) error {
	files, err := fillTemplate("night-light")
	if err != nil {
		return err
	}
	m, err := functions.Parse(functions.ManifestFile, []byte(files[functions.ManifestFile]))
	if err != nil {
		return err
	}
	f, err := functions.New(m, files[m.Spec.Source.Path])
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
