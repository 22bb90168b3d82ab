package pod

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sedge-iot/sedge/edge/kube"
)

// An object is one of the API's, as JSON has it.
type object = map[string]any

// An apiServer is one in memory: it keeps objects of any kind, tells watchers
// what becomes of them, and knows no rules. What a real one makes of the pods here is
// seen by the suite that runs on a cluster.
type apiServer struct {
	http *httptest.Server
	down bool // answers nothing; guarded by mu

	mu      sync.Mutex
	version int
	objects map[string]object // by path; guarded by mu
	history []change          // guarded by mu
	more    chan struct{}     // closed when the history grows; guarded by mu
	calls   map[string]int    // by method; guarded by mu
}

type change struct {
	version int
	kind    string // ADDED, MODIFIED, DELETED
	path    string
	object  object
}

func newAPI(t *testing.T) *apiServer {
	a := &apiServer{objects: map[string]object{}, more: make(chan struct{}), calls: map[string]int{}}
	a.http = httptest.NewServer(a)
	t.Cleanup(a.http.Close)
	t.Cleanup(a.http.CloseClientConnections)
	return a
}

// client returns a client of the server.
func (a *apiServer) client(t *testing.T) *kube.Client {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: %q}}],
  contexts: [{name: c, context: {cluster: c, user: u}}], users: [{name: u, user: {}}]}`, a.http.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := kube.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// setDown has the server answer nothing, or again.
func (a *apiServer) setDown(down bool) {
	a.mu.Lock()
	a.down = down
	a.mu.Unlock()
	if down {
		a.http.CloseClientConnections()
	}
}

func meta(o object) object {
	m, _ := o["metadata"].(object)
	if m == nil {
		m = object{}
		o["metadata"] = m
	}
	return m
}

// changeLocked notes what became of an object.
func (a *apiServer) changeLocked(kind, path string, o object) {
	a.version++
	meta(o)["resourceVersion"] = strconv.Itoa(a.version)
	if kind == "DELETED" {
		delete(a.objects, path)
	} else {
		a.objects[path] = o
	}
	a.history = append(a.history, change{a.version, kind, path, clone(o)})
	close(a.more)
	a.more = make(chan struct{})
}

func clone(o object) (c object) {
	b, _ := json.Marshal(o)
	json.Unmarshal(b, &c)
	return c
}

// edit changes an object in place, if it is there.
func (a *apiServer) edit(path string, f func(object)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if o := a.objects[path]; o != nil {
		o = clone(o)
		f(o)
		a.changeLocked("MODIFIED", path, o)
	}
}

// ServeHTTP answers as an API server does.
func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	down := a.down
	a.calls[r.Method]++
	a.mu.Unlock()
	if down {
		status(w, 503, "ServiceUnavailable", "down")
		return
	}
	q := r.URL.Query()
	switch {
	case q.Get("sendInitialEvents") == "true":
		status(w, 422, "Invalid", "no such option")
	case q.Get("watch") != "":
		a.watch(w, r)
	default:
		a.answer(w, r, body)
	}
}

func status(w http.ResponseWriter, code int, reason, message string) {
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}

func (a *apiServer) answer(w http.ResponseWriter, r *http.Request, body []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	path := r.URL.Path
	var given object
	json.Unmarshal(body, &given)
	o := a.objects[path]
	switch r.Method {
	case http.MethodPost:
		path += "/" + meta(given)["name"].(string)
		if a.objects[path] != nil {
			status(w, 409, "AlreadyExists", path)
			return
		}
		a.addLocked(path, given)
		o = given
	case http.MethodPatch:
		switch {
		case o == nil && !strings.Contains(r.Header.Get("Content-Type"), "apply"):
			status(w, 404, "NotFound", path)
			return
		case o == nil:
			a.addLocked(path, given)
			o = given
		default:
			if uid := meta(given)["uid"]; uid != nil && uid != meta(o)["uid"] {
				status(w, 409, "Conflict", "uid")
				return
			}
			o = merge(clone(o), given)
			a.changeLocked("MODIFIED", path, o)
		}
	case http.MethodDelete:
		if o == nil {
			status(w, 404, "NotFound", path)
			return
		}
		if p, _ := given["preconditions"].(object); p != nil && p["uid"] != meta(o)["uid"] {
			status(w, 409, "Conflict", "uid")
			return
		}
		a.changeLocked("DELETED", path, clone(o))
	default:
		a.read(w, r, o)
		return
	}
	json.NewEncoder(w).Encode(o)
}

func (a *apiServer) addLocked(path string, o object) {
	m := meta(o)
	m["uid"] = fmt.Sprintf("uid-%d", a.version+1)
	if parts := strings.Split(path, "/"); len(parts) > 5 {
		m["namespace"] = parts[4]
	}
	a.changeLocked("ADDED", path, o)
}

// read answers a get or a list; mu is held.
func (a *apiServer) read(w http.ResponseWriter, r *http.Request, o object) {
	if o != nil {
		json.NewEncoder(w).Encode(o)
		return
	}
	base := filepath.Base(r.URL.Path)
	if base != "pods" && base != "configmaps" {
		status(w, 404, "NotFound", r.URL.Path)
		return
	}
	items := []object{}
	for path, o := range a.objects {
		if strings.HasPrefix(path, r.URL.Path+"/") && selected(o, r.URL.Query().Get("labelSelector")) {
			items = append(items, o)
		}
	}
	kind := map[string]string{"pods": "PodList", "configmaps": "ConfigMapList"}[base]
	json.NewEncoder(w).Encode(object{"kind": kind, "apiVersion": "v1", "metadata": object{"resourceVersion": strconv.Itoa(a.version)}, "items": items})
}

// selected reports whether o has the labels that a selector names.
func selected(o object, selector string) bool {
	labels, _ := meta(o)["labels"].(object)
	for _, want := range strings.Split(selector, ",") {
		key, value, valued := strings.Cut(want, "=")
		if got, ok := labels[key]; want != "" && (!ok || valued && got != value) {
			return false
		}
	}
	return true
}

// merge does what RFC 7386 says.
func merge(o, patch object) object {
	for k, v := range patch {
		below, isObject := v.(object)
		had, hadObject := o[k].(object)
		switch {
		case v == nil:
			delete(o, k)
		case isObject && hadObject:
			o[k] = merge(had, below)
		default:
			o[k] = v
		}
	}
	return o
}

// watch streams what happens from a version on. An object that leaves the selection
// is gone to the watcher.
func (a *apiServer) watch(w http.ResponseWriter, r *http.Request) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	selector := r.URL.Query().Get("labelSelector")
	w.(http.Flusher).Flush()
	for {
		a.mu.Lock()
		var news []change
		for _, c := range a.history {
			if c.version > from && strings.HasPrefix(c.path, r.URL.Path+"/") && selected(c.object, selector) {
				news = append(news, c)
			}
		}
		from = a.version
		more, down := a.more, a.down
		a.mu.Unlock()
		if down {
			return
		}
		for _, c := range news {
			json.NewEncoder(w).Encode(object{"type": c.kind, "object": c.object})
		}
		w.(http.Flusher).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}
