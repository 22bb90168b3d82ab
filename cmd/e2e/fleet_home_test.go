package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/sedge-iot/sedge/devices/mqtttest"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/functions"
)

// A hubProcess is a sedge-hub in a process of its own, with an authority of its own.
type hubProcess struct {
	process
	dir  string
	addr string // host:port
}

func newHub(t *testing.T) *hubProcess {
	t.Helper()
	h := &hubProcess{dir: filepath.Join(t.TempDir(), "hub"), addr: freeAddress(t)}
	h.process = process{program: hubProgram, log: filepath.Join(t.TempDir(), "hub.log")}
	h.args = []string{"--data-dir", h.dir, "--listen", h.addr, "--log-format", "text"}
	h.start(t)
	t.Cleanup(func() {
		if h.cmd != nil {
			h.kill(t)
		}
		if t.Failed() {
			t.Logf("the hub's last words:\n%s", h.words())
		}
	})
	return h
}

func (h *hubProcess) url() string { return "https://" + h.addr }

// client returns a client of the hub's API, once that answers.
func (h *hubProcess) client(t *testing.T) *client.Client {
	t.Helper()
	var token, ca []byte
	await(t, "the hub's token and certificate", func() error {
		var errs [2]error
		token, errs[0] = os.ReadFile(filepath.Join(h.dir, "token"))
		ca, errs[1] = os.ReadFile(filepath.Join(h.dir, "ca.crt"))
		return errors.Join(errs[:]...)
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	c := client.New(h.url(), strings.TrimSpace(string(token)))
	c.Trust(roots)
	t.Cleanup(c.Close)
	await(t, "the hub", func() error {
		_, err := c.Version(t.Context())
		return err
	})
	return c
}

// A told is how a verb of sedge ended.
type told struct {
	out, err string
	code     int
}

// sedge runs a verb of the operator's command against the hub, and ends it when it takes
// too long.
func (h *hubProcess) sedge(t *testing.T, stdin string, args ...string) told {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	var out, talk bytes.Buffer
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	c := exec.CommandContext(ctx, file, args...)
	c.Env = append(os.Environ(), "SEDGE_HUB_URL="+h.url(), "SEDGE_TOKEN_FILE="+filepath.Join(h.dir, "token"), "SEDGE_HUB_CA="+filepath.Join(h.dir, "ca.crt"))
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &talk
	if err := c.Run(); err != nil && c.ProcessState == nil {
		t.Fatal(err)
	}
	return told{out.String(), talk.String(), c.ProcessState.ExitCode()}
}

// A pi is a sedge-agent in a process of its own: a node of the fleet.
type pi struct {
	process
	name   string
	dir    string
	broker *mqtttest.Broker
}

// A home is a hub and its nodes, each with a broker.
type home struct {
	hub    *hubProcess
	proxy  *mqtttest.Proxy // between the nodes and the hub
	client *client.Client
	pis    []*pi
	ears   *ears
	pokes  atomic.Int64
}

// newHome starts a hub and so many nodes, which have joined it.
func newHome(t *testing.T, nodes int, labels func(i int) string) *home {
	t.Helper()
	t.Cleanup(func() { awaitNoOrphans(t) }) // once all else has ended
	h := &home{hub: newHub(t), ears: newEars()}
	h.proxy = mqtttest.StartProxy(t, h.hub.addr)
	h.client = h.hub.client(t)
	for i := range nodes {
		h.join(t, fmt.Sprintf("pi-%02d", i), labels(i))
	}
	for _, p := range h.pis {
		h.awaitConnected(t, p.name)
	}
	return h
}

// join has a new node join and starts it.
func (h *home) join(t *testing.T, name, labels string) *pi {
	t.Helper()
	p := &pi{name: name, dir: filepath.Join(t.TempDir(), name), broker: mqtttest.Start(t, mqtttest.Options{NoDelay: true})}
	h.ears.listen(t, name, p.broker.Addr())
	made := h.hub.sedge(t, "", "token", "create", "--labels", labels, "-o", "name")
	if made.code != 0 {
		t.Fatalf("token create: %+v", made)
	}
	file, err := agentProgram()
	if err != nil {
		t.Fatal(err)
	}
	join := exec.Command(file, "join", "https://"+h.proxy.Addr(), "--token", strings.TrimSpace(made.out), "--data-dir", p.dir, "--node-name", name)
	if out, err := join.CombinedOutput(); err != nil {
		t.Fatalf("join %s: %v\n%s", name, err, out)
	}
	h.run(t, p)
	h.pis = append(h.pis, p)
	return p
}

// run starts the agent of a node that has joined.
func (h *home) run(t *testing.T, p *pi) {
	t.Helper()
	p.process = process{program: agentProgram, log: p.dir + ".log"}
	p.args = []string{"--data-dir", p.dir, "--node-name", p.name, "--mqtt", p.broker.URL(),
		"--http-listen", "off", "--ops-listen", "off", "--pods", "off", "--log-format", "text"}
	p.start(t)
	t.Cleanup(func() {
		if p.cmd != nil {
			p.kill(t)
		}
		if t.Failed() {
			t.Logf("the last words of %s:\n%s", p.name, p.words())
		}
	})
}

func (h *home) awaitConnected(t *testing.T, name string) {
	t.Helper()
	await(t, name+" to be connected", func() error {
		n, err := h.client.Node(t.Context(), name)
		if err == nil && !n.Connected {
			err = errors.New("it is away")
		}
		return err
	})
}

// revive starts the hub again and waits until it answers: who dials before waits long.
func (h *home) revive(t *testing.T) {
	t.Helper()
	h.hub.start(t)
	h.hub.client(t)
}

// restart kills a node's agent and starts it again: then it dials at once.
func (h *home) restart(t *testing.T, p *pi) {
	t.Helper()
	p.kill(t)
	p.start(t)
}

// reflex is a function that answers each poke with its name and version.
func reflex(name string, version int, placement string) string {
	return fmt.Sprintf(`apiVersion: sedge.dev/v1
kind: Function
metadata: {name: %[1]s}
spec:
  runtime: javascript
  triggers: [{mqtt: {topic: in/poke}}]
  output: {topic: "out/%[1]s", qos: 1}
  env: {VERSION: "%[2]d"}
  placement: {nodes: {%[3]s}}
  source:
    inline: |
      export function handle(event, sedge) {
        return {function: %[1]q, version: Number(sedge.env.VERSION), n: event.payload.n};
      }
`, name, version, placement)
}

// function parses a manifest with its code inline.
func function(manifest string) (functions.Function, error) {
	m, err := functions.Parse("function.yaml", []byte(manifest))
	if err != nil {
		return functions.Function{}, err
	}
	return functions.New(m, "")
}

// ears hear what functions say on every node. Their methods may be called from several
// goroutines.
type ears struct {
	mouths map[string]mqtt.Client // by node; written before any is used
	mu     sync.Mutex
	heard  map[string]map[int]map[string]int // node → number of the poke → function → version; guarded by mu
	alarms map[string]int                    // node → messages on alarm; guarded by mu
}

func newEars() *ears {
	return &ears{mouths: map[string]mqtt.Client{}, heard: map[string]map[int]map[string]int{}, alarms: map[string]int{}}
}

// listen hears what functions say at the broker of a node.
func (e *ears) listen(t *testing.T, node, broker string) {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + broker).SetClientID("ears"))
	if token := c.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { c.Disconnect(100) })
	hear := func(_ mqtt.Client, m mqtt.Message) { e.hear(node, m) }
	if token := c.SubscribeMultiple(map[string]byte{"out/+": 1, "alarm": 1}, hear); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	e.mouths[node] = c
}

