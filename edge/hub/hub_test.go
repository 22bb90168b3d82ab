package hub_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/edge/fleet"
	"github.com/sedge-iot/sedge/edge/hub"
	"github.com/sedge-iot/sedge/edge/keys"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/member"
	"github.com/sedge-iot/sedge/functions"
)

const token = "the-token-of-these-tests"

// A house is a hub that serves on loopback, with the node beside it and a client.
type house struct {
	*node
	hub    *hub.Hub
	fleet  *fleet.Fleet
	ledger *ledger.Ledger
	client *client.Client
	url    string
	addr   string
	end    func() error // ends Serve and returns what it returned
}

func build(t testing.TB, n *node, dir string) *house {
	t.Helper()
	l, err := ledger.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	key, err := keys.Open(filepath.Join(dir, "hub.key"))
	if err != nil {
		t.Fatal(err)
	}
	lg := slog.New(slog.NewTextHandler(t.Output(), nil))
	fl := fleet.New(fleet.Config{Ledger: l, Key: key, Logger: lg})
	h, err := hub.New(hub.Config{
		Ledger: l, Fleet: fl, Name: "here", Version: "v1.2.3", Token: token, Logger: lg, Checks: n.Checks,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "sedge_up 1\n")
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &house{node: n, hub: h, fleet: fl, ledger: l}
}

// open serves the hub until the test ends, with its node.
func (h *house) open(t testing.TB) *house {
	t.Helper()
	h.serve(t)
	h.admit(t, "here", h.node, nil)
	return h
}

// serve serves the hub until the test ends, without a node.
func (h *house) serve(t testing.TB) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.runs(t, "Fleet", h.fleet.Run)
	h.end = h.runs(t, "Serve", func(ctx context.Context) error { return h.hub.Serve(ctx, ln) })
	h.addr = ln.Addr().String()
	h.url = "http://" + h.addr
	h.client = h.as(t, token)
	h.client.User = "ada"
}

// as returns a client that shows a token.
func (h *house) as(t testing.TB, token string) *client.Client {
	t.Helper()
	c := client.New(h.url, token)
	t.Cleanup(c.Close)
	return c
}

// runs runs a part until the test ends, or until what it returns is called.
func (h *house) runs(t testing.TB, part string, run func(context.Context) error) (end func() error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }() // awaited by end
	end = func() error {
		stop()
		err := <-done
		done <- err
		return err
	}
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Errorf("%s = %v, want nil", part, err)
		}
	})
	return end
}

// admit has a node join the hub, over a real link, and waits until it is in step.
func (h *house) admit(t testing.TB, name string, n *node, labels map[string]string) (leave func() error) {
	t.Helper()
	made, err := h.client.MakeToken(t.Context(), edge.TokenAsk{TTL: time.Minute, Labels: labels})
	if err != nil {
		t.Fatal(err)
	}
	invitation, err := edge.ParseInvitation(made.Text)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := member.Join(t.Context(), dir, h.url, invitation, member.JoinOptions{Name: name}); err != nil {
		t.Fatal(err)
	}
	return h.brings(t, dir, name, n)
}

