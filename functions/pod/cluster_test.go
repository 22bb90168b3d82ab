//go:build cluster

package pod

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/arm/image"
	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/sandboxtest"
)

const (
	clusterImage = "localhost/sedge-agent:suite"
	echoName     = "localhost/echo"
)

// prepare builds the images and gives them to the node, once.
var prepare = sync.OnceValues(func() (echo string, err error) {
	dir, err := os.MkdirTemp("", "sedge-images-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if _, err := deliver(dir, "sedge-agent", "../../cmd/sedge-agent", clusterImage); err != nil {
		return "", err
	}
	digest, err := deliver(dir, "echo", "../../cmd/e2e/echoimage", echoName+":1")
	if err != nil {
		return "", err
	}
	echo = echoName + "@" + digest
	return echo, tool("exec", "--all", os.Getenv("NODE_NAME"), "--", "ctr", "-n", "k8s.io", "images", "tag", "--force", echoName+":1", echo)
})

// deliver builds a program, packs it and imports it, and returns the image's digest.
func deliver(dir, name, pkg, reference string) (string, error) {
	program := filepath.Join(dir, name)
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", name, err, out)
	}
	p, err := image.Open(program, name)
	if err != nil {
		return "", err
	}
	img, err := p.Image()
	if err != nil {
		return "", err
	}
	f, err := os.Create(program + ".tar")
	if err != nil {
		return "", err
	}
	if err := errors.Join(image.WriteArchive(f, reference, img), f.Close()); err != nil {
		return "", err
	}
	digest, err := img.Digest()
	if err != nil {
		return "", err
	}
	return digest.String(), tool("import", os.Getenv("NODE_NAME"), f.Name())
}

