package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/edge/ledger/ledgertest"
	"github.com/sedge-iot/sedge/edge/link"
	"github.com/sedge-iot/sedge/functions"
)

// A replica is sedge-hub as a process, one of several on a database.
type replica struct {
	dir, address string
	cmd          *exec.Cmd
}

func startReplica(t *testing.T, program, database string) *replica {
	t.Helper()
	r := &replica{dir: t.TempDir(), address: freeAddress(t)}
	words, err := os.Create(filepath.Join(r.dir, "words"))
	if err != nil {
		t.Fatal(err)
	}
	defer words.Close()
	r.cmd = exec.Command(program, "--data-dir", r.dir, "--listen", r.address, "--host", "127.0.0.1")
	r.cmd.Env = append(os.Environ(), "SEDGE_DATABASE="+database)
	r.cmd.Stdout, r.cmd.Stderr = words, words
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			t.Logf("the words of the replica at %s:\n%s", r.address, r.file("words"))
		}
	})
	return r
}

// kill ends the replica as a power cut would.
func (r *replica) kill() {
	r.cmd.Process.Kill() // fails only if it has been killed already
	r.cmd.Wait()
}

func (r *replica) file(name string) []byte {
	data, _ := os.ReadFile(filepath.Join(r.dir, name)) // what is missing is empty, which no test wants
	return data
}

// ready waits until the replica answers.
func (r *replica) ready(t *testing.T) {
	t.Helper()
	await(t, "the replica at "+r.address, func() error {
		c, err := r.client(r.address)
		if err != nil {
			return err
		}
		defer c.Close()
		return c.Ready(t.Context())
	})
}

// asks has the replica of that number ask all nodes, wherever they are connected.
func (r *replica) asks(t *testing.T, number int, puppets []*puppet) {
	t.Helper()
	c, err := r.client(r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var want []string
	for _, p := range puppets {
		want = append(want, p.proof.Name)
		p.mu.Lock()
		before := p.tried
		p.mu.Unlock()
		f := bulb(t, fmt.Sprintf("bulb-at-%s-by-%d", p.proof.Name, number))
		on := &edge.RolloutAsk{Selector: functions.HostLabel + "=" + p.proof.Name}
		if change, err := c.Deploy(t.Context(), f, client.DeployOptions{Confirmed: true, Rollout: on}); err != nil {
			t.Errorf("Deploy on %s by %s = %+v, %v", p.proof.Name, r.address, change, err)
		}
		p.mu.Lock()
		if p.tried == before {
			t.Errorf("%s was not asked to try a function that %s deploys", p.proof.Name, r.address)
		}
		p.mu.Unlock()
	}
	var got []string
	for line, err := range c.Logs(t.Context(), edge.Query{Last: -1}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, line.Node)
	}
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("%s has the logs of %v, want those of %v", r.address, got, want)
	}
}

// client returns a client with the token and authority of this replica.
func (r *replica) client(address string) (*client.Client, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(r.file("ca.crt")) {
		return nil, fmt.Errorf("%s has no authority yet", r.address)
	}
	c := client.New("https://"+address, string(bytes.TrimSpace(r.file("token"))))
	c.Trust(roots)
	return c, nil
}

// balance listens on an address, and leads each connection to one of those behind it, in
// turn, as a load balancer does: to the next one if that does not answer.
func balance(t *testing.T, behind ...string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var leading sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	leading.Go(func() {
		for turn := 0; ; turn++ {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			leading.Go(func() { lead(ctx, conn, behind, turn) })
		}
	})
	t.Cleanup(func() { stop(); ln.Close(); leading.Wait() })
	return ln.Addr().String()
}

func lead(ctx context.Context, here net.Conn, behind []string, turn int) {
	defer here.Close()
	for i := range behind {
		there, err := net.Dial("tcp", behind[(turn+i)%len(behind)])
		if err != nil {
			continue
		}
		end := func() { here.Close(); there.Close() }
		defer context.AfterFunc(ctx, end)()
		var both sync.WaitGroup
		both.Go(func() { io.Copy(there, here); end() })
		both.Go(func() { io.Copy(here, there); end() })
		both.Wait()
		return
	}
}

// A puppet is a node without an agent: a real link, a real replica of the sync protocol, and
// functions in a map.
type puppet struct {
	dialer  link.Dialer
	proof   edge.Proof
	replica *edge.Replica

	mu    sync.Mutex
	has   map[string]functions.Revision // guarded by mu
	tried int                           // functions; guarded by mu
	conn  *link.Conn
}

func newPuppet(t *testing.T, name, hub, invitation string) *puppet {
	t.Helper()
	v, err := edge.ParseInvitation(invitation)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &puppet{
		dialer:  link.Dialer{URL: "wss://" + hub + link.Path, Hub: v.HubKey, Key: key, Trust: link.Trust{Pin: v.CA}},
		proof:   edge.Proof{Name: name, Version: "v1", Platform: "linux/arm/6", Join: &edge.Join{Token: v.Token, Secret: v.Secret}},
		replica: edge.NewReplica(edge.Synced{}, edge.Policy{}), has: map[string]functions.Revision{},
	}
}

