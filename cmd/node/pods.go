package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/arm"
	"github.com/sedge-iot/sedge/cmd/settings"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/keys"
	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/pod"
)

// Pods says whether and how a node runs functions in pods.
type Pods struct {
	Mode       string // auto or off; "" is off
	Kubeconfig string // "" for where they usually are
	Node       string // the machine's name in Kubernetes
	Namespace  string
	Image      string
	Pool       int // -1: by the machine's memory
}

// smallMemory is the memory below which no pod is kept warm, kB.
const smallMemory = 1 << 20

// pool returns how many pods are kept warm.
func (p Pods) pool() int {
	if p.Pool >= 0 {
		return p.Pool
	}
	if kB := totalMemory(); kB > 0 && kB < smallMemory {
		return 0
	}
	return 1
}

// totalMemory returns the machine's memory, kB, or 0 if that cannot be told.
func totalMemory() (kB int) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(l, "MemTotal:"); ok {
			fmt.Sscan(rest, &kB)
		}
	}
	return kB
}

// connect returns a client of the cluster that this machine is a node of, or why there
// is none. It is an error only if the owner named a cluster that cannot be used.
func (p Pods) connect(lg *slog.Logger) (c *kube.Client, why string, err error) {
	switch p.Mode {
	case "off", "":
		return nil, "they are turned off (--pods off)", nil
	case "auto":
	default:
		return nil, "", &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("--pods %q: want auto or off", p.Mode)}
	}
	c, err = p.client()
	switch {
	case err == nil:
		return c, "", nil
	case p.Kubeconfig != "":
		return nil, "", &edge.Error{Code: edge.Invalid, Message: err.Error(), Hint: "--kubeconfig FILE names a file that kubectl could use, too"}
	case !errors.Is(err, kube.ErrNone):
		lg.Warn("the node does without Kubernetes", "err", err)
	}
	return nil, err.Error(), nil
}

// client returns a client of the cluster that this machine is a node of. Of kubectl's
// own settings nothing is taken: they may lead anywhere.
func (p Pods) client() (*kube.Client, error) {
	if p.Kubeconfig != "" || inPod() {
		return kube.Open(p.Kubeconfig)
	}
	f, err := os.Open(kube.K3sConfig)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, kube.ErrNone
	case err != nil:
		return nil, err
	}
	f.Close() // it can be read
	return kube.Open(kube.K3sConfig)
}

// openPods opens the sandbox of pods, or returns why this node has none.
func (n *Node) openPods(secrets secrets) (why string, err error) {
	o := n.options
	if n.kube, why, err = o.Pods.connect(n.lg); n.kube == nil {
		return why, err
	}
	lg := n.lg.With("part", "pod")
	if err := o.Pods.known(n.kube); err != nil {
		lg.Warn("functions do not run in pods", "err", err)
		return err.Error(), nil
	}
	secret, err := podSecret(o.DataDir)
	if err != nil {
		return "", err
	}
	n.pods, err = pod.New(pod.Config{
		Client:    n.kube,
		Node:      o.Pods.Node,
		Namespace: o.Pods.Namespace,
		Image:     o.Pods.Image,
		Pool:      o.Pods.pool(),
		Secret:    secret,
		Secrets:   secrets.read,
		Current:   n.current,
		Logger:    lg,
	})
	return "", err
}

// inPod reports whether this process runs in a pod.
func inPod() bool {
	return os.Getenv("KUBERNETES_SERVICE_HOST") != ""
}

// known makes sure that the cluster has this machine, and sedge is on it, as far as
// it can be asked: at boot the agent may be there first, and the one that the
// manifests bring may not ask for namespaces, nor has to.
func (p Pods) known(c *kube.Client) error {
	ctx, stop := context.WithTimeout(context.Background(), 3*time.Second)
	defer stop()
	_, err := kube.Nodes.In(c, "").Get(ctx, p.Node)
	if kube.IsNotFound(err) {
		return fmt.Errorf("the cluster at %s has no node %q: say how it calls this machine with --kube-node-name", c.Host(), p.Node)
	}
	if _, err = kube.Namespaces.In(c, "").Get(ctx, p.Namespace); kube.IsNotFound(err) {
		return fmt.Errorf("the cluster at %s has no namespace %q: put sedge on it (kubectl apply -f sedge.yaml), or do without pods (--pods off)", c.Host(), p.Namespace)
	}
	return nil
}

