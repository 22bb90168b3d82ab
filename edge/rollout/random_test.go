package rollout

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// Random fleets, whose nodes come, go, restart, are held, cordoned and relabelled,
// and take what they are told when they like: every step keeps the rules of [Step],
// as the model below has them. SEDGE_TEST_ROLLOUTS=100+5000 plays 5,000 from seed 100 on.
func TestNoRandomFleetBreaksTheRules(t *testing.T) {
	first, n := uint64(1), uint64(200)
	if testing.Short() {
		n = 20
	}
	if _, err := fmt.Sscanf(os.Getenv("SEDGE_TEST_ROLLOUTS"), "%d+%d", &first, &n); err == nil {
		t.Logf("%d rollouts from seed %d on", n, first)
	}
	ends := map[string]int{}
	for seed := first; seed < first+n; seed++ {
		w := newWorld(t, seed)
		for over := 0; over < 10 && w.moves < 400; w.moves++ {
			w.live()
			w.step()
			if w.r.State.Over() {
				over++
			}
		}
		w.settle()
		ends[fmt.Sprintf("%s, a function that %s", w.r.State, w.kind)]++
	}
	for _, end := range slices.Sorted(maps.Keys(ends)) {
		t.Logf("%5d %s", ends[end], end)
	}
	if n >= 200 {
		for _, end := range []string{"completed, a function that works", "rolled back, a function that fails", "paused, a function that works"} {
			if ends[end] == 0 {
				t.Errorf("no rollout ended %s: the schedules show nothing of it", end)
			}
		}
	}
}

// A board is a node as it truly is.
type board struct {
	seen   Seen
	runs   int64 // of the new revision, that the hub has been told of, since it got it
	failed int64
	rate   int // events in a step, at most
}

type world struct {
	t      *testing.T
	seed   uint64
	rand   *rand.Rand
	kind   string // what the new revision does
	hands  bool   // operators are at work
	boards map[string]*board
	made   int // nodes
	moves  int
	now    time.Time
	r      edge.Rollout
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), boards: map[string]*board{}, now: noon}
	w.kind = []string{"works", "works", "fails", "fails at times"}[w.rand.IntN(4)]
	w.hands = w.chance(20)
	stages, err := Stages([]string{"1", "10%", "1,10%,50%", "all", "3", "25%,2"}[w.rand.IntN(6)])
	if err != nil {
		t.Fatal(err)
	}
	gate := edge.Gate{MinRuns: 1 + w.rand.IntN(20), MaxErrors: 0.01, MaxP95: 2, Bake: time.Duration(w.rand.IntN(10)) * time.Minute, Patience: time.Duration(1+w.rand.IntN(60)) * time.Minute}
	from := []functions.Revision{v1, v1, ""}[w.rand.IntN(3)]
	if w.r, err = Begin(edge.RolloutAsk{Stages: stages, Gate: &gate}, "f", from, v2, "ada", noon); err != nil {
		t.Fatal(err)
	}
	w.r.ID = int64(seed)
	for range w.rand.IntN(30) {
		w.join()
	}
	return w
}

func (w *world) chance(percent int) bool { return w.rand.IntN(100) < percent }

func (w *world) join() {
	w.made++
	n := Seen{ID: fmt.Sprintf("n%03d", w.made), Name: fmt.Sprintf("node-%d", w.made), Online: w.chance(80), Cordoned: w.chance(5)}
	if w.r.From != "" && w.chance(80) {
		n.Report = &edge.FunctionReport{Revision: v1, Phase: edge.Asleep, Runs: w.rand.Int64N(2000), P95: w.rand.Float64()}
		n.Report.Failed = n.Report.Runs / 1000
	}
	w.boards[n.ID] = &board{seen: n, rate: w.rand.IntN(4)}
}

