//go:build cluster

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/installer/k3s"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

func dial(t *testing.T) *kube.Client {
	t.Helper()
	c, err := kube.Open(os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// install puts what a node needs on the cluster: namespaces and definition.
func install(t *testing.T, c *kube.Client) {
	t.Helper()
	text, err := k3s.Files.ReadFile("sedge.yaml")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]kube.Kind[map[string]any]{
		"Namespace":                {Version: "v1", Name: "Namespace", Plural: "namespaces"},
		"CustomResourceDefinition": {Group: "apiextensions.k8s.io", Version: "v1", Name: "CustomResourceDefinition", Plural: "customresourcedefinitions"},
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var doc map[string]any
		if d.Decode(&doc) != nil {
			break
		}
		if kind, ok := kinds[fmt.Sprint(doc["kind"])]; ok {
			if _, err := kind.In(c, "").Try(t.Context(), &doc, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	until(t, "functions are served", func() bool {
		_, err := Functions.In(c, "").List(t.Context(), kube.Selector{})
		return err == nil
	})
}

// until waits until what holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("waited %v until %s", patience, what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// A board is an agent as far as a node of a cluster needs one: it keeps what it is
// told.
type board struct {
	mu     sync.Mutex
	has    map[string]edge.FunctionStatus
	refuse error
	puts   int
}

func newBoard() *board { return &board{has: map[string]edge.FunctionStatus{}} }

func (b *board) Put(_ context.Context, d edge.Definition) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.puts++
	if b.refuse != nil {
		return b.refuse
	}
	b.has[d.Function.Name()] = edge.FunctionStatus{Name: d.Function.Name(), Revision: d.Function.Revision, Phase: edge.Asleep, Origin: d.Origin}
	return nil
}

func (b *board) Remove(_ context.Context, name string, _ bool) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.has, name)
	return 0, nil
}

func (b *board) Functions() []edge.FunctionStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Values(b.has))
}

