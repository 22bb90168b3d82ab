package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// dial returns a client of the server at url.
func dial(t *testing.T, url string) *Client {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q}}],
  contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}`, url)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestErrorsAreSorted(t *testing.T) {
	answer := func(w http.ResponseWriter, code int, reason string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":"so it is"}`, reason, code)
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch name := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]; name {
		case "missing":
			answer(w, 404, "NotFound")
		case "denied":
			answer(w, 403, "Forbidden")
		case "conflict":
			answer(w, 409, "Conflict")
		case "exists":
			answer(w, 409, "AlreadyExists")
		case "invalid":
			answer(w, 422, "Invalid")
		case "starting":
			answer(w, 503, "ServiceUnavailable")
		default:
			http.Error(w, "no JSON", 500)
		}
	}))
	defer api.Close()
	pods := Pods.In(dial(t, api.URL), "sedge")
	type kinds struct{ missing, denied, conflict, exists, invalid, away bool }
	for name, want := range map[string]kinds{
		"missing":  {missing: true},
		"denied":   {denied: true},
		"conflict": {conflict: true},
		"exists":   {exists: true},
		"invalid":  {invalid: true},
		"starting": {away: true},
		"broken":   {away: true},
	} {
		_, err := pods.Get(t.Context(), name)
		got := kinds{IsNotFound(err), IsDenied(err), IsConflict(err), IsExists(err), IsInvalid(err), Away(err)}
		if got != want {
			t.Errorf("%s: %v is %+v, want %+v", name, err, got, want)
		}
	}
	api.Close()
	if _, err := pods.Get(t.Context(), "x"); !Away(err) || IsNotFound(err) {
		t.Errorf("with nobody there, %v is not away", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := pods.Get(ctx, "x"); err == nil || Away(err) {
		t.Errorf("given up, %v is taken for away", err)
	}
}

func TestWithoutAClusterThereIsNone(t *testing.T) {
	t.Setenv("KUBECONFIG", "")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := os.Stat(K3sConfig); err == nil {
		t.Skip("this machine has k3s")
	}
	if _, err := Open(""); !errors.Is(err, ErrNone) {
		t.Errorf("Open = %v, want ErrNone", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("Open of a file that is not there = %v", err)
	}
}

// TestAWatchFollows reads a recorded conversation: the whole, two changes, the end
// of the stream, and another whole from which one pod is missing.
func TestAWatchFollows(t *testing.T) {
	pod := func(name, phase, version string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":%q,"namespace":"sedge","resourceVersion":%q,"managedFields":[{"manager":"x"}]},"status":{"phase":%q}}`, name, version, phase)
	}
	lists := make(chan string, 2)
	lists <- pod("a", "Pending", "1") + "," + pod("b", "Running", "2")
	lists <- pod("b", "Failed", "9")
	streams := make(chan []string, 2)
	streams <- []string{"MODIFIED " + pod("a", "Running", "4"), "ADDED " + pod("c", "Pending", "5"), "DELETED " + pod("c", "Pending", "6"),
		`ERROR {"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410}`}
	over := make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		q := r.URL.Query()
		if got := q.Get("labelSelector"); got != "sedge.dev/node=n" {
			t.Errorf("asked for %q", got)
		}
		switch {
		case q.Get("sendInitialEvents") == "true": // as servers before 1.34 answer
			w.WriteHeader(422)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
		case q.Get("watch") == "":
			fmt.Fprintf(w, `{"apiVersion":"v1","kind":"PodList","metadata":{"resourceVersion":"3"},"items":[%s]}`, <-lists)
		default:
			select {
			case events := <-streams:
				for _, e := range events {
					kind, object, _ := strings.Cut(e, " ")
					fmt.Fprintf(w, `{"type":%q,"object":%s}`+"\n", kind, object)
				}
			default:
				w.(http.Flusher).Flush()
				<-over
			}
		}
	}))
	defer api.Close()
	defer close(over)
	var said []string
	last := make(chan struct{})
	w := Pods.In(dial(t, api.URL), "sedge").Watch(Selector{Labels: "sedge.dev/node=n"}, func(c Change[Pod]) {
		phase := func(p *Pod) string {
			if p == nil {
				return "-"
			}
			return p.Status.Phase
		}
		said = append(said, c.Key+" "+phase(c.Old)+" "+phase(c.Now))
		if c.Now != nil && c.Now.Status.Phase == PodFailed {
			close(last)
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx) }() // awaited below
	select {
	case <-last:
	case <-time.After(time.Minute):
		t.Fatalf("saw only %q; %v", said, w.Err())
	}
	<-w.Synced()
	if p := w.Get("sedge/b"); p == nil || p.Status.Phase != PodFailed || len(w.List()) != 1 {
		t.Errorf("holds %d pods, b is %+v", len(w.List()), p)
	}
	stop()
	if err := <-ran; err != nil {
		t.Errorf("Run = %v", err)
	}
	slices.Sort(said[:2]) // a list has no order
	want := []string{"sedge/a - Pending", "sedge/b - Running", "sedge/a Pending Running", "sedge/c - Pending", "sedge/c Pending -", "sedge/a Running -", "sedge/b Running Failed"}
	if !slices.Equal(said, want) {
		t.Errorf("saw  %q\nwant %q", said, want)
	}
}
