// Command sedge-hub keeps a fleet of nodes in step: functions are deployed to it, and
// nodes that run sedge-agent dial it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/sedge-iot/sedge/cmd/service"
	"github.com/sedge-iot/sedge/cmd/settings"
)

const usage = `sedge-hub keeps a fleet of nodes in step, until ^C or SIGTERM. People ask it with
the command sedge, nodes dial it with sedge-agent.

Example:
  sedge-hub --data-dir /var/lib/sedge-hub
  sedge-hub --host hub.example.org --tls-cert hub.crt --tls-key hub.key

Flags:
%s
Every flag can be set in the environment too, --data-dir as SEDGE_DATA_DIR, and in
the file that --config names.
`

// gcPercent is how much garbage there may be for each byte in use, unless GOGC says otherwise:
// a hub is to be small with thousands of idle links, and has time to sweep.
const gcPercent = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second ^C ends it at once
	err := run(ctx, os.Args[1:])
	stop()
	if err == nil {
		return
	}
	service.TellError(os.Stderr, err)
	os.Exit(1)
}

func run(ctx context.Context, args []string) error {
	var o options
	var config string
	var version bool
	flags := pflag.NewFlagSet("sedge-hub", pflag.ContinueOnError)
	flags.Usage = func() { fmt.Printf(usage, flags.FlagUsages()) }
	o.addFlags(flags)
	flags.StringVar(&config, "config", "", "`FILE` of settings, YAML")
	flags.BoolVar(&version, "version", false, "print the version")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return nil
	case err != nil:
		return err
	case version:
		fmt.Println("sedge-hub", settings.Version())
		return nil
	case flags.NArg() > 0:
		return fmt.Errorf("sedge-hub does not take %q", flags.Arg(0))
	}
	if err := settings.FromEnvironment(flags, os.LookupEnv); err != nil {
		return err
	}
	if o.config, err = service.ReadConfig(config, o.dataDir, flags); err != nil {
		return err
	}
	lg, text, err := o.log.New(os.Stderr)
	if err != nil {
		return err
	}
	p, err := open(o, lg)
	if err != nil {
		return err
	}
	if text {
		p.banner(os.Stderr)
	} else {
		lg.Info("sedge-hub is up", "version", settings.Version(), "url", p.url(), "data", o.dataDir, "token", p.tokenFile)
	}
	o.config.Keep(lg)
	service.Notify("READY=1")
	defer service.Notify("STOPPING=1")
	return p.Run(ctx)
}