// brings runs the node of a home that has joined, and waits until it is in step.
func (h *house) brings(t testing.TB, dir, name string, n *node) (leave func() error) {
	t.Helper()
	home, err := member.OpenHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := member.New(member.Config{Home: home, Agent: n, Version: "v1", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	leave = h.runs(t, "Member", m.Run)
	until(t, name+" is in step", func() bool {
		d, err := h.fleet.Node(name)
		return err == nil && d.Connected && d.At.Epoch != ""
	})
	return leave
}

func serve(t testing.TB) *house {
	t.Helper()
	return build(t, newNode(), t.TempDir()).open(t)
}

// until polls for what another goroutine brings about.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

const manifest = `apiVersion: sedge.dev/v1
kind: Function
metadata: {name: NAME}
spec:
  runtime: javascript
  source: {path: index.js}
  triggers:
  - mqtt: {topic: "a/{device}"}
`

func function(t testing.TB, name, code string) functions.Function {
	t.Helper()
	m, err := functions.Parse("function.yaml", []byte(strings.Replace(manifest, "NAME", name, 1)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := functions.New(m, code)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (h *house) deploy(t testing.TB, name, code string) edge.Change {
	t.Helper()
	c, err := h.client.Deploy(t.Context(), function(t, name, code), client.DeployOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantCode fails unless err is the API's error of that kind.
func wantCode(t testing.TB, what string, err error, want edge.Code) *edge.Error {
	t.Helper()
	e, ok := errors.AsType[*edge.Error](err)
	if !ok || e.Code != want {
		t.Fatalf("%s = %v (%T), want the code %s", what, err, err, want)
	}
	return e
}

func TestServeRefusesToListenBeyondThisMachine(t *testing.T) {
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	h := build(t, newNode(), t.TempDir())
	if err := h.hub.Serve(t.Context(), ln); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("Serve = %v, want a word on loopback", err)
	}
}

func TestTheNodeIsGivenWhatTheLedgerHoldsAndLosesTheRest(t *testing.T) {
	n, dir := newNode(), t.TempDir()
	h := build(t, n, dir)
	for _, f := range []functions.Function{function(t, "on", "1"), function(t, "off", "1"), function(t, "bad", "BROKEN")} {
		if _, err := h.ledger.Deploy(f, ledger.Intent{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.ledger.SetEnabled("off", false, ledger.Intent{}); err != nil {
		t.Fatal(err)
	}
	stray := function(t, "stray", "1")
	n.defined["stray"] = edge.Definition{Function: stray, Enabled: true}
	n.synced.Functions = []edge.Ref{{Name: "stray", Revision: stray.Revision, Enabled: true}}
	h.open(t)

	list, err := h.client.Functions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range list {
		got = append(got, s.Name+" "+string(s.Phase)+" "+s.Reason)
	}
	want := []string{"bad failing bad does not load: line 1", "off disabled ", "on asleep "}
	if !slices.Equal(got, want) {
		t.Errorf("functions: %q, want %q", got, want)
	}
	if len(n.Functions()) != 2 {
		t.Errorf("the node has %v, want on and off", n.Functions())
	}

	h.deploy(t, "bad", "mended")
	if d, err := h.client.Function(t.Context(), "bad"); err != nil || d.Status.Phase != edge.Asleep || d.Status.Reason != "" {
		t.Errorf("a mended function is %+v, %v, want asleep", d.Status, err)
	}
}

func TestTheTokenIsMadeOnceAndOnlyItsOwnerMayReadIt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	var log strings.Builder
	open := func() string {
		t.Helper()
		h, err := hub.New(hub.Config{TokenFile: file, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		return h.Token
	}
	made := open()
	if len(made) != 43 {
		t.Errorf("token %q has %d characters, want 43: 32 bytes in base64url", made, len(made))
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if again := open(); again != made {
		t.Errorf("second start has token %q, want %q", again, made)
	}
	if !strings.Contains(log.String(), "could be read by others") {
		t.Errorf("log: %s\nwant a warning", &log)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v, want 0600", info.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("beside the token lies %v, %v, want nothing", left, err)
	}
}

func TestATokenFileThatHoldsNoneIsRefused(t *testing.T) {
	for _, text := range []string{"", "\n", "short", "a token with spaces in it", strings.Repeat("x", 20) + "\x00"} {
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := hub.New(hub.Config{TokenFile: file, Logger: slog.New(slog.DiscardHandler)}); err == nil {
			t.Errorf("New took the token %q", text)
		}
	}
	if _, err := hub.New(hub.Config{Logger: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("New made a hub that asks for no token")
	}
}

func TestWhatIsUnderWayIsFinishedWhenTheHubEnds(t *testing.T) {
	h := serve(t)
	h.deploy(t, "f", "1")
	type answer struct {
		out edge.Invoked
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		out, err := h.client.Invoke(t.Context(), "f", edge.Invoke{Payload: []byte("hold")})
		answers <- answer{out, err}
	}()
	<-h.invoked
	ended := make(chan error, 1)
	go func() { ended <- h.end() }()
	until(t, "the hub takes no more", func() bool {
		conn, err := net.Dial("tcp", h.addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(h.release)
	if a := <-answers; a.err != nil || a.out.Invocation != "held" {
		t.Errorf("Invoke = %+v, %v, want its answer", a.out, a.err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve = %v, want nil", err)
	}
}

func TestAChangeThatIsNotRecordedDoesNotReachTheNode(t *testing.T) {
	h := serve(t)
	good := h.deploy(t, "f", "1")
	h.onTry = func() {
		h.onTry = nil
		if err := h.ledger.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := h.client.Deploy(t.Context(), function(t, "f", "2"), client.DeployOptions{})
	wantCode(t, "Deploy", err, edge.Internal)
	if on := h.defined["f"].Function.Revision; on != good.Revision {
		t.Errorf("the node has %s, want %s still", on.Short(), good.Revision.Short())
	}
}
