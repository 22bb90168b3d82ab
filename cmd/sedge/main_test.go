package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sedge-iot/sedge/cmd/node"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/devices/mqtt"
	"github.com/sedge-iot/sedge/devices/mqtttest"
)

// patience is how long a script waits for what must come.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == node.RunnerCommand { // sedge up starts its own file
		main()
	}
	testscript.Main(m, map[string]func(){"sedge": main, "tamper": tamper})
}

// TestScripts runs testdata/*.txtar. Beside testscript's own commands they use:
//
//	fails CODE sedge …     it must end with that exit code
//	mosquitto              start one with user home, password secret; MOSQUITTO is its host:port
//	authority              make one that certifies 127.0.0.1; CA, CERT and KEY are files
//	up [FLAG…]             start sedge up on free ports; SEDGE_HUB_URL, API, BROKER and TRIGGERS are set
//	down                   end it by SIGTERM; it must exit with 0 within 10 s
//	until PATTERN sedge …  run it again and again until its stdout matches
//	watch PATTERN sedge …  run it until a line of its stdout matches, then end it by SIGINT; it must exit with 0
//	pub TOPIC PAYLOAD      what a device says
//	hears TOPIC PATTERN    wait for such a message at the broker
//	tells PATH PATTERN     what the hub tells there, to the token in SEDGE_TOKEN_FILE if there is one, must match
//	hub                    start sedge-hub; SEDGE_HUB_URL, SEDGE_TOKEN_FILE and SEDGE_HUB_CA are set
//	agent NAME             start sedge-agent as that node, which has joined, at the broker MOSQUITTO
//	unplug NAME            end it
//	exec tamper FILE SQL   change a database behind the back of the program that has it open
//	join NAME TEXTFILE     have that node join by the line in the file, as a person would paste it
func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts programs")
	}
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Vars = slices.DeleteFunc(e.Vars, func(v string) bool { return strings.HasPrefix(v, "SEDGE_") })
			e.Setenv("SEDGE_DATA_DIR", filepath.Join(e.WorkDir, "data"))
			e.Setenv("TZ", "UTC")
			e.Values[houseKey{}] = &house{agents: map[string]*exec.Cmd{}}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fails":     cmdFails,
			"mosquitto": cmdMosquitto,
			"authority": cmdAuthority,
			"up":        cmdUp,
			"down":      cmdDown,
			"until":     cmdUntil,
			"watch":     cmdWatch,
			"pub":       cmdPub,
			"hears":     cmdHears,
			"tells":     cmdTells,
			"hub":       cmdHub,
			"join":      cmdJoin,
			"agent":     cmdAgent,
			"unplug":    cmdUnplug,
		},
	})
}

// A house is what a script has running: sedge up, and a client that hears
// everything at its broker.
type house struct {
	up     *exec.Cmd
	log    *lines
	client *mqtt.Client
	agents map[string]*exec.Cmd // by the node's name

	mu    sync.Mutex
	heard []devices.Message // guarded by mu
}

type houseKey struct{}

func houseOf(ts *testscript.TestScript) *house { return ts.Value(houseKey{}).(*house) }

func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	path := filepath.SplitList(ts.Getenv("PATH"))
	cmd.Path = filepath.Join(path[0], args[0])
	cmd.Err = nil
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "TZ", "WORK", "SEDGE_DATA_DIR", "SEDGE_HUB_URL", "SEDGE_HUB_CA", "SEDGE_TOKEN", "SEDGE_TOKEN_FILE", "SEDGE_KUBECONFIG", "SEDGE_OUTPUT", "SEDGE_TIMEOUT", "SEDGE_WAIT"} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	return cmd
}

func cmdFails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails CODE sedge …")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	cmd := command(ts, args[1:])
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("%q exits with %d, want %d", args[1:], got, want)
	}
}

func cmdMosquitto(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs("mosquitto")
	ts.Check(os.Mkdir(dir, 0o700))
	b, err := mqtttest.New(dir, mqtttest.Options{Users: map[string]string{"home": "secret"}})
	ts.Check(err)
	ts.Defer(b.Kill)
	ts.Setenv("MOSQUITTO", b.Addr())
}

func cmdAuthority(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs("authority")
	ts.Check(os.Mkdir(dir, 0o700))
	a, err := mqtttest.NewAuthority(dir)
	ts.Check(err)
	pair, err := a.Issue("127.0.0.1")
	ts.Check(err)
	ts.Setenv("CA", a.CertFile())
	ts.Setenv("CERT", pair.CertFile)
	ts.Setenv("KEY", pair.KeyFile)
}