// live lets a while pass: most of it uneventful.
func (w *world) live() {
	w.now = w.now.Add(time.Duration(w.rand.IntN(120)) * time.Second)
	told := Revisions(w.r)
	for _, id := range slices.Sorted(maps.Keys(w.boards)) {
		b := w.boards[id]
		switch n := &b.seen; w.rand.IntN(200) {
		case 0:
			delete(w.boards, id)
		case 1:
			n.Cordoned = !n.Cordoned
		case 2, 3:
			n.Online = !n.Online
		case 4:
			if n.Refusal = nil; w.chance(50) {
				n.Refusal = &edge.Refusal{Reason: edge.RefusedHeld}
			}
		case 5: // its agent restarts and counts anew
			if n.Report != nil {
				n.Report = &edge.FunctionReport{Revision: n.Report.Revision, Phase: edge.Asleep}
			}
		default:
			if n.Online {
				w.work(b, told(id))
			}
		}
	}
	if w.chance(2) {
		w.join()
	}
}

// work has a node do what it is told, and run on what is said.
func (w *world) work(b *board, told functions.Revision) {
	n := &b.seen
	if told != "" && !n.runs(told) {
		if !n.held() && w.chance(60) {
			n.Report = &edge.FunctionReport{Revision: told, Phase: edge.Asleep}
		}
		return
	}
	if n.Report == nil {
		return
	}
	report := *n.Report
	for range w.rand.IntN(b.rate + 1) {
		fails := report.Revision == v2 && (w.kind == "fails" || w.kind == "fails at times" && w.chance(30))
		report.Runs++
		if fails {
			report.Failed++
		}
		if report.Revision == v2 && slices.Contains(w.r.Nodes, n.ID) {
			b.runs++
			if fails {
				b.failed++
			}
		}
	}
	report.P95 = 0.1
	n.Report = &report
}

// order has an operator say something now and then.
func (w *world) order() {
	if !w.hands || !w.chance(3) {
		return
	}
	next, err := w.r, error(nil)
	switch w.rand.IntN(5) {
	case 0:
		next, err = Pause(w.r, "ada")
	case 1, 2:
		next, err = Resume(w.r, "ada", w.now)
	case 3:
		next, err = Promote(w.r, "ada", w.now)
	case 4:
		next, err = Abort(w.r, "ada", w.now)
	}
	if err == nil {
		w.r = next
	}
}

func (w *world) seen() []Seen {
	var all []Seen
	for _, b := range w.boards {
		all = append(all, b.seen)
	}
	return all // in no order
}

// step takes a step and checks it.
func (w *world) step() {
	w.t.Helper()
	w.order()
	was := w.r
	given := was
	given.Nodes, given.Seen = slices.Clone(was.Nodes), maps.Clone(was.Seen)
	w.r, _ = Step(was, w.seen(), w.now)
	if !reflect.DeepEqual(was, given) {
		w.fail("the step changed what it was given: %s, and was %s", text(was), text(given))
	}
	if again, _ := Step(was, w.seen(), w.now); !reflect.DeepEqual(again, w.r) {
		w.fail("two steps from the same differ: %s and %s", text(w.r), text(again))
	}
	if was.State.Over() {
		if !reflect.DeepEqual(was, w.r) {
			w.fail("one that was over has changed, from %s", text(was))
		}
		return
	}
	w.checkNodes(was)
	w.checkPassed(was)
	w.checkSums(was)
	switch waited := w.now.Sub(w.r.Since); {
	case w.r.State == edge.Rolling && waited >= max(w.r.Gate.Patience, w.r.Gate.Bake):
		w.fail("it waits for %v", waited)
	case w.r.State != edge.Completed && w.r.Why == "":
		w.fail("it is %s and does not say why", w.r.State)
	}
}

// checkNodes: nodes that are there keep the new revision, and those that come are no
// more than the stage says.
func (w *world) checkNodes(was edge.Rollout) {
	var kept []string
	for _, id := range was.Nodes {
		if w.boards[id] != nil {
			kept = append(kept, id)
		}
	}
	if len(w.r.Nodes) < len(kept) || !slices.Equal(w.r.Nodes[:len(kept)], kept) {
		w.fail("nodes %v, of which %v were there before", w.r.Nodes, kept)
	}
	could := len(w.r.Nodes)
	for id, b := range w.boards {
		if !b.seen.Cordoned && !slices.Contains(w.r.Nodes, id) {
			could++
		}
	}
	most := 0
	for _, s := range w.r.Stages[:w.r.Stage+1] {
		most = max(most, s.Count)
		for share := range could + 1 {
			if float64(share-1) < s.Percent*float64(could)/100-1e-6 {
				most = max(most, share)
			}
		}
	}
	if came := len(w.r.Nodes) - len(kept); came > 0 && len(w.r.Nodes) > most {
		w.fail("%d nodes came, which makes %d in stage %d of %v, with %d that could", came, len(w.r.Nodes), w.r.Stage+1, w.r.Stages, could)
	}
}

