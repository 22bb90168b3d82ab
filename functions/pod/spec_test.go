package pod

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/pod/keeper"
)

var update = flag.Bool("update", false, "rewrite the pods in testdata")

// TestPodsAreAsWritten compares pods with testdata/*.yaml. What is new in each pod is
// left out of both.
func TestPodsAreAsWritten(t *testing.T) {
	s, err := New(Config{Client: newAPI(t).client(t), Node: "node1", Image: "ghcr.io/sedge-iot/sedge-agent:v1", Secret: make([]byte, SecretSize)})
	if err != nil {
		t.Fatal(err)
	}
	owner := kube.Owner{APIVersion: "v1", Kind: "ConfigMap", Name: "OWNER", UID: "UID"}
	long := strings.Repeat("long-", 12) + "end"
	for name, p := range map[string]*kube.Pod{
		"pool":     s.poolPod(owner),
		"function": s.functionPod(function(t, "night-light", "return 1"), owner),
		"limits": s.functionPod(function(t, long, "return 1", func(s *functions.Spec) {
			s.Resources.Memory, s.Resources.CPU, s.Placement.Pin = 200<<20, "500m", functions.PinCluster
		}), owner),
		"image": s.functionPod(function(t, "resize", "", func(s *functions.Spec) {
			s.Runtime, s.Source = functions.RuntimeImage, functions.Source{Image: "registry.example/resize@sha256:" + strings.Repeat("ab", 32)}
			s.Env = map[string]string{"WIDTH": "640", "ODD": "$(PORT) $x"}
			s.Resources.Memory = 64 << 20
		}), owner),
	} {
		got := shown(t, s, p)
		file := filepath.Join("testdata", name+".yaml")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is\n%s\nwant\n%s", file, got, want)
		}
	}
}

// shown writes a pod as people read it.
func shown(t *testing.T, s *Sandbox, p *kube.Pod) string {
	t.Helper()
	nonce := p.Metadata.Annotations[annotationNonce]
	text, err := json.Marshal(p)
	if err == nil {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Metadata.Name) > maxLabel {
		t.Errorf("%s has %d characters", p.Metadata.Name, len(p.Metadata.Name))
	}
	out := strings.NewReplacer(
		p.Metadata.Name, p.Metadata.Name[:len(p.Metadata.Name)-5]+"xxxxx",
		nonce, "NONCE",
		hex.EncodeToString(s.keys.pod(nonce)), "SEED",
		hex.EncodeToString(keeper.Public(s.keys.agent)), "AGENT",
		strconv.FormatInt(s.keys.user(nonce), 10), "USER",
	).Replace(string(text))
	return regexp.MustCompile(`revision: [0-9a-f]{64}`).ReplaceAllString(out, "revision: DIGEST")
}

func TestKeysAreDerivedAgainAndApart(t *testing.T) {
	secret := []byte(strings.Repeat("s", SecretSize))
	a, err := newKeys(secret)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := newKeys(secret)
	if string(a.pod("n1")) != string(b.pod("n1")) || string(a.agent) != string(b.agent) || a.user("n1") != b.user("n1") {
		t.Error("the same secret gives other keys")
	}
	if string(a.pod("n1")) == string(a.pod("n2")) || string(a.pod("n1")) == string(a.agent) || a.user("n1") == a.user("n2") {
		t.Error("two pods share a key or a user")
	}
	for range 1000 {
		if u := a.user(newNonce()); u < 100_000 || u > 1<<31-1 {
			t.Fatalf("a user's number is %d", u)
		}
	}
	if _, err := newKeys(secret[1:]); err == nil {
		t.Error("a short secret was taken")
	}
}

func TestStatusesAreRead(t *testing.T) {
	waiting := func(reason, message string) kube.PodStatus {
		return kube.PodStatus{Containers: []kube.ContainerStatus{{State: kube.ContainerState{Waiting: &kube.Waiting{Reason: reason, Message: message}}}}}
	}
	crash := waiting("CrashLoopBackOff", "back-off 10s")
	crash.Containers[0].LastState.Terminated = &kube.Terminated{ExitCode: 2, Reason: "Error", Message: "panic: x\n\ngoroutine 1\nrunner ended: exit status 2: panic: x"}
	oom := waiting("CrashLoopBackOff", "back-off 10s")
	oom.Containers[0].LastState.Terminated = &kube.Terminated{ExitCode: 137, Reason: "OOMKilled"}
	for name, test := range map[string]struct {
		status kube.PodStatus
		want   *fault
	}{
		"pending":  {kube.PodStatus{Phase: kube.PodPending}, nil},
		"creating": {waiting("ContainerCreating", ""), nil},
		"evicted":  {kube.PodStatus{Phase: kube.PodFailed, Reason: "Evicted", Message: "The node was low on resource: memory."}, &fault{why: "Evicted: The node was low on resource: memory."}},
		"no room":  {kube.PodStatus{Phase: kube.PodFailed, Reason: "OutOfmemory", Message: "Node didn't have enough resource"}, &fault{why: "OutOfmemory: Node didn't have enough resource"}},
		"no image": {waiting("ImagePullBackOff", "no such host"), &fault{why: "ImagePullBackOff: no such host", keep: true}},
		"root":     {waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"), &fault{why: "CreateContainerConfigError: container has runAsNonRoot and image will run as root", unfit: true}},
		"crash":    {crash, &fault{why: "it keeps ending: exit status 2: runner ended: exit status 2: panic: x"}},
		"oom":      {oom, &fault{why: "it keeps ending: killed: memory limit", limit: true}},
	} {
		got := faultOf(&kube.Pod{Status: test.status})
		if (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}
