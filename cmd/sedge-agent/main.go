// Command sedge-agent is a node and nothing else, for small boards: it runs the
// functions that its store holds on the messages of a broker of the owner's.
// The same file is the runner that it starts for its functions.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/sedge-iot/sedge/cmd/node"
	"github.com/sedge-iot/sedge/cmd/service"
	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions/pod/keeper"
	"github.com/sedge-iot/sedge/installer/upgrade"
)

const usage = `sedge-agent runs the functions of this node, until ^C or SIGTERM.

Example:
  sedge-agent join https://hub.example.org:7443 --token S1…
  sedge-agent --mqtt mqtt://localhost:1883

Beside that:
%s
Flags:
%s
Every flag can be set in the environment too, --data-dir as SEDGE_DATA_DIR.
`

func main() {
	slots := upgrade.Enter(place(os.Args[1:], os.LookupEnv))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second ^C ends it at once
	err := run(ctx, os.Args[1:], slots)
	stop()
	if errors.Is(err, upgrade.ErrRestart) {
		err = slots.Restart()
	}
	if err == nil {
		return
	}
	if e, ok := errors.AsType[*keeper.Ended](err); ok {
		fmt.Fprintln(os.Stderr, e) // the last line, which the agent shows
		os.Exit(e.Status)
	}
	service.TellError(os.Stderr, err)
	os.Exit(1)
}

func run(ctx context.Context, args []string, slots *upgrade.Slots) error {
	switch {
	case len(args) > 0 && args[0] == node.RunnerCommand:
		return node.Runner(ctx, args[1:])
	case len(args) > 0 && args[0] == node.KeeperCommand:
		return node.Keeper(ctx)
	}
	if v := verbOf(args); v != nil {
		return v.do(ctx, args[1:], os.Stdout)
	}
	var o node.Options
	var config, keys string
	var settle time.Duration
	var version bool
	flags := pflag.NewFlagSet("sedge-agent", pflag.ContinueOnError)
	flags.Usage = func() { fmt.Printf(usage, verbList(), flags.FlagUsages()) }
	o.AddFlags(flags)
	o.AddOpsFlags(flags)
	o.AddHubFlags(flags)
	flags.StringVar(&config, "config", "", "`FILE` of settings, YAML")
	flags.StringVar(&keys, "upgrade-keys", "", "`FILE` of minisign public keys: what they signed may come from the hub as this program's next version (default: nothing may)")
	flags.DurationVar(&settle, "upgrade-settle", upgrade.SettleTime, "`TIME` that such a version must be as well as the one before it, without a break, to stay")
	flags.BoolVar(&version, "version", false, "print the version")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return nil
	case err != nil:
		return err
	case version:
		fmt.Println("sedge-agent", settings.Version())
		return nil
	case flags.NArg() > 0:
		return fmt.Errorf("sedge-agent does not take %q", flags.Arg(0))
	}
	if err := settings.FromEnvironment(flags, os.LookupEnv); err != nil {
		return err
	}
	if o.Config, err = service.ReadConfig(config, o.DataDir, flags); err != nil {
		return err
	}
	slots.Trust(keys)
	slots.Settle(settle)
	return serve(ctx, o, slots, keys)
}

func serve(ctx context.Context, o node.Options, slots *upgrade.Slots, keys string) error {
	if o.MQTT.URL == "" {
		return &edge.Error{Code: edge.Invalid, Message: "which broker? --mqtt is missing", Hint: "like --mqtt mqtt://localhost:1883"}
	}
	lg, _, err := o.Log.New(os.Stderr)
	if err != nil {
		return err
	}
	o.Joins, o.Slots = true, slots
	n, err := node.Open(o, o.Dial(lg), lg)
	if err != nil {
		return err
	}
	lg.Info("sedge-agent is up", "version", settings.Version(), "broker", o.MQTT.Shown(), "data", o.DataDir, "triggers", n.TriggerAddr(), "ops", n.OpsAddr())
	o.Config.Keep(lg)
	tell(slots, keys, lg)
	service.Notify("READY=1")
	return errors.Join(runNode(ctx, n, slots, lg), n.Close())
}
