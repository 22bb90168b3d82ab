package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/cmd/e2e/cluster/node"
)

// program is where make cluster puts it, beside the others that a node needs.
var program = filepath.Join("..", "..", "..", "bin", "cluster")

// ask runs the program and returns what it printed.
func ask(t *testing.T, args ...string) string {
	t.Helper()
	var out, talk bytes.Buffer
	c := exec.Command(program, args...)
	c.Stdout, c.Stderr = &out, &talk
	if err := c.Run(); err != nil {
		t.Fatalf("cluster %s: %v\n%s(make cluster builds the program)", strings.Join(args, " "), err, talk.String())
	}
	return strings.TrimSpace(out.String())
}

// bring brings a node up for the length of the test.
func bring(t *testing.T, name string, flags ...string) node.Node {
	t.Helper()
	t.Cleanup(func() { ask(t, "down", name) })
	began := time.Now()
	var n node.Node
	if err := json.Unmarshal([]byte(ask(t, append([]string{"up", name}, flags...)...)), &n); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s was ready after %d ms", name, time.Since(began).Milliseconds())
	return n
}

// eventually waits until holds returns nil.
func eventually(t *testing.T, holds func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		err := holds()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("it never came to be: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

const deployment = `{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
	"selector": {"matchLabels": {"app": "web"}},
	"template": {"metadata": {"labels": {"app": "web"}}, "spec": {
		"terminationGracePeriodSeconds": 1, "dnsPolicy": "Default",
		"containers": [{"name": "app", "image": "localhost/testapp:1", "env": [{"name": "PORT", "value": "8081"}],
			"securityContext": {"runAsNonRoot": true, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}}]}}}}`

// A pod is the part of one that these tests look at.
type pod struct {
	Status struct {
		Phase, PodIP      string
		ContainerStatuses []struct {
			ContainerID  string
			RestartCount int
			Ready        bool
		}
	}
}

// web returns the deployment's pod once it runs and was restarted at least as often.
func web(t *testing.T, name string, restarts int) (found pod) {
	t.Helper()
	eventually(t, func() error {
		out, err := exec.Command(program, "api", name, "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb").Output()
		if err != nil {
			return err
		}
		var list struct{ Items []pod }
		if err := json.Unmarshal(out, &list); err != nil || len(list.Items) != 1 {
			return fmt.Errorf("%d pods: %w", len(list.Items), err)
		}
		found = list.Items[0]
		s := found.Status.ContainerStatuses
		if len(s) != 1 || !s[0].Ready || s[0].RestartCount < restarts {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	return found
}

// hello returns what the pod answers on its port.
func hello(t *testing.T, name string, p pod) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, "proxy", name, "127.0.0.1:0", p.Status.PodIP+":8081")
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	var address string
	if _, err := fmt.Fscanln(out, &address); err != nil {
		t.Fatal(err)
	}
	answer, err := http.Get("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestANodeRunsAPodAndOutlivesTheLossOfItsParts(t *testing.T) {
	const name = "parts"
	image, state := filepath.Join(t.TempDir(), "testapp.tar"), t.TempDir()
	ask(t, "image", "localhost/testapp:1", image, filepath.Join(filepath.Dir(program), "testapp"))
	n := bring(t, name, "--persist", state, "--image", image)
	ask(t, "api", name, "--data", deployment, "/apis/apps/v1/namespaces/default/deployments")
	first := web(t, name, 0)
	if got := hello(t, name, first); !strings.HasPrefix(got, "web-") {
		t.Errorf("the pod says %q, want its name", got)
	}
	if traces(t, name) == "" {
		t.Error("a node that is up has left no trace: the look for what it leaves behind sees nothing")
	}

	within, err := os.Readlink(n.NetNS)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, "exec", name, "--", "readlink", "/proc/self/ns/net"); got != within {
		t.Errorf("exec is in %s, want %s", got, within)
	}
	if got := ask(t, "exec", "--all", name, "--", "hostname"); got != name {
		t.Errorf("host name %q, want %q", got, name)
	}

	ask(t, "kill", name, "kubelet")
	ask(t, "start", name, "kubelet")
	ask(t, "kill", name, "containerd")
	ask(t, "start", name, "containerd")
	ask(t, "stop", name, "apiserver")
	if out, err := exec.Command(program, "api", name, "/readyz").CombinedOutput(); err == nil {
		t.Errorf("the API server is stopped and says %s", out)
	}
	if got := hello(t, name, first); !strings.HasPrefix(got, "web-") {
		t.Errorf("without an API server the pod says %q", got)
	}
	ask(t, "start", name, "apiserver")
	if now := web(t, name, 0); now.Status.ContainerStatuses[0].ContainerID != first.Status.ContainerStatuses[0].ContainerID {
		t.Error("the container is another")
	}

	ask(t, "kill", name, "node")
	if _, err := os.Stat(n.NetNS); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the power cut: %v", err)
	}
	bring(t, name, "--persist", state)
	if got := hello(t, name, web(t, name, 1)); !strings.HasPrefix(got, "web-") {
		t.Errorf("after the power cut the pod says %q", got)
	}
	ask(t, "down", name)
	if left := traces(t, name); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

func TestTwoNodesWithTheSameAddressesDoNotMeet(t *testing.T) {
	a, b := bring(t, "left"), bring(t, "right")
	if a.Address != b.Address || a.URL == b.URL {
		t.Errorf("addresses %s and %s, API servers %s and %s", a.Address, b.Address, a.URL, b.URL)
	}
	for _, name := range []string{"left", "right"} {
		var nodes struct {
			Items []struct{ Metadata struct{ Name string } }
		}
		if err := json.Unmarshal([]byte(ask(t, "api", name, "/api/v1/nodes")), &nodes); err != nil {
			t.Fatal(err)
		}
		if len(nodes.Items) != 1 || nodes.Items[0].Metadata.Name != name {
			t.Errorf("nodes of %s: %v", name, nodes.Items)
		}
	}
	out, err := exec.Command(program, "up", "left").CombinedOutput()
	if want := "cluster left: is up already"; err == nil || !strings.Contains(string(out), want) {
		t.Errorf("up once more: %v, %s, want %q", err, out, want)
	}
}

func TestANodeEndsWithItsOwnerOrItsTime(t *testing.T) {
	owner := exec.Command("cat")
	if _, err := owner.StdinPipe(); err != nil { // it reads until the pipe is closed
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	bring(t, "owned", "--owner", strconv.Itoa(owner.Process.Pid))
	owner.Process.Kill()
	owner.Wait()
	gone := func() error {
		if left := traces(t, "owned"); left != "" {
			return errors.New(left)
		}
		return nil
	}
	eventually(t, gone)

	bring(t, "owned", "--for", "1ms")
	eventually(t, gone)
}

// traces tells what there is of a node on this machine. Every process of it is
// in one of its cgroups, which cannot go while one is left. Other nodes may come
// and go meanwhile.
func traces(t *testing.T, name string) string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"/sys/fs/cgroup/*/sedge-cluster-" + name, "/sys/fs/cgroup/*/*/*/sedge-cluster-" + name, "/tmp/sedge-cluster/" + name + "*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "/sedge-cluster/"+name+"/") {
			all = append(all, line)
		}
	}
	keepers, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range keepers {
		text, err := os.ReadFile(file) // it may be gone
		if err == nil && bytes.Contains(text, []byte(`"Name":"`+name+`"`)) {
			all = append(all, file)
		}
	}
	return strings.Join(all, ", ")
}
