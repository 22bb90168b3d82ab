package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/functions"
)

// manifest is that of a function that answers a motion sensor. What it may
// publish is raised to what the benchmark asks for.
const manifest = `apiVersion: sedge.dev/v1
kind: Function
metadata: {name: %[1]s}
spec:
  runtime: javascript
  triggers: [{mqtt: {topic: "%[1]s/in/{device}", qos: %[2]d}}]
  permissions: {publish: ["%[1]s/out/+"]}
  delivery: {publishRate: 100000}
  scaling: {idle: %[3]s}
  source:
    inline: |
      export function handle(event, sedge) {
        const motion = event.payload;
        %[4]s
        if (motion.occupancy && motion.illuminance < 20) {
          sedge.publish("%[1]s/out/" + event.captures.device, {t: motion.t, state: "ON"}, {qos: event.qos});
        }
      }
`

// The functions that the benchmark deploys, each under the prefix of its topics.
var (
	lamp   = fmt.Sprintf(manifest, "lamp", 1, "5m", "")                              // changes nothing
	sleepy = fmt.Sprintf(manifest, "sleepy", 1, "1s", "")                            // is soon asleep
	count  = fmt.Sprintf(manifest, "count", 1, "5m", `sedge.state.incr("motions");`) // changes state
)

// A node is bin/sedge up.
type node struct {
	*child
	dir    string // of its data
	api    string // host:port
	token  string
	client *client.Client
}

// startNode starts a node with the functions, at the broker or, with broker "",
// with an embedded one, and returns the broker's address too.
func startNode(ctx context.Context, dir, program, broker string, manifests ...string) (*node, string, error) {
	data, err := os.MkdirTemp(dir, "node-")
	if err != nil {
		return nil, "", err
	}
	n := &node{dir: data}
	args := []string{"up", "--data-dir", data}
	if n.api, err = freeAddress(); err != nil {
		return nil, "", err
	}
	args = append(args, "--listen", n.api, "--http-listen", "off")
	if broker != "" {
		args = append(args, "--mqtt", "mqtt://"+broker)
	} else {
		if broker, err = freeAddress(); err != nil {
			return nil, "", err
		}
		args = append(args, "--broker-listen", broker)
	}
	if n.child, err = spawn(dir, program, args...); err != nil {
		return nil, "", err
	}
	if err := n.ready(ctx, manifests); err != nil {
		n.stop()
		return nil, "", err
	}
	return n, broker, nil
}

func (n *node) ready(ctx context.Context, manifests []string) error {
	err := n.await(ctx, func() error {
		token, err := os.ReadFile(filepath.Join(n.dir, "token"))
		if err != nil {
			return err
		}
		n.token = strings.TrimSpace(string(token))
		n.client = client.New("http://"+n.api, n.token)
		return n.client.Ready(ctx)
	})
	if err != nil {
		return err
	}
	for _, text := range manifests {
		m, err := functions.Parse("function.yaml", []byte(text))
		if err != nil {
			return err
		}
		f, err := functions.New(m, "")
		if err != nil {
			return err
		}
		if _, err := n.client.Deploy(ctx, f, client.DeployOptions{}); err != nil {
			return fmt.Errorf("deploy %s: %w", f.Name(), err)
		}
	}
	return nil
}

// asleep waits until the function has no runner.
func (n *node) asleep(ctx context.Context, function string) error {
	return n.await(ctx, func() error {
		f, err := n.client.Function(ctx, function)
		if err != nil {
			return err
		}
		if f.Status.Phase != edge.Asleep {
			return errors.New(function + " is " + string(f.Status.Phase))
		}
		return nil
	})
}

// profile has the node write down for d where its time goes.
func (n *node) profile(ctx context.Context, d time.Duration, to string) error {
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", n.api, int(d.Seconds()))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+n.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s", res.Status)
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(res.Body, 64<<20))
	return errors.Join(err, f.Close())
}