// podSecret returns the secret from which agent and pods know each other. It is made
// once, and lost it costs the pods that run then.
func podSecret(dir string) ([]byte, error) {
	path := filepath.Join(dir, "pods.secret")
	secret, err := os.ReadFile(path)
	if err == nil && len(secret) == pod.SecretSize {
		return secret, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read secret of pods: %w", err)
	}
	secret = make([]byte, pod.SecretSize)
	rand.Read(secret)
	if err := keys.Write(path, secret); err != nil {
		return nil, fmt.Errorf("write secret of pods: %w", err)
	}
	return secret, nil
}

// kubeNodeName returns what Kubernetes calls this machine, unless it is said: what
// the pod of the agent was told, else the host's name, as the kubelet has it.
func kubeNodeName(lookup func(string) (string, bool)) string {
	if name, _ := lookup("NODE_NAME"); name != "" {
		return name
	}
	return strings.ToLower(Hostname())
}

// podImage is the image of this very version.
func podImage() string { return arm.AgentReference(settings.Version()) }

// sandboxes returns the sandboxes of a node by the names that manifests have for
// them. pods may be nil; why says why, then.
func sandboxes(process functions.Sandbox, pods *pod.Sandbox, why string) map[string]functions.Sandbox {
	if inPod() {
		process = walled{process}
	}
	var p functions.Sandbox = pods
	if pods == nil {
		p = refusal{"this node runs no pods: " + why}
	}
	return map[string]functions.Sandbox{
		functions.SandboxProcess: process,
		functions.SandboxPod:     p,
		functions.SandboxAuto:    auto{process: process, pod: p, pods: pods != nil},
	}
}

// auto is a pod where the node has them, else a process.
type auto struct {
	process, pod functions.Sandbox
	pods         bool
}

// Start starts f where it can.
func (a auto) Start(ctx context.Context, f functions.Function) (functions.Instance, error) {
	needsPod := f.Manifest.Spec.Runtime == functions.RuntimeImage || f.Manifest.Spec.Placement.Pin == functions.PinCluster
	if !a.pods && !needsPod {
		return a.process.Start(ctx, f)
	}
	i, err := a.pod.Start(ctx, f)
	if !errors.Is(err, pod.ErrAway) || needsPod {
		return i, err
	}
	i, second := a.process.Start(ctx, f)
	if second != nil {
		// That a process cannot do it either is not for ever: the pod may.
		return nil, fmt.Errorf("%w; and as a process: %v", err, second)
	}
	return i, nil
}

// refusal is the sandbox of a kind that the node has not.
type refusal struct{ why string }

// Start says why not.
func (r refusal) Start(_ context.Context, f functions.Function) (functions.Instance, error) {
	return nil, fmt.Errorf("start %s: %w: %s", f.Name(), functions.ErrUnfit, r.why)
}

// walled is the process sandbox within the agent's own pod. There a process that has
// no control group of its own would use up the agent's memory, and end it.
type walled struct{ functions.Sandbox }

// Start starts f, if its process gets a control group.
func (w walled) Start(ctx context.Context, f functions.Function) (functions.Instance, error) {
	i, err := w.Sandbox.Start(ctx, f)
	if err != nil {
		return nil, err
	}
	for _, missing := range i.Describe().Missing {
		if strings.Contains(missing, "control group") {
			i.Close()
			return nil, fmt.Errorf("start %s: %w: a process in the agent's pod needs a control group of its own: %s", f.Name(), functions.ErrUnfit, missing)
		}
	}
	return i, nil
}
