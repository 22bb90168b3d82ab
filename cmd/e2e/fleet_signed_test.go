package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
)

// A signer is an operator with minisign and a key.
type signer struct{ dir, public string }

func newSigner(t *testing.T) signer {
	t.Helper()
	s := signer{dir: t.TempDir()}
	s.public = filepath.Join(s.dir, "operator.pub")
	s.minisign(t, "-G", "-W", "-p", s.public)
	return s
}

func (s signer) minisign(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command("minisign", append(args, "-s", filepath.Join(s.dir, "operator.key"))...).CombinedOutput()
	if err != nil {
		t.Fatalf("minisign %v: %v\n%s", args, err, out)
	}
}

// sign signs the function of a manifest as sedge digest --help says, and returns the
// signature's file.
func (s signer) sign(t *testing.T, h *home, manifest string) string {
	t.Helper()
	digest := h.hub.sedge(t, manifest, "digest", "-f", "-")
	if digest.code != 0 {
		t.Fatalf("digest: %+v", digest)
	}
	file, err := os.CreateTemp(s.dir, "*.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString(digest.out); err != nil {
		t.Fatal(err)
	}
	s.minisign(t, "-S", "-m", file.Name())
	return file.Name() + ".minisig"
}

// demand has a node's owner demand signatures of that operator's from now on.
func (h *home) demand(t *testing.T, p *pi, s signer) {
	t.Helper()
	p.kill(t)
	p.args = append(p.args, "--operator-keys", s.public)
	p.start(t)
	h.awaitConnected(t, p.name)
}

func TestFleetANodeRunsOnlyWhatItsOperatorHasSigned(t *testing.T) {
	h := newHome(t, 1, func(int) string { return "" })
	p, ours, theirs := h.pis[0], newSigner(t), newSigner(t)
	h.demand(t, p, ours)
	one, two := reflex("lamp", 1, ""), reflex("lamp", 2, "")
	runs := func(version int) {
		t.Helper()
		h.reacts(t, map[string]map[string]int{p.name: {"lamp": version}})
	}
	deploy := func(manifest, signature string) told {
		t.Helper()
		args := []string{"deploy", "-f", "-"}
		if signature != "" {
			args = append(args, "--signature", signature)
		}
		return h.hub.sedge(t, manifest, args...)
	}
	refused := func(manifest, signature, why string) {
		t.Helper()
		got := deploy(manifest, signature)
		if got.code != 6 || !strings.Contains(got.err, why) || !strings.Contains(got.err, "hint: ") || !strings.Contains(got.err, "sedge digest") {
			t.Errorf("deploy --signature %q = %+v, want it refused with %q and what to do", signature, got, why)
		}
	}
	taken := func(manifest, signature string) {
		t.Helper()
		if got := deploy(manifest, signature); got.code != 0 {
			t.Fatalf("deploy --signature %q = %+v", signature, got)
		}
	}

	first := ours.sign(t, h, one)
	taken(one, first)
	runs(1)
	refused(two, "", "no operator has signed it")
	refused(two, theirs.sign(t, h, two), "which this node does not trust")
	refused(two, first, "another revision")
	runs(1)

	// While the node is away nobody can ask it: the hub takes what is unsigned, as one in
	// wrong hands would, and the node does not.
	p.kill(t)
	await(t, "the node to be away", func() error {
		n, err := h.client.Node(t.Context(), p.name)
		if err == nil && n.Connected {
			err = fmt.Errorf("%s is connected", n.Name)
		}
		return err
	})
	taken(two, theirs.sign(t, h, two))
	p.start(t)
	await(t, "the node to refuse it", func() error {
		n, err := h.client.Node(t.Context(), p.name)
		if err == nil && (n.Refusal == nil || n.Refusal.Reason != edge.RefusedUnsigned || !strings.Contains(n.Refusal.Why, "does not trust")) {
			err = fmt.Errorf("it refuses %+v", n.Refusal)
		}
		return err
	})
	runs(1)
	taken(two, ours.sign(t, h, two))
	runs(2)

	// What was signed once goes on being so: a rollback needs no new signature, nor does
	// a deploy of what the hub has.
	if back := h.hub.sedge(t, "", "rollback", "lamp"); back.code != 0 {
		t.Fatalf("rollback: %+v", back)
	}
	runs(1)
	if _, err := h.put(t.Context(), two, client.DeployOptions{}); err != nil {
		t.Fatal(err)
	}
	runs(2)
}
