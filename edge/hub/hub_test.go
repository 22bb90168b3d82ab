package hub_test

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/edge/hub"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/functions"
)

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
	n.defined["stray"] = edge.Definition{Function: function(t, "stray", "1"), Enabled: true}
	n.synced.Functions = []edge.Ref{{Name: "stray", Revision: n.defined["stray"].Function.Revision, Enabled: true}}
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

func TestAChangeThatIsNotRecordedReachesNoNode(t *testing.T) {
	h := serve(t)
	good := h.deploy(t, "f", "1")
	h.onTry = func() {
		if err := h.ledger.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := h.client.Deploy(t.Context(), function(t, "f", "2"), client.DeployOptions{})
	wantCode(t, "Deploy", err, edge.Internal)
	if on := h.has("f").Function.Revision; on != good.Revision {
		t.Errorf("the node has %s, want %s still", on.Short(), good.Revision.Short())
	}
}
