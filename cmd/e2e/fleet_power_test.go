package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/functions"
)

var powercuts = flag.Int("powercuts", 10, "how often power dies while a version of a function comes or goes")

// A trial is a function of which versions come that work and that do not, while power
// dies.
type trial struct {
	*home
	random   *rand.Rand
	pi       *pi
	cuts     int
	version  int                // the last that was deployed
	runs     int                // the version that works
	revision functions.Revision // of it
}

func TestFleetABadVersionGoesBackThoughPowerDies(t *testing.T) {
	t.Parallel() // most of it waits
	random := chance(t)
	tr := &trial{home: newHome(t, 1, func(int) string { return "" }), random: random, version: 1, runs: 1}
	tr.pi = tr.pis[0]
	first, err := tr.put(t.Context(), allowed(reflex("lamp", 1, "")), client.DeployOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tr.revision = first.Revision
	tr.runsEverywhere(t, "lamp", 1, tr.revision)
	tr.poked(t)
	for tr.cuts < *powercuts {
		tr.round(t)
	}
}

// round deploys another version, good or bad, cuts the power of hub or node meanwhile,
// and waits until what comes of that is clear, and right.
func (tr *trial) round(t *testing.T) {
	t.Helper()
	tr.version++
	bad := tr.random.IntN(3) > 0
	manifest := allowed(reflex("lamp", tr.version, ""))
	if bad {
		manifest = allowed(faulty("lamp", tr.version))
	}
	f, err := function(manifest)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var deployed error
	wg.Go(func() { deployed = tr.deploy(t.Context(), f) })
	tr.cut(t)
	wg.Wait()
	var recorded bool
	since := time.Now()
	await(t, fmt.Sprintf("version %d, which is bad: %v, to come or to go", tr.version, bad), func() error {
		if err := tr.sane(t, f.Revision); err != nil {
			return err
		}
		all, err := tr.client.Rollouts(t.Context(), "lamp", 0)
		if err != nil {
			return err
		}
		recorded = len(all) > 0 && all[0].To == f.Revision
		switch {
		case !recorded && deployed == nil:
			t.Fatalf("version %d was acknowledged and is not there", tr.version)
		case recorded && !all[0].State.Over():
			return fmt.Errorf("the rollout is %s: %s", all[0].State, all[0].Why)
		case recorded && (all[0].State == edge.Completed) == bad:
			t.Fatalf("version %d, which is bad: %v, was %s: %s", tr.version, bad, all[0].State, all[0].Why)
		}
		return nil
	})
	if recorded && !bad {
		tr.runs, tr.revision = tr.version, f.Revision
	}
	tr.settles(t)
	t.Logf("version %d, bad: %v, recorded: %v, right after %v", tr.version, bad, recorded, time.Since(since).Round(time.Millisecond))
}

// deploy deploys with a rollout that a few real events decide.
func (tr *trial) deploy(ctx context.Context, f functions.Function) error {
	ctx, stop := context.WithTimeout(ctx, 15*time.Second)
	defer stop()
	gate := edge.Gate{MinRuns: 4, MaxErrors: 0.1, Bake: time.Millisecond, Patience: time.Hour}
	_, err := tr.client.Deploy(ctx, f, client.DeployOptions{Rollout: &edge.RolloutAsk{Stages: []edge.Stage{{Percent: 100}}, Gate: &gate}})
	return err
}

// cut cuts the power of the hub, or of the node, or of both, some time on the way of a
// version from deploy to rollback. A node that has lost its hub is cut too, so that
// it dials at once.
func (tr *trial) cut(t *testing.T) {
	t.Helper()
	moment := func(most time.Duration) { pause(t.Context(), time.Duration(tr.random.Int64N(int64(most)))) }
	moment(3 * time.Second)
	if tr.random.IntN(2) == 0 {
		tr.hub.kill(t)
		tr.cuts++
		moment(time.Second)
		tr.revive(t)
		moment(time.Second)
	}
	tr.restart(t, tr.pi)
	tr.cuts++
}

// sane returns an error while the node cannot be asked, and fails the test if it has
// neither the version that works nor the new one.
func (tr *trial) sane(t *testing.T, next functions.Revision) error {
	t.Helper()
	all, err := tr.client.On(tr.pi.name).Functions(t.Context())
	if err != nil {
		return err
	}
	if len(all) != 1 || !slices.Contains([]functions.Revision{tr.revision, next}, all[0].Revision) {
		t.Fatalf("the node has %+v, want lamp at %s or %s", all, tr.revision, next)
	}
	return nil
}

// settles waits until the node has, and events are answered by, the version that works.
func (tr *trial) settles(t *testing.T) {
	t.Helper()
	await(t, fmt.Sprintf("version %d to run", tr.runs), func() error {
		all, err := tr.client.On(tr.pi.name).Functions(t.Context())
		if err != nil || len(all) != 1 || all[0].Revision != tr.revision {
			return errors.Join(err, fmt.Errorf("the node has %+v", all))
		}
		return nil
	})
	tr.reacts(t, map[string]map[string]int{tr.pi.name: {"lamp": tr.runs}})
}
