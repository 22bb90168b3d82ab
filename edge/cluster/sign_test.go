package cluster

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge/kube"
)

func lease(node, version, labels string, renewed time.Time) *kube.Lease {
	return &kube.Lease{
		Metadata: kube.Meta{Name: "node-" + node, ResourceVersion: version, Annotations: map[string]string{
			"sedge.dev/labels": labels, "sedge.dev/sandboxes": "pod,process", "sedge.dev/version": "v1", "sedge.dev/functions": "3",
		}},
		Spec: kube.LeaseSpec{Holder: node, Renewed: &kube.MicroTime{Time: renewed}},
	}
}

// TestALeaseIsJudgedByTheClockOfWhoSeesIt: a board whose clock stands in 1970 is a
// member like any other.
func TestALeaseIsJudgedByTheClockOfWhoSeesIt(t *testing.T) {
	s := &signer{seen: map[string]sighting{}}
	now := time.Now()
	wrong := time.Unix(1000, 0)
	see := func(at time.Duration, leases ...*kube.Lease) string {
		var b strings.Builder
		for _, m := range s.members(leases, now.Add(at)) {
			fmt.Fprintf(&b, "%s %v %v ", m.Node, m.Fresh, m.Labels)
		}
		return strings.TrimSpace(b.String())
	}
	ended := lease("pi-1", "3", "{}", wrong)
	ended.Spec.Holder = ""
	one := lease("pi-1", "1", `{"site":"home"}`, wrong)
	for _, step := range []struct {
		at     time.Duration
		leases []*kube.Lease
		want   string
	}{
		{0, []*kube.Lease{one}, "pi-1 true map[site:home]"},
		{80 * time.Second, []*kube.Lease{one}, "pi-1 true map[site:home]"},
		{100 * time.Second, []*kube.Lease{one}, "pi-1 false map[site:home]"},
		{101 * time.Second, []*kube.Lease{lease("pi-1", "2", "{}", wrong)}, "pi-1 true map[]"},
		{102 * time.Second, []*kube.Lease{ended}, "pi-1 false map[]"},
		{103 * time.Second, nil, ""},
		{300 * time.Second, []*kube.Lease{lease("pi-1", "2", "no JSON", wrong)}, "pi-1 true map[]"},
	} {
		if got := see(step.at, step.leases...); got != step.want {
			t.Errorf("after %v: %q, want %q", step.at, got, step.want)
		}
	}
}

func TestANodeIsReadyIfBothKubeletAndAgentAre(t *testing.T) {
	now := time.Now()
	node := func(name, ready string) *kube.Node {
		return &kube.Node{
			Metadata: kube.Meta{Name: name, Labels: map[string]string{"site": "home"}},
			Status:   kube.NodeStatus{Capacity: map[string]string{"memory": "1Gi"}, Conditions: []kube.Condition{{Type: "Ready", Status: ready, Message: "stopped"}}},
		}
	}
	all := machines(
		[]*kube.Node{node("pi-4", "True"), node("pi-3", "True"), node("pi-2", "True"), node("pi-1", "False")},
		[]*kube.Lease{lease("pi-1", "1", "{}", now), lease("pi-2", "1", "{}", now), lease("pi-3", "1", "{}", now.Add(-5*time.Minute)), lease("pi-9", "1", `{"a":"b"}`, now)},
		now)
	var got []string
	for _, m := range all {
		got = append(got, fmt.Sprintf("%s %v %v %q %s %v %d", m.Name, m.Ready, m.Sandboxes, m.Reason, m.Memory, m.Labels, m.Functions))
	}
	want := []string{
		`pi-1 false [pod process] "the kubelet is not ready: stopped" 1Gi map[site:home] 3`,
		`pi-2 true [pod process] "" 1Gi map[site:home] 3`,
		`pi-3 false [pod process] "its agent gave no sign of life for 5m0s" 1Gi map[site:home] 3`,
		`pi-4 false [] "no agent has been seen here" 1Gi map[site:home] 0`,
		`pi-9 true [pod process] ""  map[a:b] 3`,
	}
	if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
		t.Errorf("nodes are\n%s\nwant\n%s", a, b)
	}
}

func TestTimesOfLeasesAreToTheMicrosecond(t *testing.T) {
	text, err := json.Marshal(kube.MicroTime{Time: time.Unix(1, 500)})
	if err != nil || string(text) != `"1970-01-01T00:00:01.000000Z"` {
		t.Errorf("a time is written as %s, %v", text, err)
	}
}
