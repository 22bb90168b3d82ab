package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices/mqtttest"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

// copied copies a folder, as a backup does, or who copies a card.
func copied(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(from))
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil { // the rights of the keys too
		t.Fatalf("copy %s: %v\n%s", from, err, out)
	}
	return to
}

func TestFleetAHubFromAnOldBackupUndoesNothingUntilAnOperatorSaysSo(t *testing.T) {
	h := newHome(t, 2, func(int) string { return "" })
	first, err := h.put(t.Context(), reflex("lamp", 1, ""), client.DeployOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.runsEverywhere(t, "lamp", 1, first.Revision)
	h.hub.stop(t)
	backup := copied(t, h.hub.dir)
	h.revive(t)
	for _, p := range h.pis {
		h.restart(t, p)
		h.awaitConnected(t, p.name)
	}
	second, err := h.put(t.Context(), reflex("lamp", 2, ""), client.DeployOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.runsEverywhere(t, "lamp", 2, second.Revision)

	h.hub.stop(t)
	if err := errors.Join(os.RemoveAll(h.hub.dir), os.Rename(backup, h.hub.dir)); err != nil {
		t.Fatal(err)
	}
	h.revive(t)
	for _, p := range h.pis {
		h.restart(t, p) // then it dials at once
	}
	await(t, "both nodes to refuse", func() error {
		list := h.hub.sedge(t, "", "node", "list", "-o", "wide")
		if n := strings.Count(list.out, "refuses"); n != len(h.pis) || strings.Count(list.out, "sedge node accept-epoch") != n {
			return fmt.Errorf("%d of them refuse: %+v", n, list)
		}
		return nil
	})
	refused := h.hub.sedge(t, reflex("lamp", 3, ""), "deploy", "-f", "-")
	if refused.code != 1 || !strings.Contains(refused.err, "restored from an old backup") || !strings.Contains(refused.err, "sedge node accept-epoch") {
		t.Errorf("deploy ends with %+v, want exit code 1, the reason and what to do", refused)
	}
	versions, _ := h.everywhere("lamp", 2, "")
	h.reacts(t, versions)

	if asked := h.hub.sedge(t, "n\n", "node", "accept-epoch"); asked.code != 1 || !strings.Contains(asked.err, "Nothing was done") {
		t.Errorf("accept-epoch that is not confirmed ends with %+v, want exit code 1", asked)
	}
	h.reacts(t, versions)
	if accepted := h.hub.sedge(t, "y\n", "node", "accept-epoch"); accepted.code != 0 {
		t.Fatalf("accept-epoch ends with %+v", accepted)
	}
	h.runsEverywhere(t, "lamp", 1, first.Revision)
	third, err := h.put(t.Context(), reflex("lamp", 3, ""), client.DeployOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.runsEverywhere(t, "lamp", 3, third.Revision)
}

func TestFleetACopiedCardIsFencedAndApprovalMendsIt(t *testing.T) {
	h := newHome(t, 2, func(int) string { return "" })
	first, err := h.put(t.Context(), reflex("lamp", 1, ""), client.DeployOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.runsEverywhere(t, "lamp", 1, first.Revision)
	original := h.pis[0]
	original.kill(t)
	clone := &pi{name: original.name, dir: copied(t, original.dir), broker: mqtttest.Start(t, mqtttest.Options{})} // in another house
	original.start(t)
	h.awaitConnected(t, original.name)
	h.run(t, clone)
	awaitFor(t, 30*time.Second, "the node to be fenced", func() error {
		if n, err := h.client.Node(t.Context(), original.name); err != nil || n.Standing != edge.Fenced || n.Connected {
			return errors.Join(err, fmt.Errorf("it is %s, connected: %v", n.Standing, n.Connected))
		}
		return nil
	})
	shown := h.hub.sedge(t, "", "node", "describe", original.name)
	if shown.code != 0 || !strings.Contains(shown.out, "two machines have its key: one dialled for the ") || strings.Count(shown.out, " time from 127.0.0.1") != 2 {
		t.Errorf("node describe says %+v, want it to name both machines", shown)
	}

	// What is new reaches neither; what they have runs on.
	second, err := h.put(t.Context(), reflex("lamp", 2, ""), client.DeployOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.reacts(t, map[string]map[string]int{original.name: {"lamp": 1}, h.pis[1].name: {"lamp": 2}})

	clone.kill(t)
	if approved := h.hub.sedge(t, "", "node", "approve", original.name); approved.code != 0 {
		t.Fatalf("node approve: %+v", approved)
	}
	h.restart(t, original)
	h.runsEverywhere(t, "lamp", 2, second.Revision)
}

func TestFleetARevokedNodeIsOutAtOnceAndRunsOnWhatItHad(t *testing.T) {
	h := newHome(t, 2, func(int) string { return "" })
	first, err := h.put(t.Context(), reflex("lamp", 1, ""), client.DeployOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.runsEverywhere(t, "lamp", 1, first.Revision)
	stolen, kept := h.pis[0], h.pis[1]
	if revoked := h.hub.sedge(t, "", "node", "revoke", "-y", stolen.name); revoked.code != 0 {
		t.Fatalf("node revoke: %+v", revoked)
	}
	awaitFor(t, 5*time.Second, "the node to be out", func() error {
		if n, err := h.client.Node(t.Context(), stolen.name); err != nil || n.Standing != edge.Revoked || n.Connected {
			return errors.Join(err, fmt.Errorf("it is %s, connected: %v", n.Standing, n.Connected))
		}
		return nil
	})
	if _, err := h.put(t.Context(), reflex("lamp", 2, ""), client.DeployOptions{}); err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]int{stolen.name: {"lamp": 1}, kept.name: {"lamp": 2}}
	h.reacts(t, want)
	h.restart(t, stolen)
	await(t, "the hub to turn it away", func() error {
		audit := h.hub.sedge(t, "", "audit", "--object", "node/"+nodeID(t, h, stolen))
		if !strings.Contains(audit.out, "join.refused") {
			return fmt.Errorf("the audit says %+v", audit)
		}
		return nil
	})
	h.reacts(t, want)
	if asked := h.hub.sedge(t, "", "invoke", "lamp", "--node", stolen.name); asked.code == 0 {
		t.Errorf("a revoked node is asked: %+v", asked)
	}
}

func nodeID(t *testing.T, h *home, p *pi) string {
	t.Helper()
	n, err := h.client.Node(t.Context(), p.name)
	if err != nil {
		t.Fatal(err)
	}
	return n.ID
}
