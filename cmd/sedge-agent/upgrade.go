package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/sedge-iot/sedge/cmd/node"
	"github.com/sedge-iot/sedge/cmd/service"
	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/installer/upgrade"
)

// place returns what is to be entered for these arguments, which may be for a newer
// program than this one: what it does not know it passes over. A program that only helps,
// or is a runner, enters nothing.
func place(args []string, lookup func(string) (string, bool)) upgrade.Place {
	var dir, config string
	flags := pflag.NewFlagSet("sedge-agent", pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	flags.Usage = func() {}
	flags.StringVar(&dir, "data-dir", node.DataDir(lookup), "")
	flags.StringVar(&config, "config", "", "")
	version := flags.Bool("version", false, "")
	if err := flags.Parse(args); err != nil || *version || flags.NArg() > 0 {
		return upgrade.Place{}
	}
	if err := settings.FromEnvironment(flags, lookup); err != nil {
		return upgrade.Place{}
	}
	if !flags.Changed("data-dir") {
		dir = service.DataDirOf(config, dir)
	}
	return upgrade.Place{Dir: dir, Program: "sedge-agent", Version: settings.Version(), Platform: upgrade.Platform()}
}

// tell tells how versions stand, of which those count that keys have signed.
func tell(slots *upgrade.Slots, keys string, lg *slog.Logger) {
	if keys != "" {
		if _, err := upgrade.ReadKeys(keys); err != nil {
			lg.Error("no version will be taken from the hub", "err", err)
		}
	}
	r := slots.Report()
	if r.Fault != nil {
		lg.Warn("versions from the hub cannot be used", "err", r.Fault)
	}
	if r.Failed != nil {
		lg.Info("a version was given up", "version", r.Failed.Slot.Version, "why", r.Failed.Why, "when", r.Failed.Time)
	}
	if r.Slot != nil {
		lg.Info("this version came from the hub", "trial", r.Trial, "installed", r.Installed)
	}
}

// runNode runs the node until ctx is done or another version is to run: then the error
// is upgrade.ErrRestart, and this process goes on.
func runNode(ctx context.Context, n *node.Node, slots *upgrade.Slots, lg *slog.Logger) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.Run(ctx) })
	g.Go(func() error { return slots.Run(ctx, func() upgrade.Health { return n.Health() }) })
	err := g.Wait()
	if errors.Is(err, upgrade.ErrRestart) {
		lg.Info("sedge-agent begins anew", "why", err)
	} else {
		service.Notify("STOPPING=1") // which would have systemd await the end of this process
	}
	return err
}
