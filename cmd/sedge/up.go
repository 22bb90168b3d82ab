package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sedge-iot/sedge/cmd/node"
	"github.com/sedge-iot/sedge/cmd/service"
	"github.com/sedge-iot/sedge/edge"
)

type upOptions struct {
	node.Options
	config       string
	listen       string
	brokerListen string
	brokerUsers  string
	brokerACL    string
	brokerCert   string
	brokerKey    string
}

func newUp(sh *shell) *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run hub, agent and broker in one process",
		Long: `Run hub, agent and broker in one process, until ^C or SIGTERM. If you have a
broker already, name it with --mqtt, and none is started.

A file of settings (--config) has a line for each flag: its name without dashes,
a colon and the value. If the file breaks, the last good one is used.

Secrets that functions ask for are files in the folder "secrets" of the data
directory (or --secrets-dir), one a secret, not open to everyone (chmod 600). They
are read when a runner starts; a function waits for one that is missing.

On a node of k3s --pods auto has functions run in pods, for root, who alone may read
k3s's kubeconfig, if the cluster has the namespace "sedge". Not where sedge-agent
works for the cluster: of two on one machine each takes the other's pods away.`,
		Example: `  sedge up                                 # with a broker of its own on port 1883
  sedge up --mqtt mqtt://localhost:1883    # with yours
  sedge up --config /etc/sedge/sedge.yaml
  sedge up --broker-listen :8883 --broker-tls-cert broker.crt --broker-tls-key broker.key \
    --broker-users users --broker-acl acl  # a broker for the whole house`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Config, err = service.ReadConfig(o.config, sh.home(), cmd.Flags()); err != nil {
				return err
			}
			return sh.up(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	o.AddFlags(f)
	o.Pods.Mode, f.Lookup("pods").DefValue = "off", "off" // the cluster's own agent may be here
	f.StringVar(&o.config, "config", "", "`FILE` of settings, YAML")
	f.StringVar(&o.listen, "listen", "127.0.0.1:7780", "`ADDRESS` of the API; loopback only")
	f.StringVar(&o.brokerListen, "broker-listen", "127.0.0.1:1883", "`ADDRESS` of the broker, if there is no --mqtt")
	f.StringVar(&o.brokerUsers, "broker-users", "", "`FILE` of users of the broker, as htpasswd -B writes it")
	f.StringVar(&o.brokerACL, "broker-acl", "", "`FILE` that says which user may do what at the broker")
	f.StringVar(&o.brokerCert, "broker-tls-cert", "", "`FILE` with the broker's certificate, PEM; it speaks TLS then")
	f.StringVar(&o.brokerKey, "broker-tls-key", "", "`FILE` with its key, PEM")
	return cmd
}

// home returns this user's data directory.
func (sh *shell) home() string {
	if dir, _ := sh.lookup("SEDGE_DATA_DIR"); dir != "" {
		return dir
	}
	return node.DataDir(sh.lookup)
}

func (sh *shell) up(ctx context.Context, o upOptions) error {
	lg, text, err := o.Log.New(sh.talk)
	if err != nil {
		return wrongUsage("", "%s", err)
	}
	if o.MQTT.Idle() {
		return wrongUsage("like --mqtt mqtt://localhost:1883", "--mqtt is missing, which the other --mqtt flags are about")
	}
	if o.DataDir, err = filepath.Abs(o.DataDir); err != nil {
		return fmt.Errorf("find data directory: %w", err)
	}
	p, err := openProgram(o, lg)
	if err != nil {
		return err
	}
	if text {
		sh.banner(p, o)
	} else {
		lg.Info("sedge is up", p.addresses()...)
	}
	o.Config.Keep(lg)
	service.Notify("READY=1")
	defer service.Notify("STOPPING=1")
	return p.Run(ctx)
}

// banner says where everything is and what to do next.
func (sh *shell) banner(p *program, o upOptions) {
	sh.say("%s", sh.paint(sh.talk, bold, "sedge is up"))
	sh.say("  broker    %s", p.brokerAddr())
	sh.say("  API       http://%s", p.api.Addr())
	if addr := p.node.TriggerAddr(); addr != "" {
		sh.say("  triggers  http://%s", addr)
	}
	sh.say("  data      %s", o.DataDir)
	sh.say("  token     %s", p.tokenFile)
	sh.say("Next, in another terminal:")
	if addr := "http://" + p.api.Addr().String(); addr != defaultHub {
		sh.say("  export SEDGE_HUB_URL=%s", addr)
	}
	if !slices.Contains((&shell{lookup: none}).tokenFiles(), p.tokenFile) {
		sh.say("  export SEDGE_TOKEN_FILE=%s", p.tokenFile)
	}
	sh.say("  sedge new night-light && sedge deploy -f night-light --wait\n")
}

// none is an environment without variables.
func none(string) (string, bool) { return "", false }

// addresses are what the banner says, for a log.
func (p *program) addresses() []any {
	return []any{
		slog.String("broker", p.brokerAddr()), slog.String("api", "http://"+p.api.Addr().String()),
		slog.String("triggers", p.node.TriggerAddr()), slog.String("token", p.tokenFile),
	}
}

// ended turns the way in which a part ended into an error for people.
func ended(part string, err error) error {
	if err == nil {
		return nil
	}
	return &edge.Error{Code: edge.Internal, Message: fmt.Sprintf("%s: %s", part, err), Hint: "sedge up --log-level debug tells more"}
}
