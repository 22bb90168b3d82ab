package node

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/cmd/service"
	"github.com/sedge-iot/sedge/devices/broker"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == RunnerCommand { // the sandbox starts its own file
		if err := Runner(context.Background(), nil); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// run opens a node with a broker of its own and runs it until the test ends, or
// until it is told to end.
func run(t *testing.T, o Options, lg *slog.Logger) (n *Node, end func()) {
	t.Helper()
	return runOn(t, o, func(*store.Store) (Carrier, error) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return Carrier{}, err
		}
		b, err := broker.New(broker.Config{Listener: ln, Log: lg})
		return Carrier{Bus: b}, err
	}, lg)
}

// runOn is run on what dial returns.
func runOn(t *testing.T, o Options, dial func(*store.Store) (Carrier, error), lg *slog.Logger) (n *Node, end func()) {
	t.Helper()
	n, err := Open(o, dial, lg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }() // awaited by end
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		if err := n.Close(); err != nil {
			t.Errorf("Close = %v, want nil", err)
		}
	}
	t.Cleanup(end)
	return n, end
}

func testLog(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// get asks the node's listener for path, under the name host if that is not "".
func get(t *testing.T, n *Node, path, host string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.OpsAddr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestANodeAloneTellsHowItIs(t *testing.T) {
	n, _ := run(t, Options{Name: "attic", DataDir: t.TempDir(), OpsListen: "127.0.0.1:0"}, testLog(t))
	for path, want := range map[string]string{
		"/healthz":        "ok\n",
		"/livez":          "ok\n",
		"/readyz":         "ok\n",
		"/readyz?verbose": "[+]broker ok\n[+]store ok\n[+]hearing ok\nreadyz check passed\n",
		"/version":        `"node":"attic"}` + "\n",
		"/metrics":        "\nsedge_config_fault 0\n",
	} {
		if status, text := get(t, n, path, ""); status != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %q, want %q in it", path, status, text, want)
		}
	}
	for path, want := range map[string]int{"/": 404, "/v1/functions": 404, "/debug/pprof/": 404} {
		if status, _ := get(t, n, path, ""); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
}

func TestANodeAloneIsNotAskedUnderAForeignName(t *testing.T) {
	n, _ := run(t, Options{DataDir: t.TempDir(), OpsListen: "127.0.0.1:0"}, testLog(t))
	_, port, _ := net.SplitHostPort(n.OpsAddr())
	open, _ := run(t, Options{DataDir: t.TempDir(), OpsListen: "0.0.0.0:0"}, testLog(t))
	mine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]struct{ here, abroad int }{
		"localhost:" + port:       {200, 200},
		"[::1]:" + port:           {200, 200},
		"127.0.0.1:1":             {421, 200},
		"192.168.1.7:" + port:     {421, 200},
		mine + ":" + port:         {421, 200},
		mine + ".local:" + port:   {421, 200},
		"evil.example:" + port:    {421, 421},
		mine + ".evil.example:80": {421, 421},
	} {
		if status, text := get(t, n, "/metrics", host); status != want.here {
			t.Errorf("on loopback, as %s: %d %.100q, want %d", host, status, text, want.here)
		}
		if status, text := get(t, open, "/metrics", host); status != want.abroad {
			t.Errorf("beyond, as %s: %d %.100q, want %d", host, status, text, want.abroad)
		}
	}
}

func TestABrokenConfigIsTold(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sedge.yaml")
	read := func(text string) Options {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		o := Options{}
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		o.AddFlags(flags)
		o.AddOpsFlags(flags)
		flags.Set("data-dir", dir)
		flags.Set("http-listen", "off")
		flags.Set("ops-listen", "127.0.0.1:0")
		var err error
		if o.Config, err = service.ReadConfig(path, dir, flags); err != nil {
			t.Fatal(err)
		}
		return o
	}
	good := read("node-name: attic")
	good.Config.Keep(testLog(t))
	n, end := run(t, good, testLog(t))
	if _, text := get(t, n, "/readyz?verbose", ""); !strings.Contains(text, "[+]config ok\n") {
		t.Errorf("with a good file readyz says %q", text)
	}
	end()

	n, _ = run(t, read("node-nam: attic"), testLog(t))
	if status, _ := get(t, n, "/readyz", ""); status != 200 {
		t.Errorf("readyz: %d, want 200: the node works", status)
	}
	want := "[!]config ok, but: the last good one is used, for " + path + ` is broken: ` + path + `: there is no setting "node-nam"`
	if _, text := get(t, n, "/readyz?verbose", ""); !strings.Contains(text, want) {
		t.Errorf("readyz says %q, want %q in it", text, want)
	}
	if _, text := get(t, n, "/metrics", ""); !strings.Contains(text, "\nsedge_config_fault 1\n") {
		t.Errorf("metrics do not tell of the fault")
	}
}

func TestTheWatchdogHearsOfAnAgentThatLives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "100000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	run(t, Options{DataDir: t.TempDir()}, testLog(t))
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	for range 3 {
		buf := make([]byte, 100)
		if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "WATCHDOG=1" {
			t.Fatalf("systemd heard %q, %v, want WATCHDOG=1", buf[:n], err)
		}
	}
	for _, env := range []map[string]string{
		{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "-5"}, {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"},
	} {
		if d := watchdogTime(func(name string) string { return env[name] }); d != 0 {
			t.Errorf("with %v the watchdog is fed each %v, want never", env, d)
		}
	}
}
