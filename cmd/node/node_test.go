package node

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestASessionIsFoundAgain(t *testing.T) {
	dir := t.TempDir()
	first, err := openSession(dir, "Küche 1", "mqtt://a")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(first.Client, "sedge-k-che-1-") {
		t.Errorf("client id is %q, want it to name the node", first.Client)
	}
	first.hold(map[string]bool{"a/+": true}, slog.New(slog.DiscardHandler))

	again, err := openSession(dir, "Küche 1", "mqtt://a")
	if err != nil {
		t.Fatal(err)
	}
	if again.Client != first.Client || !again.Held["a/+"] {
		t.Errorf("session is %+v, want %+v", again, first)
	}
	other, err := openSession(dir, "Küche 1", "mqtt://b")
	if err != nil {
		t.Fatal(err)
	}
	if other.Client != first.Client || other.Held != nil {
		t.Errorf("at another broker the session is %+v, want the same client that holds nothing known", other)
	}
}

func TestABrokenSessionFileCostsOnlyTheSession(t *testing.T) {
	for _, text := range []string{"", "{", "[]", `{"client":""}`, `{"client":1}`} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, sessionFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := openSession(dir, "node", "mqtt://a"); err != nil || s.Client == "" {
			t.Errorf("openSession on %q = %+v, %v, want a new session", text, s, err)
		}
	}
}

func TestHTTPTriggersAskForTheirToken(t *testing.T) {
	n := &Node{token: "secret"}
	srv := httptest.NewServer(n.guarded(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {})))
	defer srv.Close()
	for shown, want := range map[string]int{"": 401, "Bearer": 401, "Bearer wrong": 401, "secret": 401, "Bearer secret": 200} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", shown)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("with %q the answer is %d, want %d", shown, res.StatusCode, want)
		}
	}
}

func TestOutsideNobodySetsOffTriggersWithoutAToken(t *testing.T) {
	dir := t.TempDir()
	empty, token := filepath.Join(dir, "empty"), filepath.Join(dir, "token")
	os.WriteFile(empty, []byte("\n"), 0o600)
	os.WriteFile(token, []byte("secret\n"), 0o600)
	for _, tt := range []struct {
		o  Options
		ok bool
	}{
		{Options{HTTPListen: "0.0.0.0:0"}, false},
		{Options{HTTPListen: "0.0.0.0:0", HTTPTokenFile: empty}, false},
		{Options{HTTPListen: "127.0.0.1:0", HTTPTokenFile: filepath.Join(dir, "nowhere")}, false},
		{Options{HTTPListen: "0.0.0.0:0", HTTPTokenFile: token}, true},
		{Options{HTTPListen: "127.0.0.1:0"}, true},
		{Options{HTTPListen: "off"}, true},
	} {
		n := &Node{}
		err := n.listenTrigger(tt.o)
		if (err == nil) != tt.ok {
			t.Errorf("listen %+v = %v, want ok %v", tt.o, err, tt.ok)
		}
		if n.trigger != nil {
			n.trigger.Close()
		}
	}
}
