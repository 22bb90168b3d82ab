package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/sedge-iot/sedge/agent/store"
	cmdnode "github.com/sedge-iot/sedge/cmd/node"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/keys"
	"github.com/sedge-iot/sedge/functions"
)

// memberEnv, set to a place, makes this program a node of a cluster.
const memberEnv = "SEDGE_TEST_MEMBER"

// A place is what a member is told of itself.
type place struct {
	Name   string // of the node
	Dir    string // of its data
	Shared string // folder that all members of the cluster have
	Broker string // URL
}

// child is this program as a member, or as a runner of one. It reports false if it
// is neither.
func child() (err error, is bool) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == cmdnode.RunnerCommand {
		return cmdnode.Runner(ctx, nil), true
	}
	text := os.Getenv(memberEnv)
	if text == "" {
		return nil, false
	}
	var p place
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err, true
	}
	return p.run(ctx), true
}

// run is a node that leads when its standard input says so.
func (p place) run(ctx context.Context) (err error) {
	lg := slog.New(slog.NewTextHandler(os.Stderr, nil))
	l := &baton{place: p}
	o := cmdnode.Options{Name: p.Name, DataDir: p.Dir, HTTPListen: "off", MQTT: cmdnode.MQTT{URL: p.Broker, KeepAlive: keepAlive}}
	n, err := cmdnode.Open(o, func(st *store.Store) (cmdnode.Carrier, error) {
		c, err := o.Dial(lg)(st)
		if err != nil {
			return c, err
		}
		c.Cluster, err = o.Cluster(l, lg)
		return c, err
	}, lg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.Run(ctx) })
	g.Go(func() error { return put(ctx, n, once) })
	return g.Wait()
}

// put deploys a manifest.
func put(ctx context.Context, n *cmdnode.Node, manifest string) error {
	m, err := functions.Parse("function.yaml", []byte(manifest))
	if err != nil {
		return err
	}
	f, err := functions.New(m, "")
	if err != nil {
		return err
	}
	return n.Agent.Put(ctx, edge.Definition{Function: f, Enabled: true})
}

// A baton is a lease in the hands of the test: a line "lead" on standard input
// gives it, a line "leave" takes it, and "left" on standard output says that the
// node has let go. The cluster's session is in files that all members have.
type baton struct {
	place
	mu    sync.Mutex
	leads bool // guarded by mu
}

// Lead follows standard input.
func (l *baton) Lead(ctx context.Context, lead func(context.Context)) error {
	lines := make(chan string)
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
	}()
	leave, left := func() {}, make(chan struct{})
	close(left)
	defer func() { leave(); <-left }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case line := <-lines:
			leave()
			<-left
			l.set(line == "lead")
			if line != "lead" {
				fmt.Println("left")
				continue
			}
			leading, stop := context.WithCancel(ctx)
			leave, left = stop, make(chan struct{})
			go func() {
				defer close(left)
				lead(leading)
			}()
		}
	}
}

func (l *baton) set(leads bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leads = leads
}

// Holder knows no more than whether it is this node.
func (l *baton) Holder() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leads {
		return l.Name
	}
	return ""
}

func (l *baton) Client() string { return "cluster" }

// Generation counts sessions that were not kept.
func (l *baton) Generation(kept bool) string {
	var n int
	l.read("generation", &n)
	if !kept || n == 0 {
		n++
		l.write("generation", n)
	}
	return fmt.Sprintf("cluster-%d", n)
}

func (l *baton) Held() (held map[string]bool) {
	l.read("held", &held)
	return held
}

func (l *baton) Hold(held map[string]bool) { l.write("held", held) }

// read and write end the member if they cannot: then the test fails.
func (l *baton) read(name string, value any) {
	data, err := os.ReadFile(filepath.Join(l.Shared, name))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = json.Unmarshal(data, value)
	}
	if err != nil {
		panic(err)
	}
}

func (l *baton) write(name string, value any) {
	data, err := json.Marshal(value)
	if err == nil {
		err = keys.Write(filepath.Join(l.Shared, name), data)
	}
	if err != nil {
		panic(err)
	}
}

// once is echo, run once for the cluster.
// Its runner is this program, which needs the memory where it has the race detector.
var once = strings.Replace(echo, "spec:\n", "spec:\n  placement: {mode: one}\n  resources: {memory: 256Mi}\n", 1)
