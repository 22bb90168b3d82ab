package pod

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// A node is an API server, a kubelet and the agent's sandbox.
type node struct {
	*Sandbox
	api  *apiServer
	stop func() // ends the sandbox, as the end of the agent does
}

// open starts a sandbox on a node of its own.
func open(t *testing.T, edits ...func(*Config)) *node {
	t.Helper()
	api := newAPI(t)
	startKubelet(t, api)
	return restart(t, api, edits...)
}

// restart starts another agent's sandbox on the node of an earlier one.
func restart(t *testing.T, api *apiServer, edits ...func(*Config)) *node {
	t.Helper()
	cfg := Config{
		Client: api.client(t),
		Node:   "node1",
		Image:  "localhost/sedge-agent:test",
		Secret: []byte(strings.Repeat("s", SecretSize)),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
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
	go func() { ran <- s.Run(ctx) }() // awaited below
	n := &node{Sandbox: s, api: api}
	ended := false
	n.stop = func() {
		if ended {
			return
		}
		ended = true
		s.Leave()
		stop()
		if err := <-ran; err != nil {
			t.Errorf("Run = %v", err)
		}
	}
	t.Cleanup(n.stop)
	return n
}

func pool(n int) func(*Config) { return func(c *Config) { c.Pool = n } }

// function returns a function with the given handler body.
func function(t testing.TB, name, body string, edits ...func(*functions.Spec)) functions.Function {
	t.Helper()
	m := functions.Manifest{
		APIVersion: functions.APIVersion,
		Kind:       "Function",
		Metadata:   functions.Metadata{Name: name},
		Spec: functions.Spec{
			Runtime:   "javascript",
			Source:    functions.Source{Path: "index.js"},
			Triggers:  []functions.Trigger{{MQTT: &functions.MQTTTrigger{Topic: "a"}}},
			Resources: functions.Resources{Timeout: functions.Duration(patience)},
		},
	}
	for _, edit := range edits {
		edit(&m.Spec)
	}
	code := "export default function (event, sedge) {\n" + body + "\n}"
	if m.Spec.Runtime == functions.RuntimeImage {
		code = ""
	}
	f, err := functions.New(m, code)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// start starts f, which must succeed.
func (n *node) start(t *testing.T, f functions.Function) functions.Instance {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	i, err := n.Start(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// outcomes is a functions.Run that hands its outcome on.
type outcomes chan functions.Outcome

func (c outcomes) Get(string) ([]byte, error)        { return nil, nil }
func (c outcomes) Peek(string) ([]byte, error)       { return nil, nil }
func (c outcomes) Publish(devices.Publication) error { return nil }
func (c outcomes) Log(functions.Level, string)       {}
func (c outcomes) Done(o functions.Outcome)          { c <- o }

// begin starts a run.
func begin(i functions.Instance) outcomes {
	out := make(outcomes, 1)
	i.Invoke(functions.Invocation{ID: "i", Attempt: 1, Timeout: patience, Event: devices.Event{
		ID: "e", Source: devices.MQTT, Topic: "a", Time: time.Now(), Payload: []byte("1"),
	}}, out)
	return out
}

func (c outcomes) wait(t *testing.T) string {
	t.Helper()
	select {
	case o := <-c:
		if o.Err != nil {
			return string(o.Err.Code) + ": " + o.Err.Message
		}
		return string(o.Returned)
	case <-time.After(patience):
		t.Fatal("no outcome came")
		return ""
	}
}

func call(t *testing.T, i functions.Instance) string {
	t.Helper()
	return begin(i).wait(t)
}

func TestAFunctionGetsAPodOfItsOwn(t *testing.T) {
	n := open(t)
	f := function(t, "night-light", "return event.payload + 1")
	i := n.start(t, f)
	if got := call(t, i); got != "2" {
		t.Errorf("got %s", got)
	}
	p, ok := n.api.pods()[i.Describe().Name]
	if !ok || !strings.HasPrefix(i.Describe().Name, "night-light-"+string(f.Revision[:6])+"-") {
		t.Fatalf("it runs in %s, there are %q", i.Describe().Name, names(n.api.pods()))
	}
	owner := meta(p)["ownerReferences"].([]any)[0].(object)
	n.api.mu.Lock()
	m := n.api.objects["/api/v1/namespaces/sedge/configmaps/night-light"]
	n.api.mu.Unlock()
	if owner["name"] != "night-light" || m == nil || owner["uid"] != meta(m)["uid"] {
		t.Errorf("its owner is %v", owner)
	}
	if text := fmt.Sprint(m["data"].(object)["function.yaml"]); !strings.Contains(text, "name: night-light\n") {
		t.Errorf("the manifest is shown as %s", text)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "the pod's end", func() bool { return len(n.api.pods()) == 0 })
}

func TestAPoolPodIsTakenAndBecomesTheFunctions(t *testing.T) {
	n := open(t, pool(1))
	warm := func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, r := range n.records {
			if r.warm != nil && r.freeLocked() {
				return true
			}
		}
		return false
	}
	eventually(t, "a warm pod", warm)
	before := names(n.api.pods())
	f := function(t, "lamp", "return 1")
	i := n.start(t, f)
	if got := i.Describe().Name; len(before) != 1 || got != before[0] {
		t.Errorf("it runs in %s, the pool had %q", got, before)
	}
	labels := func() object { return meta(n.api.pods()[before[0]])["labels"].(object) }
	if labels()[labelFunction] != nil {
		t.Error("it is labelled before its first answer")
	}
	call(t, i)
	eventually(t, "its labels", func() bool { return labels()[labelFunction] == "lamp" && labels()[labelPool] == nil })
	eventually(t, "a new warm pod", warm)

	big := function(t, "big", "return 2", func(s *functions.Spec) { s.Resources.Memory = 64 << 20 })
	if got := n.start(t, big).Describe().Name; !strings.HasPrefix(got, "big-") {
		t.Errorf("a function that does not fit runs in %s", got)
	}
}

func TestAnAgentThatStartsAgainFindsItsPods(t *testing.T) {
	n := open(t, pool(1))
	f := function(t, "lamp", "return 1", func(s *functions.Spec) { s.Resources.Memory = 64 << 20 })
	i := n.start(t, f)
	call(t, i)
	eventually(t, "the pool", func() bool { return len(n.api.pods()) == 2 })
	before := names(n.api.pods())
	n.Leave()
	i.Close()
	n.stop()

	again := restart(t, n.api, pool(1))
	j := again.start(t, f)
	if got := call(t, j); got != "1" || j.Describe().Name != i.Describe().Name {
		t.Errorf("got %s from %s, want it from %s", got, j.Describe().Name, i.Describe().Name)
	}
	if after := names(n.api.pods()); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("pods are %q, were %q", after, before)
	}
}

func TestPodsThatNobodyWantsAreSwept(t *testing.T) {
	n := open(t)
	old := function(t, "lamp", "return 1")
	gone := function(t, "gone", "return 2")
	kept := function(t, "kept", "return 3")
	for _, f := range []functions.Function{old, gone, kept} {
		n.start(t, f)
	}
	other := object{"metadata": object{"name": "other-node", "labels": object{labelManaged: managed, labelNode: "node2", labelFunction: "gone"}}, "spec": object{}}
	n.stop()
	n.api.mu.Lock()
	n.api.addLocked(podPath+"other-node", other)
	n.api.mu.Unlock()

	current := map[string]functions.Revision{"lamp": function(t, "lamp", "return 'new'").Revision, "kept": kept.Revision}
	restart(t, n.api, func(c *Config) {
		c.Current = func(name string) (functions.Revision, bool) { r, ok := current[name]; return r, ok }
	})
	eventually(t, "the sweep", func() bool { return len(n.api.pods()) == 2 })
	for name := range n.api.pods() {
		if name != "other-node" && !strings.HasPrefix(name, "kept-") {
			t.Errorf("%s is left", name)
		}
	}
}

func TestARunnerThatDiesIsExplainedAndItsPodUsedAgain(t *testing.T) {
	n := open(t)
	f := function(t, "lamp", "if (event.payload == 1) for (;;); return 2")
	i := n.start(t, f)
	run := begin(i)
	n.api.kill(t, i.Describe().Name)
	if got := run.wait(t); !strings.HasPrefix(got, "runner.died: ended: exit status -1") {
		t.Errorf("got %s", got)
	}
	<-i.Ended()
	i.Close()
	j := n.start(t, f)
	if j.Describe().Name != i.Describe().Name {
		t.Errorf("it runs in %s, before in %s", j.Describe().Name, i.Describe().Name)
	}
}

func TestWithoutTheServerWhatRunsGoesOn(t *testing.T) {
	n := open(t, pool(1))
	f := function(t, "lamp", "return 1")
	eventually(t, "the pool", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, r := range n.records {
			if r.warm != nil {
				return true
			}
		}
		return false
	})
	n.api.setDown(true)
	i := n.start(t, f) // out of the pool
	if got := call(t, i); got != "1" {
		t.Errorf("got %s", got)
	}
	_, err := n.Start(t.Context(), function(t, "other", "return 2"))
	if !errors.Is(err, ErrAway) || errors.Is(err, functions.ErrUnfit) {
		t.Errorf("Start = %v, want ErrAway", err)
	}
	n.api.setDown(false)
	eventually(t, "the label", func() bool {
		return meta(n.api.pods()[i.Describe().Name])["labels"].(object)[labelFunction] == "lamp"
	})
}

func TestAPodThatCannotRunSaysWhy(t *testing.T) {
	for _, test := range []struct {
		image string
		unfit bool
		left  int // pods that the kubelet goes on trying
	}{
		{"stuck/ErrImagePull", false, 1},
		{"stuck/InvalidImageName", true, 0},
		{"stuck/CreateContainerError", false, 0},
	} {
		n := open(t, func(c *Config) { c.Image = test.image })
		_, err := n.Start(t.Context(), function(t, "lamp", "return 1"))
		reason := strings.TrimPrefix(test.image, "stuck/")
		if err == nil || !strings.Contains(err.Error(), reason+": as the test wants") || errors.Is(err, functions.ErrUnfit) != test.unfit {
			t.Errorf("%s: %v, want unfit %v", reason, err, test.unfit)
		}
		eventually(t, "what is left", func() bool { return len(n.api.pods()) == test.left })
		before := fmt.Sprint(names(n.api.pods()))
		if _, err := n.Start(t.Context(), function(t, "lamp", "return 1")); err == nil {
			t.Errorf("%s: it starts all the same", reason)
		}
		if after := fmt.Sprint(names(n.api.pods())); test.left > 0 && after != before {
			t.Errorf("%s: pods are %s, were %s", reason, after, before)
		}
		n.stop()
	}
}

func TestAPodOfAnotherSecretIsReplaced(t *testing.T) {
	n := open(t)
	f := function(t, "lamp", "return 1")
	i := n.start(t, f)
	n.stop()
	again := restart(t, n.api, func(c *Config) { c.Secret = []byte(strings.Repeat("x", SecretSize)) })
	j := again.start(t, f)
	if got := call(t, j); got != "1" || j.Describe().Name == i.Describe().Name {
		t.Errorf("got %s from %s", got, j.Describe().Name)
	}
	eventually(t, "the other's end", func() bool { return len(n.api.pods()) == 1 })
}

func TestASecretThatIsMissingCostsNoPod(t *testing.T) {
	asks := func(s *functions.Spec) { s.Secrets = []string{"token"} }
	for name, c := range map[string]struct {
		secrets func([]string) (map[string]string, error)
		want    string
	}{
		"there are none":  {nil, "secret token is missing: there are none here"},
		"this one is not": {func([]string) (map[string]string, error) { return nil, &functions.LackError{What: "write token"} }, "write token"},
	} {
		t.Run(name, func(t *testing.T) {
			n := open(t, func(cfg *Config) { cfg.Secrets = c.secrets })
			ctx, stop := context.WithTimeout(t.Context(), patience)
			defer stop()
			_, err := n.Start(ctx, function(t, "lamp", "return 1", asks))
			if lack, ok := errors.AsType[*functions.LackError](err); !ok || lack.What != c.want {
				t.Errorf("Start = %v, want that it lacks: %s", err, c.want)
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			if len(n.records) > 0 {
				t.Errorf("%d pods were made for it", len(n.records))
			}
		})
	}
	n := open(t, func(c *Config) {
		c.Secrets = func([]string) (map[string]string, error) { return map[string]string{"token": "abc"}, nil }
	})
	i := n.start(t, function(t, "lamp", "return sedge.secret('token')", asks))
	defer i.Close()
	if got := call(t, i); got != `"abc"` {
		t.Errorf("the function has %s, want its secret", got)
	}
}
