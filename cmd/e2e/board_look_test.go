//go:build cluster

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sedge-iot/sedge/edge/kube"
)

// patience is how long a cluster on a machine with much else to do may take.
const patience = 3 * time.Minute

// The namespaces of the manifests.
const (
	agentSpace    = "sedge-system"
	functionSpace = "sedge"
)

// pods returns the pods of a namespace that are not being taken away, by name.
func (b *board) pods(ctx context.Context, namespace string) (map[string]*kube.Pod, error) {
	all, err := kube.Pods.In(b.kube, namespace).List(ctx, kube.Selector{})
	if err != nil {
		return nil, err
	}
	pods := map[string]*kube.Pod{}
	for _, p := range all {
		if p.Metadata.Deleted == nil {
			pods[p.Metadata.Name] = p
		}
	}
	return pods, nil
}

// functionPods returns the pods that serve a function, by name.
func (b *board) functionPods(t *testing.T, function string) map[string]*kube.Pod {
	t.Helper()
	pods, err := b.pods(t.Context(), functionSpace)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range pods {
		if p.Metadata.Labels["sedge.dev/function"] != function {
			delete(pods, name)
		}
	}
	return pods
}

// starts identifies a pod and its containers: when it changes, something was started
// anew.
func starts(p *kube.Pod) string {
	s := p.Metadata.Name + " " + p.Metadata.UID
	for _, c := range p.Status.Containers {
		s += fmt.Sprintf(" %s×%d", c.Name, c.RestartCount)
	}
	return s
}

// agentReady returns what is wrong with the board's agent, or nil.
func (b *board) agentReady(t *testing.T) func() error {
	return func() error {
		pods, err := b.pods(t.Context(), agentSpace)
		if err != nil {
			return err
		}
		for name, p := range pods {
			if !strings.HasPrefix(name, "sedge-agent-") {
				continue
			}
			for _, c := range p.Status.Conditions {
				if c.Type == "Ready" && c.Status == "True" {
					return nil
				}
			}
			return fmt.Errorf("%s is %s: %+v", name, p.Status.Phase, p.Status.Containers)
		}
		return errors.New("it has no pod")
	}
}

// sedge runs the operator's command on the board's cluster and returns its answer.
func (b *board) sedge(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	sedge, err := program()
	if err != nil {
		t.Fatal(err)
	}
	var out, talk bytes.Buffer
	c := exec.Command(sedge, append(args, "--kubeconfig", b.kubeconfig)...)
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &talk
	if err := c.Run(); err != nil {
		t.Fatalf("sedge %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), talk.Bytes())
	}
	return out.String()
}

// deploy puts functions on the board and waits until they can hear.
func (b *board) deploy(t *testing.T, manifests ...string) {
	t.Helper()
	for _, text := range manifests {
		b.sedge(t, text, "deploy", "-f", "-", "--wait", "--timeout", patience.String())
	}
}

// processes returns the board's processes whose command line is what is wanted, as this
// host numbers them.
func (b *board) processes(wanted func(args []string) bool) (pids []int) {
	var walk func(pid int)
	walk = func(pid int) {
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && wanted(strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")) {
			pids = append(pids, pid)
		}
		for _, child := range children(strconv.Itoa(pid)) {
			walk(child)
		}
	}
	walk(b.pid)
	return pids
}

// What the processes of interest on a board are called by.
func isAgent(args []string) bool { return slices.Equal(args, []string{"/sedge-agent"}) }
func isRunner(args []string) bool {
	return len(args) == 3 && args[1] == "runner" && args[2] == "confined"
}

// strike kills those processes of the board, of which there must be some.
func (b *board) strike(t *testing.T, wanted func([]string) bool) {
	t.Helper()
	pids := b.processes(wanted)
	if len(pids) == 0 {
		t.Fatal("there is nothing to kill on the board")
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatalf("kill %d: %v", pid, err)
		}
	}
}

// dial connects to an address in the board's network. The thread that does so comes
// back to this host's: its end would end what it has started.
func (b *board) dial(ctx context.Context, network, address string) (net.Conn, error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer home.Close()
	there, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", b.pid))
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
		panic(err) // this thread is nowhere that any test wants to be
	}
	runtime.UnlockOSThread()
	return conn, err
}

// account tells how the cluster is and what the agent said last.
func (b *board) account(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second) // the test's own is over
	defer stop()
	for _, namespace := range []string{agentSpace, functionSpace} {
		pods, err := b.pods(ctx, namespace)
		t.Logf("pods in %s: %v", namespace, err)
		for _, p := range pods {
			t.Logf("%s %s %v %+v", starts(p), p.Status.Phase, p.Metadata.Labels, p.Status.Containers)
			if namespace == agentSpace {
				log, err := exec.CommandContext(ctx, clusterProgram, "api", b.name, "/api/v1/namespaces/"+namespace+"/pods/"+p.Metadata.Name+"/log?tailLines=60").CombinedOutput()
				t.Logf("its log: %v\n%s", err, log)
			}
		}
	}
}
