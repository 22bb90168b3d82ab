package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/pod"
)

// A sandboxFunc is a sandbox of one line.
type sandboxFunc func() (functions.Instance, error)

func (s sandboxFunc) Start(context.Context, functions.Function) (functions.Instance, error) {
	return s()
}

// described is an instance that tells only where it is.
type described struct {
	functions.Instance
	functions.Description
	closed *bool
}

func (d described) Describe() functions.Description { return d.Description }
func (d described) Close() error                    { *d.closed = true; return nil }

func placed(t *testing.T, edit func(*functions.Spec)) functions.Function {
	t.Helper()
	m := functions.Manifest{APIVersion: functions.APIVersion, Kind: "Function", Metadata: functions.Metadata{Name: "lamp"}, Spec: functions.Spec{
		Runtime: "javascript", Source: functions.Source{Path: "index.js"}, Triggers: []functions.Trigger{{MQTT: &functions.MQTTTrigger{Topic: "a"}}},
	}}
	code := "export default () => 1"
	if edit != nil {
		edit(&m.Spec)
	}
	if m.Spec.Runtime == functions.RuntimeImage {
		code = ""
	}
	f, err := functions.New(m, code)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func image(s *functions.Spec) {
	s.Runtime, s.Source = functions.RuntimeImage, functions.Source{Image: "x.test/y@sha256:" + strings.Repeat("0", 64)}
}

func TestANodeWithoutPodsSaysWhy(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	process := sandboxFunc(func() (functions.Instance, error) { return described{}, nil })
	all := sandboxes(process, nil, "they are turned off (--pods off)")
	for name, edit := range map[string]func(*functions.Spec){"pod": nil, "auto": image} {
		_, err := all[name].Start(t.Context(), placed(t, edit))
		if !errors.Is(err, functions.ErrUnfit) || !strings.Contains(err.Error(), "this node runs no pods: they are turned off (--pods off)") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := all["auto"].Start(t.Context(), placed(t, nil)); err != nil {
		t.Errorf("auto without pods: %v", err)
	}
}

func TestAutoFallsBackOnlyWhileTheServerIsAway(t *testing.T) {
	process := sandboxFunc(func() (functions.Instance, error) {
		return described{Description: functions.Description{Sandbox: "process"}}, nil
	})
	for _, test := range []struct {
		err  error
		edit func(*functions.Spec)
		want string // the sandbox, or ""
	}{
		{pod.ErrAway, nil, "process"},
		{pod.ErrAway, image, ""},
		{pod.ErrAway, func(s *functions.Spec) { s.Placement.Pin = functions.PinCluster }, ""},
		{functions.ErrUnfit, nil, ""},
		{errors.New("no image"), nil, ""},
	} {
		a := auto{process: process, pod: sandboxFunc(func() (functions.Instance, error) { return nil, test.err }), pods: true}
		i, err := a.Start(t.Context(), placed(t, test.edit))
		if got := err == nil && i.Describe().Sandbox == "process"; got != (test.want != "") {
			t.Errorf("after %v: %v, %v, want %q", test.err, i, err, test.want)
		}
	}
}

func TestAProcessInAPodWantsItsOwnGroup(t *testing.T) {
	closed := false
	w := walled{sandboxFunc(func() (functions.Instance, error) {
		return described{Description: functions.Description{Missing: []string{"memory and pids control groups: read-only file system"}}, closed: &closed}, nil
	})}
	_, err := w.Start(t.Context(), placed(t, nil))
	if !errors.Is(err, functions.ErrUnfit) || !strings.Contains(err.Error(), "read-only file system") || !closed {
		t.Errorf("Start = %v, closed %v", err, closed)
	}
}

func TestPodsWantAClusterThatSedgeIsOn(t *testing.T) {
	has := map[string]bool{}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if !has[r.URL.Path] {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"NotFound","code":404}`)
			return
		}
		io.WriteString(w, `{"apiVersion":"v1","kind":"Any","metadata":{"name":"x"}}`)
	}))
	defer api.Close()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: %q}}]\ncontexts: [{name: a, context: {cluster: a}}]\ncurrent-context: a\n", api.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := Pods{Mode: "auto", Kubeconfig: file, Node: "pi", Namespace: "sedge"}
	c, err := p.client()
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ path, want string }{
		{"/api/v1/nodes/pi", `no node "pi"`},
		{"/api/v1/namespaces/sedge", `no namespace "sedge"`},
	} {
		if err := p.known(c); err == nil || !strings.Contains(err.Error(), step.want) {
			t.Errorf("without %s: %v, want %q", step.path, err, step.want)
		}
		has[step.path] = true
	}
	if err := p.known(c); err != nil {
		t.Errorf("with both: %v", err)
	}
}

func TestPodsThatAreAskedForMustBeThere(t *testing.T) {
	lg := slog.New(slog.DiscardHandler)
	for _, p := range []Pods{{Mode: "sometimes"}, {Mode: "auto", Kubeconfig: "/nowhere"}} {
		_, _, err := p.connect(lg)
		if e, ok := errors.AsType[*edge.Error](err); !ok || e.Code != edge.Invalid {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if c, why, err := (Pods{Mode: "off"}).connect(lg); c != nil || err != nil || why == "" {
		t.Errorf("off: %v, %q, %v", c, why, err)
	}
	dir := t.TempDir()
	first, err := podSecret(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := podSecret(dir); err != nil || string(again) != string(first) {
		t.Errorf("the secret is another the second time: %v", err)
	}
}
