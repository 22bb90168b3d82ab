package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/installer/upgrade"
)

// Versions of the agent.
var (
	oldAgent = stamped("sedge-agent", "v1.0.0")
	newAgent = stamped("sedge-agent", "v1.1.0")
)

// A watched pi is started again whenever its agent has ended, as systemd does.
type watched struct {
	*pi
	mu   sync.Mutex // guards pi's cmd, and over
	over bool       // it is not started again
	stop func()     // kills the agent for good
}

// watch starts a pi of the old version, whose owner takes what s has signed.
func (h *home) watch(t *testing.T, name string, s signer) *watched {
	t.Helper()
	p := &watched{pi: h.join(t, name, "")}
	p.kill(t)
	p.program = oldAgent
	p.args = append(p.args, "--upgrade-keys", s.public, "--upgrade-settle", "1s")
	var watching sync.WaitGroup
	p.start(t)
	watching.Go(func() {
		for running := p.cmd; running != nil; running = p.again(t) {
			running.Wait() // how it ended its words say
			pause(t.Context(), 200*time.Millisecond)
		}
	})
	p.stop = sync.OnceFunc(func() {
		p.mu.Lock()
		p.over = true
		p.mu.Unlock()
		p.cut()
		watching.Wait()
		p.cmd = nil
	})
	t.Cleanup(p.stop)
	h.awaitVersion(t, name, "v1.0.0")
	return p
}

// again starts the agent again, unless it is to stay down.
func (p *watched) again(t *testing.T) *exec.Cmd {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return nil
	}
	p.start(t)
	return p.cmd
}

// cut ends the agent as a power cut does.
func (p *watched) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd.Process.Kill() // which has ended by itself if this fails
}

// awaitVersion waits until a node is connected and well with a version.
func (h *home) awaitVersion(t *testing.T, name, version string) {
	t.Helper()
	await(t, name+" to run "+version, func() error {
		n, err := h.client.Node(t.Context(), name)
		switch {
		case err != nil:
			return err
		case !n.Connected || n.Program == nil:
			return errors.New("it is away")
		case n.Program.Version != version || n.Program.Trial || n.Version != version:
			return fmt.Errorf("it is %s: %+v", n.Version, n.Program)
		}
		return nil
	})
}

// release has the hub keep a program of that version.
func (h *home) release(t *testing.T, s signer, program, version string) told {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sedge-agent")
	data, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(file, data, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.minisign(t, "-S", "-t", upgrade.Comment("sedge-agent", version, upgrade.Platform()), "-m", file)
	got := h.hub.sedge(t, "", "upgrade", "push", file)
	if got.code != 0 {
		t.Fatalf("upgrade push: %+v", got)
	}
	return got
}

func TestFleetAVersionReachesAllNodesOrNone(t *testing.T) {
	t.Parallel() // most of it waits
	ours, theirs := newSigner(t), newSigner(t)
	h := newHome(t, 0, nil)
	var pis []*watched
	for i := range 2 {
		pis = append(pis, h.watch(t, fmt.Sprintf("pi-%d", i), ours))
	}
	if got := h.hub.sedge(t, reflex("lamp", 1, ""), "deploy", "-f", "-", "--wait"); got.code != 0 {
		t.Fatalf("deploy: %+v", got)
	}
	all := map[string]map[string]int{"pi-0": {"lamp": 1}, "pi-1": {"lamp": 1}}
	h.reacts(t, all)

	// One that crashes is tried by the canary, which goes back, and by nobody else.
	crashes := filepath.Join(t.TempDir(), "crashes")
	if err := os.WriteFile(crashes, []byte("#!/bin/sh\necho started >>"+crashes+".starts\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.release(t, ours, crashes, "v1.0.9")
	bad := h.hub.sedge(t, "", "upgrade", "start", "v1.0.9", "--canary", "1", "--wait")
	if bad.code != 1 || !strings.Contains(bad.err, "v1.0.9 was rolled back in stage 1 of 2 (1): ") || !strings.Contains(bad.err, "started 3 times and never healthy") {
		t.Errorf("upgrade start of what crashes = %+v", bad)
	}
	starts, err := os.ReadFile(crashes + ".starts")
	if got := strings.Count(string(starts), "started"); err != nil || got != upgrade.MaxBoots {
		t.Errorf("what crashes was started %d times (%v), want %d: by one node only", got, err, upgrade.MaxBoots)
	}
	for _, p := range pis {
		h.awaitVersion(t, p.name, "v1.0.0")
	}
	h.reacts(t, all)

	// What a stranger has signed no node takes: it is told, and waits for an operator.
	file, err := newAgent()
	if err != nil {
		t.Fatal(err)
	}
	h.release(t, theirs, file, "v1.0.10")
	if got := h.hub.sedge(t, "", "upgrade", "start", "v1.0.10"); got.code != 0 {
		t.Fatalf("upgrade start: %+v", got)
	}
	await(t, "the nodes to refuse it", func() error {
		list, err := h.client.Upgrades(t.Context())
		if err == nil && !strings.Contains(list[0].Why, "no trusted key has signed it") {
			err = fmt.Errorf("it is %s: %s", list[0].State, list[0].Why)
		}
		return err
	})
	if got := h.hub.sedge(t, "", "upgrade", "abort", "2"); got.code != 0 || !strings.Contains(got.out, "aborted") {
		t.Errorf("upgrade abort = %+v", got)
	}

	// A good one reaches all, though the power of one fails while it comes.
	h.release(t, ours, file, "v1.1.0")
	good := make(chan told, 1)
	go func() { good <- h.hub.sedge(t, "", "upgrade", "start", "v1.1.0", "--canary", "1", "--wait") }() // awaited below
	h.cutPower(t, pis)
	if got := <-good; got.code != 0 || !strings.Contains(got.out, "v1.1.0: completed, stage 2 of 2 (all), 2 nodes") {
		t.Errorf("upgrade start of a good version = %+v", got)
	}
	for _, p := range pis {
		h.awaitVersion(t, p.name, "v1.1.0")
	}
	h.reacts(t, all)

	// Who is started again runs it, and asks nobody for that.
	h.proxy.Refuse()
	h.proxy.Cut()
	pis[0].cut()
	h.reacts(t, all)
	h.proxy.Heal()
	pis[0].cut() // one that has just been started dials at once
	h.awaitVersion(t, "pi-0", "v1.1.0")
	if audit := h.hub.sedge(t, "", "audit", "--object", "upgrade/3"); !strings.Contains(audit.out, "upgrade.complete") {
		t.Errorf("the audit says %+v", audit)
	}
}

// cutPower kills the agent of the node that an upgrade has reached, while the new version
// comes or is on trial.
func (h *home) cutPower(t *testing.T, pis []*watched) {
	t.Helper()
	var first string
	await(t, "the upgrade to reach a node", func() error {
		list, err := h.client.Upgrades(t.Context())
		if err == nil && (list[0].To != "v1.1.0" || len(list[0].Nodes) == 0) {
			err = errors.New("it has reached none")
		}
		if err == nil {
			first = list[0].Nodes[0]
		}
		return err
	})
	n, err := h.client.Node(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(pis, func(p *watched) bool { return p.name == n.Name })
	if i < 0 {
		t.Fatalf("the upgrade has reached %s first, which is none of those that were started", n.Name)
	}
	pis[i].cut()
}