// checkPassed: no stage is passed but by what its nodes have truly shown.
func (w *world) checkPassed(was edge.Rollout) {
	passed := w.r.Stage > was.Stage || w.r.State == edge.Completed
	if !passed {
		return
	}
	if was.State != edge.Rolling {
		w.fail("one that was %s went on", was.State)
	}
	if w.kind == "fails" && len(w.r.Skipped) == 0 {
		w.fail("a function that always fails passed stage %d", was.Stage+1)
	}
	var runs, failed int64
	added, reached := 0, 0
	for id, seen := range was.Seen {
		b := w.boards[id]
		if b == nil || seen.Stage != was.Stage {
			continue
		}
		added, runs, failed = added+1, runs+b.runs, failed+b.failed
		if b.seen.Online && b.seen.runs(v2) {
			reached++
		} else if b.seen.Online && !b.seen.held() {
			w.fail("stage %d passed while %s ran something else", was.Stage+1, id)
		}
	}
	switch {
	case len(was.Nodes) == 0:
		w.fail("stage %d passed without nodes", was.Stage+1)
	case added > 0 && reached == 0:
		w.fail("stage %d passed while none of its %d nodes could be reached", was.Stage+1, added)
	case added > 0 && w.now.Sub(was.Since) < was.Gate.Bake:
		w.fail("stage %d passed after %v", was.Stage+1, w.now.Sub(was.Since))
	case added > 0 && runs < int64(was.Gate.MinRuns):
		w.fail("stage %d passed after %d runs of %d", was.Stage+1, runs, was.Gate.MinRuns)
	case float64(failed) > 0.05*float64(runs)+1: // counts that were lost to a restart between two reports leave room
		w.fail("stage %d passed with %d of %d runs failed", was.Stage+1, failed, runs)
	}
}

// checkSums: what was seen of a node does not go backward, nor past the truth.
func (w *world) checkSums(was edge.Rollout) {
	for id, seen := range w.r.Seen {
		before, now := total(was.Seen[id]), total(seen)
		if now.Runs < before.Runs || now.Failed < before.Failed {
			w.fail("%s: %+v seen, and %+v before", id, now, before)
		}
		if b := w.boards[id]; now.Runs > b.runs || now.Failed > b.failed {
			w.fail("%s: %+v seen of %d runs, %d failed", id, now, b.runs, b.failed)
		}
	}
}

// settle lets nothing more happen but time: it ends, or is paused and says why.
func (w *world) settle() {
	w.hands = false
	for range len(w.r.Stages) {
		w.now = w.now.Add(w.r.Gate.Patience + w.r.Gate.Bake)
		w.step()
	}
	if w.r.State == edge.Rolling {
		w.fail("it rolls for ever: %s", w.r.Why)
	}
	if w.kind == "fails" && w.r.State == edge.Completed && len(w.r.Skipped) == 0 {
		w.fail("a function that always fails is everywhere")
	}
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d: %s\n%s", w.seed, fmt.Sprintf(format, args...), text(w.r))
}

func text(r edge.Rollout) string {
	data, err := json.Marshal(r)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// Where nothing is wrong and events come, every rollout is completed.
func TestAGoodRevisionOnAQuietFleetIsAlwaysCompleted(t *testing.T) {
	for seed := range uint64(100) {
		w := newWorld(t, seed)
		w.kind, w.hands, w.r.Gate.Patience = "works", false, MaxPatience
		w.join()
		for _, b := range w.boards {
			b.seen.Online, b.seen.Cordoned, b.rate = true, false, 3
		}
		for range 200 {
			w.now = w.now.Add(time.Minute)
			told := Revisions(w.r)
			for _, id := range slices.Sorted(maps.Keys(w.boards)) {
				w.work(w.boards[id], told(id))
			}
			w.step()
		}
		if w.r.State != edge.Completed {
			w.fail("after 200 minutes it is %s", w.r.State)
		}
	}
}
