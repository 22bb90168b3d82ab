package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/client"
	"github.com/sedge-iot/sedge/functions"
)

var (
	fleetNodes = flag.Int("nodes", 6, "how many nodes a fleet has that is cut, killed and changed")
	storms     = flag.Int("storms", 1, "how often everything goes wrong with it")
)

// comeback is how long a fleet may take to be whole again: a node whose session was
// short dials again within two minutes, and leaves a half-open link after 75 seconds.
const comeback = 4 * time.Minute

// A plan is what an operator wants of a home: which the hub must hold in the end.
type plan struct {
	home      *home
	random    *rand.Rand
	versions  map[string]int    // function → version; it is there
	places    map[string]string // function → group, "" for all
	groups    map[string]string // node → group
	revisions map[string]functions.Revision
	version   int
}

func newPlan(h *home, random *rand.Rand) *plan {
	p := &plan{home: h, random: random, versions: map[string]int{}, places: map[string]string{}, groups: map[string]string{}, revisions: map[string]functions.Revision{}}
	for i, one := range h.pis {
		p.groups[one.name] = group(i)
	}
	return p
}

func group(i int) string { return []string{"a", "b", "c"}[i%3] }

// change changes something, and says it again until the hub has acknowledged it.
func (p *plan) change(ctx context.Context) error {
	name := fmt.Sprintf("reflex-%d", p.random.IntN(5))
	switch dice := p.random.IntN(10); {
	case dice < 6:
		p.version++
		return p.deploy(ctx, name, p.version, []string{"", "a", "b", "c"}[p.random.IntN(4)])
	case dice < 8:
		delete(p.versions, name)
		return p.persist(ctx, func(ctx context.Context) error {
			_, err := p.home.client.Delete(ctx, name, client.DeleteOptions{Confirmed: true})
			if e, ok := errors.AsType[*edge.Error](err); ok && e.Code == edge.NotFound {
				return nil
			}
			return err
		})
	}
	node, to := p.home.pis[p.random.IntN(len(p.home.pis))].name, group(p.random.IntN(3))
	p.groups[node] = to
	return p.persist(ctx, func(ctx context.Context) error {
		_, err := p.home.client.Label(ctx, node, map[string]*string{"group": &to}, true)
		return err
	})
}

func (p *plan) deploy(ctx context.Context, name string, version int, place string) error {
	placement := ""
	if place != "" {
		placement = "group: " + place
	}
	f, err := function(reflex(name, version, placement))
	if err != nil {
		return err
	}
	p.versions[name], p.places[name], p.revisions[name] = version, place, f.Revision
	return p.persist(ctx, func(ctx context.Context) error {
		_, err := p.home.client.Deploy(ctx, f, client.DeployOptions{Confirmed: true})
		return err
	})
}

// persist asks again as long as the hub is away. What the hub refuses is an error.
func (p *plan) persist(ctx context.Context, ask func(context.Context) error) error {
	for {
		once, stop := context.WithTimeout(ctx, 20*time.Second)
		err := ask(once)
		stop()
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if e, ok := errors.AsType[*edge.Error](err); ok && !slices.Contains([]edge.Code{edge.Unavailable, edge.Timeout}, e.Code) {
			return err
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// wants returns the functions that each node is to have, by version and by revision.
func (p *plan) wants() (versions map[string]map[string]int, revisions map[string]map[string]functions.Revision) {
	versions, revisions = map[string]map[string]int{}, map[string]map[string]functions.Revision{}
	for node, group := range p.groups {
		versions[node], revisions[node] = map[string]int{}, map[string]functions.Revision{}
		for name, version := range p.versions {
			if place := p.places[name]; place == "" || place == group {
				versions[node][name], revisions[node][name] = version, p.revisions[name]
			}
		}
	}
	return versions, revisions
}

// holds checks that the hub holds what the operator wants and no more.
func (p *plan) holds(t *testing.T) {
	t.Helper()
	all, err := p.home.client.Functions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, want := map[string]functions.Revision{}, map[string]functions.Revision{}
	for _, f := range all {
		d, err := p.home.client.Function(t.Context(), f.Name)
		if err != nil {
			t.Fatal(err)
		}
		got[f.Name] = d.Function.Revision
	}
	for name := range p.versions {
		want[name] = p.revisions[name]
	}
	if !maps.Equal(got, want) {
		t.Errorf("the hub holds %v, want %v", got, want)
	}
}

// storm has everything go wrong once, in an order that is as it comes, and leaves all up
// and connected, or about to be.
func (h *home) storm(t *testing.T, random *rand.Rand, quiet time.Duration) {
	t.Helper()
	moment := func() { pause(t.Context(), time.Duration(random.Int64N(int64(300*time.Millisecond)))) }
	wrongs := []func(){
		func() { // cut off
			h.proxy.Refuse()
			h.proxy.Cut()
			moment()
			h.proxy.Heal()
		},
		func() { // half-open
			h.proxy.Silence()
			pause(t.Context(), quiet)
			h.proxy.Heal()
		},
		func() {
			h.hub.kill(t)
			moment()
			h.hub.start(t)
		},
		func() {
			for range 1 + len(h.pis)/4 {
				h.restart(t, h.pis[random.IntN(len(h.pis))])
				moment()
			}
		},
		func() { // one way only
			h.proxy.Silence(0)
			moment()
			h.proxy.Cut()
			h.proxy.Heal()
		},
	}
	random.Shuffle(len(wrongs), func(i, j int) { wrongs[i], wrongs[j] = wrongs[j], wrongs[i] })
	for _, wrong := range wrongs {
		wrong()
		moment()
	}
}

func TestFleetConvergesThroughCutsAndKills(t *testing.T) {
	t.Parallel() // most of it waits
	random := chance(t)
	h := newHome(t, *fleetNodes, func(i int) string { return "group=" + group(i) })
	p := newPlan(h, rand.New(rand.NewPCG(random.Uint64(), 0)))
	for i := range 3 {
		p.version++
		if err := p.deploy(t.Context(), fmt.Sprintf("reflex-%d", i), p.version, []string{"", "a", "b"}[i]); err != nil {
			t.Fatal(err)
		}
	}
	for i := range *storms {
		quiet := time.Second
		if i%5 == 1 {
			quiet = 3 * edge.BeatTime // until both ends have left the link
		}
		h.changed(t, p, func() { h.storm(t, random, quiet) })
		if i%5 == 4 || i == *storms-1 {
			versions, revisions := p.wants()
			p.holds(t)
			h.has(t, revisions)
			h.reacts(t, versions)
		}
	}
	h.alone(t, p)
}

// changed has the operator change things for as long as during takes, and not so fast that the
// hub no longer knows what a node that was away has lost on purpose.
func (h *home) changed(t *testing.T, p *plan, during func()) {
	t.Helper()
	over, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	var err error
	wg.Go(func() {
		for over.Err() == nil && err == nil {
			err = p.change(t.Context())
			pause(over, 100*time.Millisecond)
		}
	})
	during()
	stop()
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
}

// alone takes the hub away for ever and restarts every node: all react as before.
func (h *home) alone(t *testing.T, p *plan) {
	t.Helper()
	versions, _ := p.wants()
	h.hub.kill(t)
	for _, one := range h.pis {
		h.restart(t, one)
	}
	h.reacts(t, versions)
}
