package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"

	cmdnode "github.com/sedge-iot/sedge/cmd/node"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/functions"
)

var (
	cycles = flag.Int("cycles", 20, "how often the node and the broker are killed")
	seed   = flag.Uint64("seed", 0, "of what is random; 0 for another one each time")
)

// scratch is a folder for what the tests share, such as the program.
var scratch string

func TestMain(m *testing.M) {
	if err, is := child(); is {
		if err != nil {
			log.Fatal(err)
		}
		return
	}
	flag.Parse()
	os.Exit(withScratch(m.Run))
}

func withScratch(run func() int) int {
	var err error
	if scratch, err = os.MkdirTemp("", "sedge-e2e-"); err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(scratch)
	// What a killed node leaves behind becomes ours, so that it can be seen.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		log.Fatalf("adopt orphans: %v", err)
	}
	return run()
}

// chance returns the source of what is random, and tells how to have it again.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	n := *seed
	if n == 0 {
		n = rand.Uint64()
	}
	t.Logf("seed %d: repeat with -seed=%d", n, n)
	return rand.New(rand.NewPCG(n, n))
}

// A node is "sedge up" in a process of its own, with a data folder that lasts
// over its restarts.
type node struct {
	process
	dir string
	api string // host:port
}

// keepAlive is as short as it can be, so that a lost link is soon seen and soon
// dialled again.
const keepAlive = time.Second

// joins are the arguments of a node that joins the broker at the URL.
func joins(url string) []string {
	return []string{"--mqtt", url, "--mqtt-keepalive", keepAlive.String()}
}

// embeds are the arguments of a node with a broker within, at the address.
func embeds(address string) []string { return []string{"--broker-listen", address} }

// newNode readies a node that is told of its broker by args; it is ended with
// the test if it is up then.
func newNode(t *testing.T, args []string, env ...string) *node {
	t.Helper()
	n := &node{dir: t.TempDir(), api: freeAddress(t)}
	n.process = process{program: program, env: env, log: n.file("words")}
	n.args = append([]string{"up", "--data-dir", n.dir, "--listen", n.api, "--http-listen", "off"}, args...)
	t.Cleanup(func() {
		if n.cmd != nil {
			n.kill(t)
		}
		awaitNoOrphans(t)
		if t.Failed() {
			t.Logf("the node's last words:\n%s", n.words())
		}
	})
	return n
}

func (n *node) file(name string) string { return filepath.Join(n.dir, name) }

// token returns what opens the node's API, once the node has made it.
func (n *node) token(t *testing.T) string {
	t.Helper()
	var token []byte
	await(t, "the node's token", func() (err error) {
		token, err = os.ReadFile(n.file("token"))
		return err
	})
	return strings.TrimSpace(string(token))
}

// client returns a client of the node's API.
func (n *node) client(t *testing.T) *client.Client {
	t.Helper()
	c := client.New("http://"+n.api, n.token(t))
	t.Cleanup(c.Close)
	return c
}

// metric returns the value of a metric, summed over its labels.
func (n *node) metric(t *testing.T, name string) (sum float64) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.api+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.token(t))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	if err != nil {
		t.Fatalf("read metrics: %v", err)
	}
	if families[name] == nil {
		t.Fatalf("there is no metric %s", name)
	}
	for _, m := range families[name].GetMetric() {
		sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return sum
}

// deploy puts functions on the node.
func (n *node) deploy(t *testing.T, manifests ...string) {
	t.Helper()
	c := n.client(t)
	await(t, "the node", func() error { return c.Ready(t.Context()) })
	for _, text := range manifests {
		m, err := functions.Parse("function.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		f, err := functions.New(m, "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Deploy(t.Context(), f, client.DeployOptions{}); err != nil {
			t.Fatalf("deploy %s: %v", f.Name(), err)
		}
	}
}

// settled returns nil when no function has anything to do, and fails the test
// when the books of one do not balance.
func (n *node) settled(ctx context.Context, t *testing.T, c *client.Client) error {
	all, err := c.Functions(ctx)
	if err != nil {
		return err
	}
	var busy error
	for _, f := range all {
		if lost := f.Counts.Lost(); lost != 0 {
			t.Fatalf("the books of %s are wrong by %d: %+v", f.Name, lost, f.Counts)
		}
		if f.Counts.Pending != 0 {
			busy = errors.Join(busy, fmt.Errorf("%s has %d pending", f.Name, f.Counts.Pending))
		}
	}
	return busy
}

// account tells what the functions did and what they did last.
func (n *node) account(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second) // the test's own may be over
	defer stop()
	c := n.client(t)
	all, err := c.Functions(ctx)
	t.Logf("the node's functions: %v", err)
	for _, f := range all {
		t.Logf("%s: %s %s %+v, waiting %d, running %d, last error %v", f.Name, f.Phase, f.Reason, f.Counts, f.Waiting, f.Running, f.LastErr)
	}
	for step, err := range c.Events(ctx, edge.Query{Last: 40}) {
		t.Logf("%v %+v", err, step)
	}
}

// clean checks that the node's functions have done all that they took.
func (n *node) clean(t *testing.T, c *client.Client) {
	t.Helper()
	await(t, "all deliveries to settle", func() error { return n.settled(t.Context(), t, c) })
	all, err := c.Functions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if c := f.Counts; c.Dead+c.Expired+c.Shed+c.Discarded != 0 || f.Dead != 0 {
			t.Errorf("%s did not do all that it took: %+v, %d dead letters", f.Name, c, f.Dead)
		}
	}
	dead, err := c.Dead(t.Context(), edge.Query{Last: 10})
	for _, d := range dead {
		t.Errorf("a dead letter of %s, after %d attempts: %s %s: %v (%v)", d.Function, d.Attempts, d.Event.Topic, d.Event.Payload, d.Failure.Message, err)
	}
}

// awaitNoOrphans waits until no worker of a killed node is left.
func awaitNoOrphans(t *testing.T) {
	t.Helper()
	await(t, "the workers of killed nodes to end", func() error {
		alive := slices.DeleteFunc(children("self"), func(pid int) bool { return !orphan(pid) })
		if len(alive) > 0 {
			return fmt.Errorf("processes %v are alive", alive)
		}
		return nil
	})
}

// children returns the children of a process, a number or self.
func children(of string) (pids []int) {
	lists, _ := filepath.Glob("/proc/" + of + "/task/*/children") // the pattern is well formed
	for _, list := range lists {
		text, _ := os.ReadFile(list) // the thread may be gone
		for _, child := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(child); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// orphan reports whether our child is a worker of a node that is gone, and has not ended yet.
// Other tests' nodes, and what they ask them by, are our children too.
func orphan(pid int) bool {
	words, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // one that has ended has none
	args := strings.Split(string(words), "\x00")
	return err == nil && len(args) > 1 && (args[1] == cmdnode.RunnerCommand || args[1] == cmdnode.KeeperCommand)
}

// await polls until ready returns nil, and fails the test when it takes too long.
func await(t *testing.T, what string, ready func() error) {
	t.Helper()
	awaitFor(t, 60*time.Second, what, ready)
}

func awaitFor(t *testing.T, limit time.Duration, what string, ready func() error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(limit); ; {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("waited %v for %s: %v", limit, what, err)
		}
	}
}

// freeAddress returns an address that nobody listens on, from below the range
// of which outgoing connections take theirs: it must be free again and again.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(20000+rand.IntN(12000)))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("found no free port")
	return ""
}
