package node

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/sedge-iot/sedge/cmd/service"
	"github.com/sedge-iot/sedge/devices/mqtt"
	"github.com/sedge-iot/sedge/installer/upgrade"
)

// SystemData is the data directory of a node that runs as root.
const SystemData = "/var/lib/sedge"

// Options are what a node's owner may set. Each has a default that works.
type Options struct {
	Name    string
	DataDir string

	SecretsDir string // "" for the one in the data directory

	MQTT MQTT

	HTTPListen    string
	HTTPTokenFile string

	OpsListen string // "" for none

	Config *service.ConfigFile // that the options were read from, or nil
	Pods   Pods
	Hub    Hub // what the owner says about the hub that the node has joined

	// Joins has the node work for the Kubernetes cluster that it belongs to, if it
	// does: it runs what the Function resources say, and shares the cluster's lease
	// with the other nodes, which must have the same broker.
	Joins bool
	Slots *upgrade.Slots // other versions of this program, which the hub may have it become; nil: none

	Log service.Log
}

// MQTT says which broker a node listens to, and as whom.
type MQTT struct {
	URL          string // "" for none of one's own
	Username     string
	PasswordFile string
	CAFile       string
	CertFile     string
	KeyFile      string
	KeepAlive    time.Duration
}

// Idle reports whether it is said as whom, but not which broker.
func (m MQTT) Idle() bool {
	return m.URL == "" && (m.Username != "" || m.PasswordFile != "" || m.CAFile != "" || m.CertFile != "" || m.KeyFile != "")
}

// Shown returns the URL as people may see it: without a password.
func (m MQTT) Shown() string {
	if u, err := url.Parse(m.URL); err == nil {
		return u.Redacted()
	}
	return "mqtt://…"
}

// AddFlags makes flags of the options.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.Name, "node-name", Hostname(), "`NAME` of this node")
	f.StringVar(&o.DataDir, "data-dir", DataDir(os.LookupEnv), "`DIR` where everything is kept")
	f.StringVar(&o.SecretsDir, "secrets-dir", "", "`DIR` with a file for each secret, not open to everyone (default: secrets in the data directory)")
	f.StringVar(&o.MQTT.URL, "mqtt", "", "`URL` of your own broker, like mqtt://localhost:1883 or mqtts://host:8883")
	f.StringVar(&o.MQTT.Username, "mqtt-username", "", "`NAME` of this node at your broker")
	f.StringVar(&o.MQTT.PasswordFile, "mqtt-password-file", "", "`FILE` with the password of this node at your broker")
	f.StringVar(&o.MQTT.CAFile, "mqtt-ca", "", "`FILE` with the certificate authority of your broker, PEM")
	f.StringVar(&o.MQTT.CertFile, "mqtt-cert", "", "`FILE` with a client certificate, PEM")
	f.StringVar(&o.MQTT.KeyFile, "mqtt-key", "", "`FILE` with the key of the client certificate, PEM")
	f.DurationVar(&o.MQTT.KeepAlive, "mqtt-keepalive", mqtt.DefaultKeepAlive, "`TIME` that the link to your broker may be silent before it is tried, or away before it is dialled again")
	f.StringVar(&o.HTTPListen, "http-listen", "127.0.0.1:7788", "`ADDRESS` for http triggers; \"off\" for none")
	f.StringVar(&o.HTTPTokenFile, "http-token-file", "", "`FILE` with a token that http triggers ask for")
	f.StringVar(&o.Pods.Mode, "pods", "auto", "`WHETHER` functions run in pods: auto, where this machine is a node of Kubernetes that has sedge, or off")
	f.StringVar(&o.Pods.Kubeconfig, "kubeconfig", "", "`FILE` that says how to reach Kubernetes (default: the cluster this runs in, or what k3s keeps on this machine)")
	f.StringVar(&o.Pods.Node, "kube-node-name", kubeNodeName(os.LookupEnv), "`NAME` of this machine in Kubernetes")
	f.StringVar(&o.Pods.Namespace, "pod-namespace", "sedge", "`NAMESPACE` of the functions' pods")
	f.StringVar(&o.Pods.Image, "pod-image", podImage(), "`IMAGE` of the runner in pods")
	f.IntVar(&o.Pods.Pool, "pool", -1, "`NUMBER` of runner pods that are kept warm; -1 for 1, or 0 with less than 1 GB of memory")
	o.Log.AddFlags(f)
}

// DataDir returns where a node keeps its data if its owner does not say:
// as root in [SystemData], else in the user's own folder for state.
func DataDir(lookup func(string) (string, bool)) string {
	if os.Geteuid() == 0 {
		return SystemData
	}
	if dir, _ := lookup("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sedge")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "sedge")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("sedge-%d", os.Geteuid()))
}

// Hostname returns how a node is called whose owner does not say.
func Hostname() string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "node"
}
