//go:build cluster

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/sedge-iot/sedge/edge/kube"
)

// sleeper is a function that sleeps a moment after it has run. What it may use decides
// whether a pod of the pool will do.
const sleeper = `apiVersion: sedge.dev/v1
kind: Function
metadata: {name: %[1]s}
spec:
  runtime: javascript
  triggers: [{mqtt: {topic: "wake/%[1]s"}}]
  output: {topic: "awake/%[1]s"}
  placement: {sandbox: pod}
  resources: {memory: %[2]s}
  scaling: {idle: %[3]s}
  source: {inline: "export const handle = event => event.payload"}
`

// A rouser wakes functions and hears them answer.
type rouser struct {
	client mqtt.Client
	mu     sync.Mutex
	waits  map[string]chan struct{} // function → closed when it answers; guarded by mu
}

func newRouser(t *testing.T, broker string) *rouser {
	t.Helper()
	r := &rouser{waits: map[string]chan struct{}{}}
	r.client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + broker).SetClientID("rouser"))
	if token := r.client.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	t.Cleanup(func() { r.client.Disconnect(100) })
	token := r.client.Subscribe("awake/#", 1, func(_ mqtt.Client, m mqtt.Message) {
		r.mu.Lock()
		defer r.mu.Unlock()
		name := strings.TrimPrefix(m.Topic(), "awake/")
		if c := r.waits[name]; c != nil {
			close(c)
			delete(r.waits, name)
		}
	})
	if token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	return r
}

// rouse says something to a function and returns what is closed when it answers.
func (r *rouser) rouse(function string) <-chan struct{} {
	answered := make(chan struct{})
	r.mu.Lock()
	r.waits[function] = answered
	r.mu.Unlock()
	r.client.Publish("wake/"+function, 1, false, "1")
	return answered
}

// latency returns how long a function takes to answer.
func (r *rouser) latency(t *testing.T, function string) time.Duration {
	t.Helper()
	began := time.Now()
	answered := r.rouse(function)
	select {
	case <-answered:
		return time.Since(began)
	case <-time.After(patience):
		t.Fatalf("%s did not answer", function)
		return 0
	}
}

// asleep waits until the function has no pod and the pool has its one, connected.
func (b *board) asleep(t *testing.T, function string) {
	t.Helper()
	awaitFor(t, patience, function+" to sleep and the pool to be full", func() error {
		pods, err := b.pods(t.Context(), functionSpace)
		if err != nil {
			return err
		}
		if len(pods) != 1 {
			return fmt.Errorf("there are %d pods", len(pods))
		}
		for name, p := range pods {
			if !strings.HasPrefix(name, "pool-") || p.Metadata.Labels["sedge.dev/function"] != "" || !isReady(p) {
				return fmt.Errorf("%s is %s, %v", name, p.Status.Phase, p.Metadata.Labels)
			}
		}
		return b.poolReady(t)
	})
}

// poolReady asks the agent whether a pod of the pool waits for a function.
func (b *board) poolReady(t *testing.T) error {
	t.Helper()
	pods, err := b.pods(t.Context(), agentSpace)
	if err != nil {
		return err
	}
	for name, p := range pods {
		if !strings.HasPrefix(name, "sedge-agent-") {
			continue
		}
		text, err := b.get("http://" + net.JoinHostPort(p.Status.PodIP, "7781") + "/metrics")
		if err == nil && !strings.Contains(text, "\nsedge_pool_ready 1\n") {
			err = errors.New("no pod of the pool is ready")
		}
		return err
	}
	return errors.New("there is no agent")
}

func isReady(p *kube.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c kube.Condition) bool { return c.Type == "Ready" && c.Status == "True" })
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// bare returns how long a pod of the same image takes from its creation until it
// answers HTTP, and takes it away.
func (b *board) bare(t *testing.T, n int) time.Duration {
	t.Helper()
	pods := kube.Pods.In(b.kube, "default")
	name := fmt.Sprintf("bare-%d", n)
	p := &kube.Pod{
		Metadata: kube.Meta{Name: name},
		Spec: kube.PodSpec{NodeName: b.name, DNSPolicy: "Default", TerminationGracePeriodSeconds: new(int64(1)), Containers: []kube.Container{{
			Name: "agent", Image: agentReference, ImagePullPolicy: "IfNotPresent",
			Args: []string{"--data-dir", "/tmp/sedge", "--mqtt", "mqtt://127.0.0.1:1", "--http-listen", "off", "--pods", "off", "--ops-listen", "0.0.0.0:7781"},
		}}},
	}
	began := time.Now()
	if _, err := pods.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	var address string
	awaitFor(t, patience, name, func() error {
		if address == "" {
			p, err := pods.Get(t.Context(), name)
			if err != nil || p.Status.PodIP == "" {
				return errors.Join(errors.New("it has no address"), err)
			}
			address = net.JoinHostPort(p.Status.PodIP, "7781")
		}
		_, err := b.get("http://" + address + "/healthz")
		return err
	})
	took := time.Since(began)
	if err := pods.Delete(t.Context(), name, ""); err != nil {
		t.Error(err)
	}
	return took
}

// get returns what is at a URL in the board's network.
func (b *board) get(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: b.dial, DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, text)
	}
	return string(text), err
}

// figures are what BENCHMARKS.md tells of pods.
type figures struct {
	Warm    time.Duration // event to publish of a sleeping function, from the pool, median
	Cold    time.Duration // the same with a pod of its own
	Bare    time.Duration // a bare pod of the same image, creation to HTTP
	Crowded time.Duration // until thirty functions that were called at once have answered
	Idle    memory        // of the agent with no function
	Full    memory        // of the agent with twenty pods at work
}

