//go:build cluster

package pod

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// What a guest meets that has broken out of its engine is told from within a pod, by a
// runner that tries.
func TestClusterABrokenGuestMeetsWalls(t *testing.T) {
	const probe = "localhost/probe:suite"
	if _, err := deliver(t.TempDir(), "probe", "./testdata/probe", probe); err != nil {
		t.Fatal(err)
	}
	s := openCluster(t, func(c *Config) { c.Image = probe })
	i := startOn(t, s, function(t, "guest", "return 1", func(spec *functions.Spec) {
		spec.Resources.Memory = 512 << 20 // its processes shall not end at that
		spec.Resources.CPU = "300m"
		spec.Resources.Timeout = functions.Duration(2 * time.Minute)
	}))
	var tried map[string]string
	if got := call(t, i); json.Unmarshal([]byte(got), &tried) != nil {
		t.Fatalf("the probe said %s", got)
	}
	t.Log(tried)
	for what, want := range map[string]string{
		"socket inet": "operation not permitted", "socket inet6": "operation not permitted",
		"socket netlink": "operation not permitted", "socket packet": "operation not permitted", "socket unix": "",
		"dial 10.43.0.1:443": "operation not permitted", "dial 10.200.0.1:10250": "operation not permitted",
		"dial 127.0.0.1:7070": "operation not permitted", "dial 169.254.169.254:80": "operation not permitted",
		"write /": "read-only file system", "token": "no such file or directory",
		"ptrace": "operation not permitted", "mount": "operation not permitted", "namespace": "operation not permitted",
		"keeper": "permission denied", "processes": "resource temporarily unavailable",
	} {
		if got, ok := tried[what]; !ok || !strings.HasSuffix(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	if n := tried["throttled"]; n == "0" || n == "unknown" {
		t.Errorf("a guest that spins was held up %s times by its limit of 300m", n)
	}
	p := podOf(t, s, i)
	if user := *p.Spec.SecurityContext.RunAsUser; user < 100000 || user == int64(os.Getuid()) {
		t.Errorf("it runs as user %d, want one of its own", user)
	}
}