func cmdUp(ts *testscript.TestScript, neg bool, args []string) {
	h := houseOf(ts)
	free := []string{"sedge", "up", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--broker-listen", "127.0.0.1:0", "--log-format", "json"}
	cmd := command(ts, append(free, args...))
	out, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	h.up, h.log = cmd, readLines(out)
	ts.Defer(func() { h.stop(ts) })
	var at struct{ Msg, Broker, API, Triggers string }
	for deadline := time.After(patience); at.Msg != "sedge is up"; {
		select {
		case line, ok := <-h.log.next:
			if !ok {
				ts.Fatalf("sedge up ended:\n%s", h.log.all())
			}
			json.Unmarshal([]byte(line), &at) // other lines have other fields
		case <-deadline:
			ts.Fatalf("sedge up is not up after %s:\n%s", patience, h.log.all())
		}
	}
	ts.Setenv("SEDGE_HUB_URL", at.API)
	ts.Setenv("API", strings.TrimPrefix(at.API, "http://"))
	_, broker, _ := strings.Cut(at.Broker, "://")
	ts.Setenv("BROKER", broker)
	ts.Setenv("TRIGGERS", "http://"+at.Triggers)
	h.listen(ts, at.Broker)
}

// listen connects a client that hears every message.
func (h *house) listen(ts *testscript.TestScript, broker string) {
	c, err := mqtt.New(mqtt.Config{URL: broker, ClientID: "test", Username: "home", Password: "secret", CAFile: ts.Getenv("CA")})
	ts.Check(err)
	c.Subscribe([]string{"#"})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, h.hear) }() // awaited by the deferred call
	ts.Defer(func() { stop(); <-done })
	h.client = c
	wait(ts, "a connection to the broker", func() bool { s := c.Status(); return s.Connected() && s.Subscribed })
}

func (h *house) hear(m devices.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = append(h.heard, m)
	if m.Ack != nil {
		m.Ack.Ack()
	}
}

// stop ends sedge up and says how it went.
func (h *house) stop(ts *testscript.TestScript) {
	if h.up == nil {
		return
	}
	up := h.up
	h.up = nil
	up.Process.Signal(syscall.SIGTERM)
	force := time.AfterFunc(10*time.Second, func() { up.Process.Kill() })
	h.log.rest()
	err := up.Wait()
	force.Stop()
	ts.Logf("[log of sedge up]\n%s", h.log.all())
	if err != nil {
		ts.Fatalf("sedge up ended with %v, want exit code 0 within 10 s", err)
	}
}

func cmdDown(ts *testscript.TestScript, neg bool, args []string) { houseOf(ts).stop(ts) }

func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	pattern := regexp.MustCompile("(?m)" + args[0])
	var out []byte
	wait(ts, fmt.Sprintf("%q to match %q", args[1:], args[0]), func() bool {
		cmd := command(ts, args[1:])
		out, _ = cmd.Output() // an error is as good as no match
		return pattern.Match(out) != neg
	})
	ts.Stdout().Write(out)
}

func cmdWatch(ts *testscript.TestScript, neg bool, args []string) {
	pattern := regexp.MustCompile(args[0])
	cmd := command(ts, args[1:])
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	log := readLines(out)
	for deadline, found := time.After(patience), false; !found; {
		select {
		case line, ok := <-log.next:
			found = pattern.MatchString(line)
			if !ok {
				cmd.Wait()
				ts.Fatalf("%q ended before %q came:\n%s", args[1:], args[0], log.all())
			}
		case <-deadline:
			cmd.Process.Kill()
			log.rest()
			cmd.Wait()
			ts.Fatalf("%q did not say %q:\n%s", args[1:], args[0], log.all())
		}
	}
	cmd.Process.Signal(os.Interrupt)
	log.rest()
	if err := cmd.Wait(); err != nil {
		ts.Fatalf("%q ended with %v, want exit code 0", args[1:], err)
	}
	io.WriteString(ts.Stdout(), log.all())
}

func cmdPub(ts *testscript.TestScript, neg bool, args []string) {
	sent := make(chan error, 1)
	p := devices.Publication{Topic: args[0], Payload: []byte(args[1]), QoS: 1}
	houseOf(ts).client.Publish(p, func(err error) { sent <- err })
	ts.Check(<-sent)
}

func cmdHears(ts *testscript.TestScript, neg bool, args []string) {
	h, pattern := houseOf(ts), regexp.MustCompile(args[1])
	wait(ts, fmt.Sprintf("%s to say %q", args[0], args[1]), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.ContainsFunc(h.heard, func(m devices.Message) bool {
			return m.Topic == args[0] && pattern.Match(m.Payload)
		})
	})
}

// cmdTells asks the hub for a path, with the token if there is one.
func cmdTells(ts *testscript.TestScript, neg bool, args []string) {
	req, err := http.NewRequest("GET", ts.Getenv("SEDGE_HUB_URL")+args[0], nil)
	ts.Check(err)
	if file := ts.Getenv("SEDGE_TOKEN_FILE"); file != "" {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(file)))
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	if file := ts.Getenv("SEDGE_HUB_CA"); file != "" {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(ts.ReadFile(file)))
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	ts.Check(err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	ts.Check(err)
	if regexp.MustCompile("(?m)"+args[1]).Match(text) == neg {
		ts.Fatalf("%s tells:\n%s", args[0], text)
	}
}

// wait polls until it is so.
func wait(ts *testscript.TestScript, what string, so func() bool) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !so(); {
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// lines are what a program says, read as it comes.
type lines struct {
	next chan string
	mu   sync.Mutex
	said bytes.Buffer // guarded by mu
}

// readLines reads r to its end; who has it must take what comes, or call rest.
func readLines(r io.Reader) *lines {
	l := &lines{next: make(chan string, 10_000)}
	go func() { // ends with the program, which rest waits for
		defer close(l.next)
		for s := bufio.NewScanner(r); s.Scan(); {
			l.mu.Lock()
			l.said.WriteString(s.Text() + "\n")
			l.mu.Unlock()
			l.next <- s.Text()
		}
	}()
	return l
}

// rest waits until the program has said its last.
func (l *lines) rest() {
	for range l.next {
	}
}

func (l *lines) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.said.String()
}
