package kube

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// K3sConfig is where a k3s server keeps the administrator's kubeconfig.
const K3sConfig = "/etc/rancher/k3s/k3s.yaml"

// RequestTimeout is how long a request may take, the wait for its turn included.
const RequestTimeout = 10 * time.Second

// The rates at which a client asks, requests a second: an agent has little to
// ask, and a server on a board little to give.
const (
	rate  = 20
	burst = 40
)

// ErrNone is returned by [Open] where no cluster is configured.
var ErrNone = errors.New("no Kubernetes cluster is configured here")

// A Client speaks to one API server. It may be used from several goroutines.
type Client struct {
	dynamic dynamic.Interface
	host    string
}

// Open returns a client of the cluster that the file kubeconfig names; if that is
// "", of the cluster that this process runs in; else of the one in $KUBECONFIG or
// ~/.kube/config; else of the k3s server on this machine. If there is none of
// these, the error is [ErrNone]. The server is not asked anything yet.
func Open(kubeconfig string) (*Client, error) {
	quiet()
	cfg, err := find(kubeconfig)
	if err != nil {
		return nil, err
	}
	return connect(cfg)
}

// OpenContext is [Open] with a kubeconfig's context of that name; "" is the one
// that the file calls current.
func OpenContext(kubeconfig, name string) (*Client, error) {
	if name == "" {
		return Open(kubeconfig)
	}
	quiet()
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	over := &clientcmd.ConfigOverrides{CurrentContext: name}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, over).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig, context %s: %w", name, err)
	}
	return connect(cfg)
}

// connect returns a client of the server that cfg tells of.
func connect(cfg *rest.Config) (*Client, error) {
	cfg.UserAgent = manager
	cfg.QPS, cfg.Burst = rate, burst
	cfg.WarningHandler = rest.NoWarnings{}
	cfg.Dial = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	d, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig for %s: %w", cfg.Host, err)
	}
	return &Client{dynamic: d, host: cfg.Host}, nil
}

// Host returns the server's address.
func (c *Client) Host() string { return c.host }

// quiet keeps client-go from writing to stderr: what it has to say comes to the
// caller as an error, too.
var quiet = sync.OnceFunc(func() { klog.SetLogger(logr.Discard()) })

// find returns how to reach the cluster.
func find(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		return fromFile(kubeconfig)
	}
	cfg, err := rest.InClusterConfig()
	if !errors.Is(err, rest.ErrNotInCluster) {
		return cfg, err
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	cfg, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if !clientcmd.IsEmptyConfig(err) {
		return cfg, err
	}
	if _, err := os.Stat(K3sConfig); errors.Is(err, os.ErrNotExist) {
		return nil, ErrNone
	}
	return fromFile(K3sConfig)
}

func fromFile(path string) (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return cfg, nil
}
