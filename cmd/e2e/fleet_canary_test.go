package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/functions"
)

// faulty is a version of a reflex that loads, and fails on each real event; on which
// node it ran is told by the alarm that it sounds before.
func faulty(name string, version int) string {
	return strings.Replace(reflex(name, version, ""), "        return", `        sedge.publish("alarm", "", {now: true});
        throw new Error("no good on real events");
        return`, 1)
}

// allowed gives a manifest the permission that faulty needs, so that two versions differ
// in nothing else.
func allowed(manifest string) string {
	return strings.Replace(manifest, "spec:\n", "spec:\n  permissions: {publish: [alarm, out/+]}\n  delivery: {retry: {attempts: 1}}\n", 1)
}

// poked has every node poked again and again until the returned function is called.
func (h *home) poked(t *testing.T) (end func()) {
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			h.poke()
			pause(ctx, 100*time.Millisecond)
		}
	})
	end = sync.OnceFunc(func() { stop(); wg.Wait() })
	t.Cleanup(end)
	return end
}

// everywhere returns what h.reacts and h.has want of one function on every node.
func (h *home) everywhere(name string, version int, revision functions.Revision) (map[string]map[string]int, map[string]map[string]functions.Revision) {
	versions, revisions := map[string]map[string]int{}, map[string]map[string]functions.Revision{}
	for _, p := range h.pis {
		versions[p.name] = map[string]int{name: version}
		revisions[p.name] = map[string]functions.Revision{name: revision}
	}
	return versions, revisions
}

// runsEverywhere waits until every node runs one version of one function.
func (h *home) runsEverywhere(t *testing.T, name string, version int, revision functions.Revision) {
	t.Helper()
	versions, revisions := h.everywhere(name, version, revision)
	h.has(t, revisions)
	h.reacts(t, versions)
}

func (h *home) rollout(t *testing.T, name string) edge.Rollout {
	t.Helper()
	all, err := h.client.Rollouts(t.Context(), name, 0)
	if err != nil || len(all) == 0 {
		t.Fatalf("rollouts of %s: %v, %v", name, all, err)
	}
	return all[0]
}

func TestFleetACanaryThatFailsOnRealEventsGoesBackAndOneThatWorksReachesAll(t *testing.T) {
	t.Parallel() // most of it waits
	h := newHome(t, 4, func(int) string { return "" })
	first, err := h.put(t.Context(), allowed(reflex("lamp", 1, "")), client.DeployOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h.runsEverywhere(t, "lamp", 1, first.Revision)

	end := h.poked(t)
	stages := []string{"deploy", "-f", "-", "--canary", "1", "--bake", "1s", "--min-runs", "4", "--wait"}
	bad := h.hub.sedge(t, allowed(faulty("lamp", 2)), stages...)
	if bad.code != 1 || !strings.Contains(bad.err, "lamp was rolled back in stage 1 of 2 (1): ") || !strings.Contains(bad.err, "no good on real events") {
		t.Errorf("deploy of what fails ends with %+v, want exit code 1 and why it went back", bad)
	}
	if r := h.rollout(t, "lamp"); r.State != edge.RolledBack || r.Stage != 0 || len(r.Nodes) != 1 {
		t.Errorf("the rollout is %s at stage %d with %d nodes, want it rolled back at the first with one", r.State, r.Stage, len(r.Nodes))
	}
	end()
	h.runsEverywhere(t, "lamp", 1, first.Revision)
	if had := h.ears.alarmed(); len(had) != 1 {
		t.Errorf("%v ran what fails, want one node", slices.Sorted(maps.Keys(had)))
	}

	end = h.poked(t)
	good := h.hub.sedge(t, allowed(reflex("lamp", 3, "")), stages...)
	if good.code != 0 || !strings.Contains(good.out, "lamp: completed") {
		t.Errorf("deploy of what works ends with %+v, want exit code 0 and completed", good)
	}
	end()
	h.runsEverywhere(t, "lamp", 3, h.rollout(t, "lamp").To)
	if had := h.ears.alarmed(); len(had) != 1 {
		t.Errorf("%v ran what fails, want one node", slices.Sorted(maps.Keys(had)))
	}
}

// A stage whose only node is away can be neither passed nor failed.
func TestFleetACanaryOnANodeThatIsAwayWaitsAndPauses(t *testing.T) {
	t.Parallel() // most of it waits
	h := newHome(t, 2, func(i int) string { return "group=" + group(i) })
	away := h.pis[0]
	first, err := h.put(t.Context(), reflex("lamp", 1, "group: a"), client.DeployOptions{})
	if err != nil {
		t.Fatal(err)
	}
	away.kill(t)
	await(t, "the node to be away", func() error {
		n, err := h.client.Node(t.Context(), away.name)
		if err == nil && n.Connected {
			err = fmt.Errorf("%s is connected", away.name)
		}
		return err
	})
	gate := edge.Gate{MinRuns: 1, MaxErrors: 0.1, Bake: time.Millisecond, Patience: 3 * time.Second}
	second, err := h.put(t.Context(), reflex("lamp", 2, "group: a"), client.DeployOptions{Rollout: &edge.RolloutAsk{Stages: []edge.Stage{{Count: 1}, {Percent: 100}}, Gate: &gate}})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the rollout to pause", func() error {
		r := h.rollout(t, "lamp")
		if r.Stage != 0 || r.State.Over() {
			t.Fatalf("the rollout is %s at stage %d though nobody has run it", r.State, r.Stage)
		}
		if r.State != edge.Halted {
			return fmt.Errorf("it is %s: %s", r.State, r.Why)
		}
		return nil
	})
	if r := h.rollout(t, "lamp"); !strings.Contains(r.Why, "can be reached") {
		t.Errorf("it is paused because %q, want it to say that the node cannot be reached", r.Why)
	}

	// Back, and with the rollout resumed, the node runs it, and it completes.
	away.start(t)
	h.awaitConnected(t, away.name)
	end := h.poked(t)
	defer end()
	if resumed := h.hub.sedge(t, "", "rollout", "resume", "lamp"); resumed.code != 0 {
		t.Fatalf("resume: %+v", resumed)
	}
	await(t, "the rollout to complete", func() error {
		if r := h.rollout(t, "lamp"); r.State != edge.Completed {
			return fmt.Errorf("it is %s: %s", r.State, r.Why)
		}
		return nil
	})
	if first.Revision == second.Revision {
		t.Error("both versions have one revision")
	}
	d, err := h.client.On(away.name).Function(t.Context(), "lamp")
	if err != nil || d.Status.Revision != second.Revision {
		t.Errorf("%s runs %v, %v, want the new revision", away.name, d.Status.Revision, err)
	}
}