// tool runs bin/cluster.
func tool(args ...string) error {
	out, err := exec.Command("../../bin/cluster", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cluster %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// openCluster starts a sandbox in a namespace of its own.
func openCluster(t *testing.T, edits ...func(*Config)) *Sandbox {
	t.Helper()
	if _, err := prepare(); err != nil {
		t.Fatal(err)
	}
	client, err := kube.Open(os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(t.Name()))
	ns := "sedge-" + hex.EncodeToString(sum[:5])
	makeNamespace(t, client, ns)
	return runCluster(t, client, ns, edits...)
}

// A namespace has the labels that Pod Security goes by.
type namespace struct {
	kube.TypeMeta
	Metadata kube.Meta `json:"metadata"`
}

var namespaces = kube.Kind[namespace]{Version: "v1", Name: "Namespace", Plural: "namespaces"}

func makeNamespace(t *testing.T, c *kube.Client, name string) {
	t.Helper()
	all := namespaces.In(c, "")
	_, err := all.Apply(t.Context(), &namespace{Metadata: kube.Meta{Name: name, Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest",
	}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { all.Delete(context.Background(), name, "") })
}

func runCluster(t *testing.T, client *kube.Client, ns string, edits ...func(*Config)) *Sandbox {
	t.Helper()
	cfg := Config{
		Client:    client,
		Node:      os.Getenv("NODE_NAME"),
		Namespace: ns,
		Image:     clusterImage,
		Secret:    []byte(strings.Repeat("s", SecretSize)),
		Logger:    slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- s.Run(ctx) }() // awaited by the cleanup
	t.Cleanup(func() {
		s.Leave()
		stop()
		if err := <-ran; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return s
}

func startOn(t *testing.T, s *Sandbox, f functions.Function) functions.Instance {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	i, err := s.Start(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Close() })
	return i
}

func TestClusterShowsTheBehaviourOfASandbox(t *testing.T) {
	sandboxtest.Run(t, func(t *testing.T) functions.Sandbox { return openCluster(t, pool(2)) })
}

func TestClusterPoolIsFast(t *testing.T) {
	s := openCluster(t, pool(1))
	var took []time.Duration
	for n := range 15 {
		eventually(t, "a warm pod", func() bool { return s.Warm() > 0 })
		f := function(t, fmt.Sprintf("fast-%d", n), "return 1")
		began := time.Now()
		i, err := s.Start(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		call(t, i)
		took = append(took, time.Since(began))
		i.Close()
	}
	slices.Sort(took)
	t.Logf("first event out of the pool: median %v, worst %v", took[len(took)/2], took[len(took)-1])
}

// TestClusterColdPod compares with a bare pod of the same image, from its making to
// where its port answers.
func TestClusterColdPod(t *testing.T) {
	s := openCluster(t)
	bare := bareTimes(t, s)
	var took []time.Duration
	for n := range 5 {
		f := function(t, fmt.Sprintf("cold-%d", n), "return 1")
		began := time.Now()
		i := startOn(t, s, f)
		call(t, i)
		took = append(took, time.Since(began))
		i.Close()
	}
	slices.Sort(took)
	t.Logf("first event in a cold pod: median %v, worst %v; a bare pod answers after %v: %.2f times", took[len(took)/2], took[len(took)-1],
		bare, float64(took[len(took)/2])/float64(bare))
}

// bareTimes returns the median time that a pod without a sandbox around it takes.
func bareTimes(t *testing.T, s *Sandbox) time.Duration {
	t.Helper()
	owner, err := s.ownPool(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for range 5 {
		p := s.poolPod(owner)
		delete(p.Metadata.Labels, labelNode) // no one's
		began := time.Now()
		if _, err := s.pods.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		eventually(t, "an answer", func() bool {
			now, err := s.pods.Get(t.Context(), p.Metadata.Name)
			if err != nil || now.Status.PodIP == "" {
				return false
			}
			c, err := net.DialTimeout("tcp", net.JoinHostPort(now.Status.PodIP, "7070"), time.Second)
			if err != nil {
				return false
			}
			c.Close()
			return true
		})
		took = append(took, time.Since(began))
		s.pods.Delete(t.Context(), p.Metadata.Name, "")
	}
	slices.Sort(took)
	return took[len(took)/2]
}

func TestClusterAgentThatStartsAgainFindsItsPods(t *testing.T) {
	s := openCluster(t)
	f := function(t, "lamp", "return 1")
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	i, err := s.Start(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	before := podOf(t, s, i)
	s.Leave()
	i.Close()
	j := startOn(t, runCluster(t, s.cfg.Client, s.cfg.Namespace), f)
	if got := call(t, j); got != "1" || j.Describe().Name != i.Describe().Name {
		t.Errorf("got %s from %s, want it from %s", got, j.Describe().Name, i.Describe().Name)
	}
	if after := podOf(t, s, j); after.Metadata.UID != before.Metadata.UID || restarts(after) != 0 {
		t.Errorf("its pod was started again")
	}
}

func podOf(t *testing.T, s *Sandbox, i functions.Instance) *kube.Pod {
	t.Helper()
	p, err := s.pods.Get(t.Context(), i.Describe().Name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestClusterMemoryLimitIsSeen(t *testing.T) {
	s := openCluster(t)
	f := function(t, "bomb", "const a = []; for (;;) a.push(new Uint8Array(1 << 20).fill(1))")
	i := startOn(t, s, f)
	if got := call(t, i); got != "runner.limit: killed: memory limit 32Mi" && !strings.HasPrefix(got, "function.error") {
		t.Errorf("got %s", got)
	}
}

func TestClusterRunnerIsWalledIn(t *testing.T) {
	s := openCluster(t)
	i := startOn(t, s, function(t, "walled", "return 1"))
	p := podOf(t, s, i)
	out, err := exec.Command("../../bin/cluster", "exec", "--all", os.Getenv("NODE_NAME"), "--",
		"sh", "-c", fmt.Sprintf("grep -l ^Uid:.%d /proc/[0-9]*/status | xargs grep -E '^(Name|Seccomp|NoNewPrivs|CapEff|Uid):'; cat /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -c %s",
			*p.Spec.SecurityContext.RunAsUser, p.Spec.Containers[0].Env[0].Value)).CombinedOutput()
	text := string(out)
	if err != nil && !strings.HasSuffix(text, "0\n") { // grep -c ends with 1 if it found none
		t.Fatalf("%v: %s", err, out)
	}
	if strings.Count(text, "Seccomp:\t2") < 2 || strings.Count(text, "NoNewPrivs:\t1") < 2 || strings.Contains(text, "CapEff:\t0000003") {
		t.Errorf("its processes are\n%s", text)
	}
	if !strings.HasSuffix(text, "0\n") {
		t.Errorf("the seed shows in an environment:\n%s", text)
	}
}

func TestClusterImagesAnswer(t *testing.T) {
	s := openCluster(t)
	echo, err := prepare()
	if err != nil {
		t.Fatal(err)
	}
	f := function(t, "echo", "", func(spec *functions.Spec) {
		spec.Runtime, spec.Source = functions.RuntimeImage, functions.Source{Image: echo}
	})
	i := startOn(t, s, f)
	if got := call(t, i); !strings.Contains(got, `"payload":1`) {
		t.Errorf("got %s", got)
	}
}

func TestClusterMissingImageIsNamed(t *testing.T) {
	s := openCluster(t, func(c *Config) { c.Image = "localhost/none:1" })
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	_, err := s.Start(ctx, function(t, "lamp", "return 1"))
	if err == nil || !strings.Contains(err.Error(), "localhost/none:1") || errors.Is(err, functions.ErrUnfit) {
		t.Errorf("Start = %v", err)
	}
}

func TestClusterStrangersAreTurnedAway(t *testing.T) {
	s := openCluster(t)
	i := startOn(t, s, function(t, "lamp", "return 1"))
	c, err := net.DialTimeout("tcp", net.JoinHostPort(podOf(t, s, i).Status.PodIP, "7070"), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	if got := call(t, i); got != "1" {
		t.Errorf("beside a stranger the agent got %s", got)
	}
}