func TestClusterAFirstEventWakesItsFunction(t *testing.T) {
	b := newBoard(t, "wake")
	b.install(t)
	idle := b.memory(t)
	b.deploy(t, fmt.Sprintf(sleeper, "warm", "32Mi", "1s"), fmt.Sprintf(sleeper, "cold", "40Mi", "1s"))
	r := newRouser(t, b.broker)
	var warm, cold, bare []time.Duration
	rounds := 3
	if *record != "" {
		rounds = 10
	}
	for i := range rounds {
		b.asleep(t, "warm")
		warm = append(warm, r.latency(t, "warm"))
		b.asleep(t, "cold")
		cold = append(cold, r.latency(t, "cold"))
		b.asleep(t, "cold")
		bare = append(bare, b.bare(t, i))
	}
	f := figures{Warm: median(warm), Cold: median(cold), Bare: median(bare), Idle: idle}
	f.Crowded = b.crowded(t, r)
	f.Full = b.full(t, r)
	t.Logf("first event of a sleeping function, median of %d: %v from the pool, %v with a pod of its own; a bare pod answers after %v (%.2f×)",
		rounds, f.Warm, f.Cold, f.Bare, float64(f.Cold)/float64(f.Bare))
	t.Logf("thirty functions at once on a cold node: all have answered after %v", f.Crowded)
	t.Logf("the agent idle: %v; with twenty pods: %v", f.Idle, f.Full)
	if *record != "" {
		if err := f.record(*record); err != nil {
			t.Fatal(err)
		}
	}
}

const podSection = `
## Pods

%s, on %s cores. Kubernetes 1.37 with containerd and crun on one
node; mosquitto with set_tcp_nodelay true and the load beside it; medians of ten, one
run. Resident memory holds the pages of the program's file that were used.

| what | budget | measured | |
|---|---|---|---|
| first event of a sleeping function, from the warm pool | ≤ 15 ms | %s | %s |
| the same with a pod of its own, against a bare pod of the same image until it answers HTTP (%s) | ≤ 1.5× | %s, %.2f× | %s |
| thirty functions called at once on a cold node, until all have answered | | %s | |
| memory of the agent, idle | ≤ 28 MB | %v | %s |
| memory of the agent with twenty pods that have just worked | | %v | |
`

// record makes the figures the last section of a report.
func (f figures) record(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, _, _ = bytes.Cut(text, []byte("\n## Pods\n"))
	ratio := float64(f.Cold) / float64(f.Bare)
	text = fmt.Appendf(text, podSection, time.Now().UTC().Format(time.DateOnly), strconv.Itoa(runtime.NumCPU()),
		millis(f.Warm), kept(f.Warm <= 15*time.Millisecond), millis(f.Bare), millis(f.Cold), ratio, kept(ratio <= 1.5), millis(f.Crowded),
		f.Idle, kept(f.Idle.resident <= 28e6), f.Full)
	return os.WriteFile(path, text, 0o644)
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1e3) }

func kept(is bool) string {
	if is {
		return "kept"
	}
	return "**missed**"
}

// crowded wakes thirty functions at once and returns when the last has answered.
func (b *board) crowded(t *testing.T, r *rouser) time.Duration {
	t.Helper()
	var names []string
	for i := range 30 {
		names = append(names, fmt.Sprintf("many%d", i))
	}
	b.deploySleepers(t, names, "2s")
	b.asleep(t, "each of thirty")
	began := time.Now()
	var all []<-chan struct{}
	for _, name := range names {
		all = append(all, r.rouse(name))
	}
	for i, answered := range all {
		select {
		case <-answered:
		case <-time.After(patience):
			t.Fatalf("%s did not answer", names[i])
		}
	}
	took := time.Since(began)
	b.sedge(t, "", append([]string{"delete", "-y"}, names...)...)
	return took
}

// full gives the agent twenty pods and returns how much memory it takes then.
func (b *board) full(t *testing.T, r *rouser) memory {
	t.Helper()
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("full%d", i))
	}
	b.deploySleepers(t, names, "5m")
	for _, name := range names {
		r.latency(t, name)
	}
	return b.memory(t)
}

// A memory is how much of it a process takes, bytes.
type memory struct{ resident, anonymous int64 }

func (m memory) String() string {
	return fmt.Sprintf("%.1f MB resident, %.1f MB of it anonymous", float64(m.resident)/1e6, float64(m.anonymous)/1e6)
}

// memory returns how much the board's agent takes.
func (b *board) memory(t *testing.T) (m memory) {
	t.Helper()
	agents := b.processes(isAgent)
	if len(agents) != 1 {
		t.Fatalf("the board runs %d agents, want 1", len(agents))
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", agents[0]))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kB int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kB); err == nil {
			m.resident = kB << 10
		}
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &kB); err == nil {
			m.anonymous = kB << 10
		}
	}
	return m
}

func (b *board) deploySleepers(t *testing.T, names []string, idle string) {
	t.Helper()
	for _, name := range names { // the first deploy waits for nobody: they load together
		b.sedge(t, fmt.Sprintf(sleeper, name, "40Mi", idle), "deploy", "-f", "-")
	}
	for _, name := range names {
		b.sedge(t, fmt.Sprintf(sleeper, name, "40Mi", idle), "deploy", "-f", "-", "--wait", "--timeout", patience.String())
	}
}