func (e *ears) hear(node string, m mqtt.Message) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if m.Topic() == "alarm" {
		e.alarms[node]++
		return
	}
	var said struct {
		Function   string
		Version, N int
	}
	if json.Unmarshal(m.Payload(), &said) != nil {
		return
	}
	if e.heard[node] == nil {
		e.heard[node] = map[int]map[string]int{}
	}
	if e.heard[node][said.N] == nil {
		e.heard[node][said.N] = map[string]int{}
	}
	e.heard[node][said.N][said.Function] = said.Version
}

// said returns which functions, at which version, have answered a poke on a node.
func (e *ears) said(node string, n int) map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.heard[node][n])
}

// alarmed returns the nodes that have sounded the alarm.
func (e *ears) alarmed() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.alarms)
}

// poke says something to every function of every node, and returns the number of it.
func (h *home) poke() int {
	n := int(h.pokes.Add(1))
	for _, mouth := range h.ears.mouths {
		mouth.Publish("in/poke", 1, false, fmt.Sprintf(`{"n":%d}`, n))
	}
	return n
}

// reacts waits until exactly the functions, at the versions, that want has for each node
// answer a poke.
func (h *home) reacts(t *testing.T, want map[string]map[string]int) {
	t.Helper()
	n, asked := 0, 0
	await(t, "every function to react on every node", func() error {
		if asked%100 == 0 { // a second
			n = h.poke()
		}
		asked++
		for _, p := range h.pis {
			if got := h.ears.said(p.name, n); !maps.Equal(got, want[p.name]) {
				return fmt.Errorf("on %s poke %d was answered by %v, want %v", p.name, n, got, want[p.name])
			}
		}
		return nil
	})
}

// put deploys a manifest.
func (h *home) put(ctx context.Context, manifest string, o client.DeployOptions) (edge.Change, error) {
	f, err := function(manifest)
	if err != nil {
		return edge.Change{}, err
	}
	return h.client.Deploy(ctx, f, o)
}

// has waits until the hub, and each node's own status, say that every node has the
// functions that want has for it, at their current revisions.
func (h *home) has(t *testing.T, want map[string]map[string]functions.Revision) {
	t.Helper()
	placed := map[string]int{}
	for _, all := range want {
		for name := range all {
			placed[name]++
		}
	}
	awaitFor(t, comeback, "every node to be in step", func() error {
		for name, nodes := range placed {
			d, err := h.client.Function(t.Context(), name)
			if err != nil {
				return err
			}
			if s := d.Spread; s.Placed != nodes || s.Connected != nodes || s.Current != nodes {
				return fmt.Errorf("%s is spread %+v, want it on %d nodes", name, s, nodes)
			}
		}
		for _, p := range h.pis {
			all, err := h.client.On(p.name).Functions(t.Context())
			if err != nil {
				return err
			}
			got := map[string]functions.Revision{}
			for _, f := range all {
				got[f.Name] = f.Revision
			}
			if !maps.Equal(got, want[p.name]) {
				return fmt.Errorf("%s has %v, want %v", p.name, got, want[p.name])
			}
		}
		return nil
	})
}