// join runs a node of that name until the test, or the returned function, ends it.
func join(t *testing.T, c *kube.Client, name string, b *board) func() {
	t.Helper()
	n := NewNode(NodeConfig{Name: name, Client: c, Agent: b, Sandboxes: []string{"process"}, Version: "test", Logger: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }() // awaited by the function returned
	leave := sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(leave)
	return leave
}

func person(t *testing.T) *Client {
	t.Helper()
	c, err := Open(os.Getenv("KUBECONFIG"), "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// function returns a function of that name that hears that topic.
func function(t *testing.T, name, topic string, nodes map[string]string) functions.Function {
	t.Helper()
	m := functions.Manifest{
		APIVersion: functions.APIVersion, Kind: "Function", Metadata: functions.Metadata{Name: name},
		Spec: functions.Spec{
			Runtime: "javascript", Source: functions.Source{Inline: "export function handle() {}"},
			Triggers:  []functions.Trigger{{MQTT: &functions.MQTTTrigger{Topic: topic}}},
			Placement: functions.Placement{Nodes: nodes},
		},
	}
	f, err := functions.New(m, "")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// condition waits until the function has the condition with the status, and
// returns the resource.
func condition(t *testing.T, p *Client, name, kind, status, reason string) (r Resource) {
	t.Helper()
	until(t, fmt.Sprintf("%s has %s=%s %s", name, kind, status, reason), func() bool {
		var err error
		if r, err = p.Function(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		c, ok := r.Status.Condition(kind)
		return ok && c.Generation == r.Metadata.Generation && c.Status == status && c.Reason == reason
	})
	return r
}

// gone deletes a function now, in case a test was interrupted, and at the end of
// the test.
func gone(t *testing.T, p *Client, name string) {
	t.Helper()
	away := func() {
		if err := p.Delete(context.WithoutCancel(t.Context()), name); err != nil && !isCode(err, edge.NotFound) {
			t.Error(err)
		}
	}
	away()
	t.Cleanup(away)
}

func TestNodesTakeUpWhatIsDeployed(t *testing.T) {
	c, p := dial(t), person(t)
	install(t, c)
	one, two := newBoard(), newBoard()
	join(t, c, "pi-1", one)
	join(t, c, "pi-2", two)
	until(t, "both nodes are members", func() bool {
		all, err := p.Nodes(t.Context())
		return err == nil && len(ready(all, "pi-1", "pi-2")) == 2
	})
	f := function(t, "first", "a", nil)
	gone(t, p, "first")
	if change, err := p.Deploy(t.Context(), f, true); err != nil || !change.Created || !change.DryRun {
		t.Errorf("dry run: %+v, %v", change, err)
	}
	if _, err := p.Function(t.Context(), "first"); !isCode(err, edge.NotFound) {
		t.Errorf("after a dry run: %v", err)
	}
	since := time.Now()
	change, err := p.Deploy(t.Context(), f, false)
	if err != nil || !change.Created || !change.Changed {
		t.Fatalf("deploy: %+v, %v", change, err)
	}
	r := condition(t, p, "first", Ready, "True", "Runs")
	t.Logf("deployed → ready on two nodes: %v", time.Since(since).Round(time.Millisecond))
	for _, name := range []string{"pi-1", "pi-2"} {
		if s := r.Status.Nodes[name]; s.Phase != string(edge.Asleep) || s.Revision != f.Revision.Short() {
			t.Errorf("%s says %+v", name, s)
		}
	}
	if again, err := p.Deploy(t.Context(), f, false); err != nil || again.Changed || again.Created {
		t.Errorf("deployed twice: %+v, %v", again, err)
	}
	better := function(t, "first", "b", nil)
	if change, err := p.Deploy(t.Context(), better, false); err != nil || change.Previous != f.Revision {
		t.Errorf("changed: %+v, %v", change, err)
	}
	until(t, "the status has the new revision", func() bool {
		return condition(t, p, "first", Ready, "True", "Runs").Status.Revision == better.Revision.Short()
	})
	until(t, "there is an event for each node and revision", func() bool { return len(eventsOf(t, c, r, "Rolled")) == 4 })
	if err := p.Delete(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	until(t, "the nodes have let go", func() bool { return len(one.Functions())+len(two.Functions()) == 0 })
}

func ready(all []Machine, names ...string) (some []Machine) {
	for _, m := range all {
		if m.Ready && slices.Contains(names, m.Name) {
			some = append(some, m)
		}
	}
	return some
}

func isCode(err error, code edge.Code) bool {
	e, ok := errors.AsType[*edge.Error](err)
	return ok && e.Code == code
}

func eventsOf(t *testing.T, c *kube.Client, r Resource, reason string) []*kube.Event {
	t.Helper()
	all, err := kube.Events.In(c, "default").List(t.Context(), kube.Selector{Fields: "involvedObject.uid=" + r.Metadata.UID + ",reason=" + reason})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestARefusedResourceKeepsTheLastGoodRevision(t *testing.T) {
	c, p := dial(t), person(t)
	install(t, c)
	b := newBoard()
	join(t, c, "pi-1", b)
	f := function(t, "refused", "a", nil)
	gone(t, p, "refused")
	if _, err := p.Deploy(t.Context(), f, false); err != nil {
		t.Fatal(err)
	}
	condition(t, p, "refused", Valid, "True", "Accepted")
	// The schema cannot tell that the expression does not compile; the node does.
	bad := map[string]any{"spec": map[string]any{"triggers": []any{map[string]any{"mqtt": map[string]any{"topic": "a", "when": "payload.x ="}}}}}
	if _, err := Functions.In(c, "").Patch(t.Context(), "refused", bad, ""); err != nil {
		t.Fatal(err)
	}
	r := condition(t, p, "refused", Valid, "False", "Refused")
	if s := r.Status.Nodes["pi-1"]; s.Phase != Refused || s.Revision != f.Revision.Short() || !strings.Contains(s.Reason, "spec.triggers[0].mqtt.when") {
		t.Errorf("the node says %+v", s)
	}
	if all := b.Functions(); len(all) != 1 || all[0].Revision != f.Revision {
		t.Errorf("the agent has %+v", all)
	}
	until(t, "there is an event", func() bool { return len(eventsOf(t, c, r, "Refused")) == 1 })
	e := eventsOf(t, c, r, "Refused")[0]
	if e.Type != "Warning" || !strings.Contains(e.Message, "mqtt.when") || e.Object.UID != r.Metadata.UID {
		t.Errorf("the event is %+v", e)
	}
}

func TestPlacementChoosesByTheNodesLabels(t *testing.T) {
	c, p := dial(t), person(t)
	install(t, c)
	name := os.Getenv("NODE_NAME") // a node of the cluster, which has labels
	here, elsewhere := newBoard(), newBoard()
	join(t, c, name, here)
	join(t, c, "pi-9", elsewhere)
	f := function(t, "placed", "a", map[string]string{"kubernetes.io/hostname": name})
	gone(t, p, "placed")
	if _, err := p.Deploy(t.Context(), f, false); err != nil {
		t.Fatal(err)
	}
	r := condition(t, p, "placed", Ready, "True", "Runs")
	if len(r.Status.Nodes) != 1 || len(here.Functions()) != 1 || len(elsewhere.Functions()) != 0 {
		t.Errorf("nodes are %+v, here %d, elsewhere %d", r.Status.Nodes, len(here.Functions()), len(elsewhere.Functions()))
	}
	if _, err := p.Deploy(t.Context(), function(t, "placed", "a", map[string]string{"site": "moon"}), false); err != nil {
		t.Fatal(err)
	}
	condition(t, p, "placed", Ready, "False", "NoNode")
	until(t, "the node has let go", func() bool { return len(here.Functions()) == 0 })
}

func TestANameOfTheHubIsRefused(t *testing.T) {
	c, p := dial(t), person(t)
	install(t, c)
	b := newBoard()
	theirs := function(t, "twice", "hub", nil)
	b.has["twice"] = edge.FunctionStatus{Name: "twice", Revision: theirs.Revision, Phase: edge.Asleep}
	join(t, c, "pi-1", b)
	gone(t, p, "twice")
	if _, err := p.Deploy(t.Context(), function(t, "twice", "a", nil), false); err != nil {
		t.Fatal(err)
	}
	r := condition(t, p, "twice", Valid, "False", "Refused")
	if s := r.Status.Nodes["pi-1"]; !strings.Contains(s.Reason, "the hub defines a function of that name too") {
		t.Errorf("the node says %+v", s)
	}
	if all := b.Functions(); b.puts != 0 || len(all) != 1 || all[0].Revision != theirs.Revision {
		t.Errorf("the agent has %+v, put %d times", all, b.puts)
	}
}

func TestANodeThatComesBackRemovesWhatIsGone(t *testing.T) {
	c, p := dial(t), person(t)
	install(t, c)
	b := newBoard()
	leave := join(t, c, "pi-1", b)
	for _, name := range []string{"stays", "goes"} {
		gone(t, p, name)
		if _, err := p.Deploy(t.Context(), function(t, name, "a", nil), false); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "it has both", func() bool { return len(b.Functions()) == 2 })
	leave()
	if err := p.Delete(t.Context(), "goes"); err != nil {
		t.Fatal(err)
	}
	puts := b.puts
	join(t, c, "pi-1", b)
	until(t, "it has one", func() bool { return len(b.Functions()) == 1 })
	if b.Functions()[0].Name != "stays" || b.puts != puts {
		t.Errorf("it has %+v, put again %d times", b.Functions(), b.puts-puts)
	}
}

func TestOneOfSeveralLeads(t *testing.T) {
	c := dial(t)
	install(t, c)
	var mu sync.Mutex
	leaders := 0
	stand := func(name string) (end func(), leads chan struct{}) {
		e := kube.NewElection(kube.ElectionConfig{Leases: kube.Leases.In(c, Namespace), Name: "cluster", Me: name, Logger: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithCancel(t.Context())
		leads = make(chan struct{}, 1)
		ended := make(chan error, 1)
		go func() { // awaited by end
			ended <- e.Lead(ctx, func(ctx context.Context) {
				mu.Lock()
				if leaders++; leaders > 1 {
					t.Errorf("%d lead", leaders)
				}
				mu.Unlock()
				leads <- struct{}{}
				<-ctx.Done()
				mu.Lock()
				leaders--
				mu.Unlock()
			})
		}()
		return sync.OnceFunc(func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}), leads
	}
	endOne, one := stand("pi-1")
	defer endOne()
	<-one
	endTwo, two := stand("pi-2")
	defer endTwo()
	since := time.Now()
	endOne()
	<-two
	t.Logf("given up → taken: %v", time.Since(since).Round(time.Millisecond))
}
