//go:build cluster

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sedge-iot/sedge/arm"
	"github.com/sedge-iot/sedge/arm/image"
	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/installer/k3s"
)

// A board is a machine with Kubernetes, a broker and, once it is installed, sedge
// on it. Its disk outlives a power cut.
type board struct {
	name       string
	disk       string // folder of what outlives a power cut
	kubeconfig string // for this host
	address    string // of the board in its own network
	pid        int    // of the board's first process
	broker     string // host:port here that leads to the board's broker, whenever it is on
	kube       *kube.Client

	mosquitto *exec.Cmd
	power     []*exec.Cmd // what else of this host's ends with a power cut
}

// clusterProgram brings up boards; make cluster builds it.
var clusterProgram, _ = filepath.Abs("../../bin/cluster")

// newBoard switches a board on, with a broker and the image of the agent on it; the
// test's end takes it away.
func newBoard(t *testing.T, name string) *board {
	t.Helper()
	b := &board{name: name, disk: t.TempDir(), broker: freeAddress(t)}
	b.on(t)
	t.Cleanup(func() { b.off(t) })
	t.Cleanup(func() {
		if t.Failed() {
			b.account(t)
		}
	})
	return b
}

// on switches the board on.
func (b *board) on(t *testing.T) {
	t.Helper()
	archive, err := agentArchive()
	if err != nil {
		t.Fatal(err)
	}
	var up struct {
		Kubeconfig, Address string
		PID                 int
	}
	text := b.do(t, "up", b.name, "--persist", filepath.Join(b.disk, "node"), "--image", archive, "--owner", fmt.Sprint(os.Getpid()))
	if err := json.Unmarshal(text, &up); err != nil {
		t.Fatal(err)
	}
	b.kubeconfig, b.address, b.pid = up.Kubeconfig, up.Address, up.PID
	if b.kube, err = kube.Open(b.kubeconfig); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(b.disk, "mosquitto.conf")
	write(t, conf, "listener 1883 0.0.0.0\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\n"+
		"persistence true\npersistence_location "+b.disk+"/\nuser root\n", 0o600)
	b.mosquitto, _ = b.spawn(t, "exec", b.name, "--", "/usr/sbin/mosquitto", "-c", conf) // where Debian has it
	b.reach(t, b.broker, b.address+":1883")
}

// shutBroker has the broker write what it keeps and end. What it would lose of that in
// a power cut is not ours.
func (b *board) shutBroker(t *testing.T) {
	t.Helper()
	if err := b.mosquitto.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := b.mosquitto.Wait(); err != nil {
		t.Fatalf("mosquitto: %v", err)
	}
}

// off cuts the board's power.
func (b *board) off(t *testing.T) {
	t.Helper()
	b.do(t, "kill", b.name, "node")
	for _, c := range b.power {
		c.Process.Kill()
		c.Wait() // which only says that it was killed
	}
	b.power = nil
}

// do has the program do something to boards, and returns what it prints.
func (b *board) do(t *testing.T, args ...string) []byte {
	t.Helper()
	var out, talk bytes.Buffer
	c := exec.Command(clusterProgram, args...)
	c.Stdout, c.Stderr = &out, &talk
	if err := c.Run(); err != nil {
		t.Fatalf("cluster %s: %v\n%s", strings.Join(args, " "), err, talk.Bytes())
	}
	return out.Bytes()
}

// spawn starts something that ends with the board's power, and returns it with what it
// prints.
func (b *board) spawn(t *testing.T, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	c := exec.Command(clusterProgram, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	b.power = append(b.power, c)
	return c, bufio.NewReader(out)
}

// reach makes an address here lead to one in the board's network, and returns it.
func (b *board) reach(t *testing.T, here, there string) string {
	t.Helper()
	_, out := b.spawn(t, "proxy", b.name, here, there)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatalf("reach %s on the board: %v", there, err)
	}
	return strings.TrimSpace(line)
}

// agentArchive builds the agent and packs its image, once.
var agentArchive = sync.OnceValues(func() (string, error) {
	file := filepath.Join(scratch, "sedge-agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "../sedge-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sedge-agent: %w\n%s", err, out)
	}
	p, err := image.Open(file, "sedge-agent")
	if err != nil {
		return "", err
	}
	img, err := p.Image()
	if err != nil {
		return "", err
	}
	var archive bytes.Buffer
	if err := image.WriteArchive(&archive, agentReference, img); err != nil {
		return "", err
	}
	return file + ".tar", os.WriteFile(file+".tar", archive.Bytes(), 0o600)
})

// agentReference is the image of the programs under test.
var agentReference = arm.AgentReference("v0.0.0-test")

// plurals are the names under which the API serves the kinds of the manifests.
var plurals = map[string]string{
	"Namespace": "namespaces", "CustomResourceDefinition": "customresourcedefinitions", "ServiceAccount": "serviceaccounts",
	"Role": "roles", "RoleBinding": "rolebindings", "ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings",
	"NetworkPolicy": "networkpolicies", "ConfigMap": "configmaps", "DaemonSet": "daemonsets", "Function": "functions",
}

// install puts sedge on the board as a user would, but for the image's version and
// the broker's address, and waits for its agent.
func (b *board) install(t *testing.T) {
	t.Helper()
	text, err := k3s.Files.ReadFile("sedge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	released := arm.AgentImage + ":" + chartVersion(t)
	for was, is := range map[string]string{
		released:                             agentReference,
		"mqtt://mosquitto.sedge-system:1883": "mqtt://" + b.address + ":1883",
		"path: \"/var/lib/sedge\"":           fmt.Sprintf("path: %q", filepath.Join(b.disk, "sedge")), // a board has its files from this host
	} {
		if !bytes.Contains(text, []byte(was)) {
			t.Fatalf("sedge.yaml does not say %s", was)
		}
		text = bytes.ReplaceAll(text, []byte(was), []byte(is))
	}
	for _, doc := range documents(t, text) {
		await(t, "the API server to take what sedge.yaml has", func() error { return b.apply(t, doc) })
	}
	awaitFor(t, patience, "the agent", b.agentReady(t))
}

// chartVersion returns the version that the chart installs.
func chartVersion(t *testing.T) string {
	t.Helper()
	text, err := k3s.Files.ReadFile("chart/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values struct{ Version string }
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	return values.Version
}

// documents splits a file of objects.
func documents(t *testing.T, text []byte) (docs []map[string]any) {
	t.Helper()
	for part := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var doc map[string]any
		if err := yaml.Unmarshal(part, &doc); err != nil {
			t.Fatal(err)
		}
		if doc != nil {
			docs = append(docs, doc)
		}
	}
	return docs
}

// apply makes the object of doc, as kubectl apply would.
func (b *board) apply(t *testing.T, doc map[string]any) error {
	t.Helper()
	kind := doc["kind"].(string)
	group, version, grouped := strings.Cut(doc["apiVersion"].(string), "/")
	if !grouped {
		group, version = "", group
	}
	plural := plurals[kind]
	if plural == "" {
		t.Fatalf("under what name does the API serve %s? add it to plurals", kind)
	}
	namespace, _ := doc["metadata"].(map[string]any)["namespace"].(string)
	_, err := kube.Kind[map[string]any]{Group: group, Version: version, Name: kind, Plural: plural}.In(b.kube, namespace).Try(t.Context(), &doc, false)
	return err
}