// run dials, again and again, until ctx is done.
func (p *puppet) run(ctx context.Context) {
	for ctx.Err() == nil {
		p.proof.Counter++
		dialling, stop := context.WithTimeout(ctx, 5*time.Second)
		conn, _, err := p.dialer.Dial(dialling, link.Clock{Now: time.Now(), Trusted: true}, p.proof)
		stop()
		if err != nil {
			pause(ctx, 100*time.Millisecond)
			continue
		}
		p.conn = conn
		p.say(p.replica.Begin()...)
		conn.Serve(ctx, p.heard)
	}
}

func (p *puppet) heard(data []byte) error {
	m, err := edge.Decode(data)
	if err != nil {
		return err
	}
	if c, ok := m.(*edge.Call); ok {
		p.answer(c)
	}
	out := p.replica.Step(m)
	p.say(out.Send...)
	if out.Apply == nil {
		return nil
	}
	p.mu.Lock()
	for _, d := range out.Apply.Put {
		p.has[d.Function.Name()] = d.Function.Revision
	}
	for _, r := range out.Apply.Remove {
		delete(p.has, r.Name)
	}
	p.mu.Unlock()
	p.say(p.replica.Applied(edge.Result{})...)
	return nil
}

// answer has every function that is tried be good, and says one line when a log is wanted.
func (p *puppet) answer(c *edge.Call) {
	switch c.Verb {
	case edge.VerbTry:
		p.mu.Lock()
		p.tried++
		p.mu.Unlock()
		p.say(&edge.Answer{ID: c.ID})
	case edge.VerbChecks:
		p.say(&edge.Answer{ID: c.ID, Body: json.RawMessage(`[]`)})
	case edge.VerbLogs:
		p.say(&edge.Answer{ID: c.ID, Body: json.RawMessage(`{"function":"lamp","text":"on"}`)})
	default:
		p.say(&edge.Answer{ID: c.ID, Error: &edge.Error{Code: edge.Invalid, Message: "a puppet does not " + string(c.Verb)}})
	}
}

// say says something to the hub. If that fails the session ends.
func (p *puppet) say(messages ...edge.Message) {
	for _, m := range messages {
		if data, err := edge.Encode(m); err == nil {
			p.conn.Send(data)
		}
	}
}

// lacks returns the functions of those in want that the node does not run.
func (p *puppet) lacks(want map[string]functions.Revision) (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, revision := range want {
		if p.has[name] != revision {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

func bulb(t *testing.T, name string) functions.Function {
	t.Helper()
	m, err := functions.Parse("", fmt.Appendf(nil, "apiVersion: sedge.dev/v1\nkind: Function\nmetadata: {name: %s}\nspec:\n  runtime: javascript\n  source: {path: index.js}\n  triggers: [{mqtt: {topic: a/b}}]\n", name))
	if err != nil {
		t.Fatal(err)
	}
	f, err := functions.New(m, "export function handle() {}")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAReplicaKilledUnderLoadLosesNothing(t *testing.T) {
	t.Parallel() // most of it waits
	const nodes, before, after = 6, 12, 12
	server, err := ledgertest.StartPostgres()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Stop() })
	database := server.Database(t)
	program := filepath.Join(t.TempDir(), "sedge-hub")
	if out, err := exec.Command("go", "build", "-o", program, "../sedge-hub").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	replicas := []*replica{startReplica(t, program, database), startReplica(t, program, database)}
	for _, r := range replicas {
		r.ready(t)
	}
	for _, name := range []string{"hub.key", "ca.crt", "token"} {
		if got := replicas[0].file(name); len(got) == 0 || !bytes.Equal(got, replicas[1].file(name)) {
			t.Fatalf("%s is not the same at both replicas", name)
		}
	}
	address := balance(t, replicas[0].address, replicas[1].address)
	c, err := replicas[0].client(address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	token, err := c.MakeToken(t.Context(), edge.TokenAsk{TTL: time.Hour, Uses: nodes})
	if err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	var puppets []*puppet
	for i := range nodes {
		p := newPuppet(t, fmt.Sprintf("node-%d", i), address, token.Text)
		puppets = append(puppets, p)
		running.Go(func() { p.run(ctx) })
	}
	connected := func(want int) func() error {
		return func() error {
			list, err := c.Nodes(t.Context(), "", "")
			got := 0
			for _, n := range list {
				if n.Connected {
					got++
				}
			}
			if err == nil && got != want {
				err = fmt.Errorf("%d nodes are connected, want %d", got, want)
			}
			return err
		}
	}
	await(t, "all nodes", connected(nodes))
	for i, r := range replicas {
		r.asks(t, i, puppets)
	}

	answered := map[string]functions.Revision{}
	killed := make(chan struct{})
	for i := 0; len(answered) < before+after; i++ {
		if len(answered) == before {
			select {
			case <-killed:
			default:
				close(killed)
				running.Go(replicas[0].kill) // while deploys go on
			}
		}
		f := bulb(t, fmt.Sprintf("bulb-%d", i))
		if _, err := c.Deploy(t.Context(), f, client.DeployOptions{Confirmed: true}); err == nil {
			answered[f.Name()] = f.Revision
		}
		if i > 20*(before+after) {
			t.Fatalf("of %d deploys %d were answered", i, len(answered))
		}
	}
	await(t, "all nodes at the replica that is left", connected(nodes))
	for i, p := range puppets {
		await(t, fmt.Sprintf("all that was deployed to be on node %d", i), func() error {
			if lacks := p.lacks(answered); len(lacks) > 0 {
				return fmt.Errorf("it lacks %v", lacks)
			}
			return nil
		})
	}
}
