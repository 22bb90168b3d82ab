package node

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/sedge-iot/sedge/edge"
)

func TestATakenPortNamesItsHolder(t *testing.T) {
	ln, err := Listen("the test", "127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = Listen("the test", ln.Addr().String(), "take another")
	e, ok := errors.AsType[*edge.Error](err)
	if !ok || e.Code != edge.Conflict || e.Hint != "take another" {
		t.Fatalf("Listen = %v, want a conflict with its hint", err)
	}
	if want := fmt.Sprintf("is in use by node.test (pid %d)", os.Getpid()); !strings.HasSuffix(e.Message, want) {
		t.Errorf("Listen = %q, want it to end in %q", e.Message, want)
	}
}

func TestAnAddressThatIsNoneIsInvalid(t *testing.T) {
	_, err := Listen("the test", "nowhere", "")
	if e, ok := errors.AsType[*edge.Error](err); !ok || e.Code != edge.Invalid {
		t.Errorf("Listen = %v, want invalid", err)
	}
}

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

func TestReplaceLeavesNothingBeside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, text := range []string{"one", "two"} {
		if err := Replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("file holds %q, want %q", got, text)
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("folder holds %v, want the file only", entries)
	}
}

func TestNotifyTellsSystemd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	Notify("READY=1")
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("systemd heard %q, %v, want READY=1", buf[:n], err)
	}
}

func TestLogsAreForWhoReadsThem(t *testing.T) {
	os.Unsetenv("JOURNAL_STREAM")
	for _, tt := range []struct {
		format, journal, want string
		text                  bool
	}{
		{"auto", "", `{"time":`, false},
		{"auto", "8:1", "level=INFO msg=hello", true},
		{"text", "", "time=", true},
		{"text", "8:1", "level=INFO msg=hello", true},
		{"json", "8:1", `{"time":`, false},
	} {
		if tt.journal != "" {
			t.Setenv("JOURNAL_STREAM", tt.journal)
		} else {
			os.Unsetenv("JOURNAL_STREAM")
		}
		var out bytes.Buffer
		lg, text, err := Options{LogLevel: "info", LogFormat: tt.format}.NewLogger(&out)
		if err != nil {
			t.Fatal(err)
		}
		lg.Info("hello")
		lg.Debug("not this")
		if text != tt.text || !strings.HasPrefix(out.String(), tt.want) || strings.Contains(out.String(), "not this") {
			t.Errorf("format %s, journal %q: text %v and %q, want %v and %q", tt.format, tt.journal, text, out.String(), tt.text, tt.want)
		}
	}
	for _, o := range []Options{{LogLevel: "loud", LogFormat: "text"}, {LogLevel: "info", LogFormat: "xml"}} {
		if _, _, err := o.NewLogger(os.Stderr); err == nil {
			t.Errorf("NewLogger of %+v = nil, want an error", o)
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

func TestABrokenConfigFallsBackToTheLastGood(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sedge.yaml")
	lg := slog.New(slog.NewTextHandler(t.Output(), nil))
	read := func(text string) (Options, *ConfigFile, error) {
		os.Remove(path)
		var err error
		switch text {
		case "gone":
		case "a folder": // nobody can read it as a file; a mode would not stop root
			err = os.Mkdir(path, 0o700)
		default:
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		var o Options
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		o.AddFlags(flags)
		c, err := ReadConfig(path, dir, flags)
		return o, c, err
	}
	if _, _, err := read("node-name: [attic"); err == nil {
		t.Error("a broken file without a good one is taken, want an error")
	}
	o, c, err := read("node-name: attic")
	if err != nil || c.Fault != nil || o.Name != "attic" {
		t.Fatalf("a good file gives %+v, %+v, %v", o, c, err)
	}
	c.Keep(lg)
	for _, broken := range []string{"node-name: [cellar", "node-nam: cellar", "gone", "a folder"} {
		o, c, err := read(broken)
		if err != nil || c.Fault == nil || o.Name != "attic" {
			t.Errorf("%q gives name %q, %+v, %v, want the last good one and its fault", broken, o.Name, c, err)
			continue
		}
		c.Keep(lg)
	}
}
