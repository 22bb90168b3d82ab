package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// deployCount is how many deploys are measured.
const deployCount = 50

// Deploys is how long it took from the start of sedge deploy --wait until it ended: until
// the function ran on the one node that was connected. The medians are of deployCount.
type Deploys struct {
	Median, P90, Worst time.Duration
}

// measureDeploys deploys a function again and again, changed each time, to a node that is
// connected to a hub: all of it the programs that users have.
func measureDeploys(ctx context.Context, o options, dir string) (d Deploys, err error) {
	broker, addr, err := startMosquitto(ctx, dir, false)
	if err != nil {
		return d, err
	}
	defer broker.stop()
	h, err := startHub(ctx, dir, o.hub)
	if err != nil {
		return d, err
	}
	defer h.stop()
	agent, err := h.join(ctx, dir, o.agent, "mqtt://"+addr)
	if err != nil {
		return d, err
	}
	defer agent.stop()
	if err := h.await(ctx, func() error { return h.connected(ctx) }); err != nil {
		return d, err
	}
	var took []time.Duration
	for n := range deployCount {
		t, err := h.deploy(ctx, o.program, filepath.Join(dir, "lamp"), n)
		if err != nil {
			return d, err
		}
		took = append(took, t)
	}
	slices.Sort(took)
	return Deploys{took[len(took)/2], took[len(took)*9/10], took[len(took)-1]}, nil
}

// onlyDeploys measures deploys and prints how long they took.
func onlyDeploys(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "sedge-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d, err := measureDeploys(ctx, o, dir)
	if err != nil {
		return err
	}
	fmt.Printf("%d deploys: median %v, 90 %% within %v, the longest %v\n", deployCount, d.Median, d.P90, d.Worst)
	return nil
}

// join has a node join the hub, and starts it.
func (h *hub) join(ctx context.Context, dir, program, broker string) (*child, error) {
	made, err := h.client.MakeToken(ctx, edge.TokenAsk{TTL: time.Minute})
	if err != nil {
		return nil, err
	}
	home := filepath.Join(dir, "node")
	join := exec.CommandContext(ctx, program, "join", "https://"+h.api, "--token", made.Text, "--data-dir", home, "--node-name", "here")
	if out, err := join.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("join: %w: %s", err, out)
	}
	return spawn(dir, program, "--data-dir", home, "--node-name", "here", "--mqtt", broker, "--http-listen", "off", "--ops-listen", "off", "--log-level", "warn")
}

// connected returns nil once the node is.
func (h *hub) connected(ctx context.Context) error {
	n, err := h.client.Node(ctx, "here")
	if err == nil && !n.Connected {
		err = fmt.Errorf("node %s is not connected", n.Name)
	}
	return err
}

const lampManifest = `apiVersion: sedge.dev/v1
kind: Function
metadata: {name: lamp}
spec:
  runtime: javascript
  source: {path: index.js}
  triggers: [{mqtt: {topic: "in/{device}"}}]
  output: {topic: out}
`

// deploy runs sedge deploy --wait on the n-th version of a function.
func (h *hub) deploy(ctx context.Context, program, dir string, n int) (time.Duration, error) {
	code := fmt.Sprintf("export function handle(event) { return { n: %d } }\n", n)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	for name, text := range map[string]string{"function.yaml": lampManifest, "index.js": code} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return 0, err
		}
	}
	deploy := exec.CommandContext(ctx, program, "deploy", "-f", dir, "--wait", "--hub", "https://"+h.api, "--hub-ca", filepath.Join(h.dir, "ca.crt"), "--token-file", filepath.Join(h.dir, "token"))
	began := time.Now()
	if out, err := deploy.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("deploy: %w: %s", err, out)
	}
	return time.Since(began), nil
}
