package member_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aead.dev/minisign"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/member"
	"github.com/sedge-iot/sedge/functions"
)

func TestANodeFollowsItsHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		a, b := ref(t, "a", "echo 1"), ref(t, "b", "echo 1")
		h.wants(1, a, b)
		n := startNode(t, h)
		n.wantRuns(a, b)
		n.bus.say("in", "x")
		synctest.Wait()
		if got, want := n.bus.published(), []string{"out=x", "out=x"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
		pass(3 * time.Second)
		a2 := ref(t, "a", "echo 2")
		h.wants(2, a2)
		synctest.Wait()
		n.wantRuns(a2)
		if s := n.Status(); !s.Connected || s.At.Revision != 2 || s.Goal != s.At || s.Refusal != "" {
			t.Errorf("status %+v, want to be at 2", s)
		}
		ats := get(h, &h.ats)
		if last := ats[len(ats)-1]; last.At.Revision != 2 || last.At.Digest != edge.Digest([]edge.Ref{a2}) {
			t.Errorf("the node says %+v, want to be at 2", last)
		}
		pass(3 * time.Second)
		var a3 edge.FunctionReport
		var gone []string
		for _, r := range get(h, &h.reports) {
			gone = append(gone, r.Gone...)
			for _, f := range r.Functions {
				if f.Name == "a" {
					a3 = f
				}
			}
		}
		if a3.Revision != a2.Revision || !slices.Equal(gone, []string{"b"}) {
			t.Errorf("reported a as %+v, %q gone; want it as of its second revision, and b gone", a3, gone)
		}
	})
}

func TestWhatCannotRunIsToldAndTheOldOneRunsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		a, b := ref(t, "a", "echo 1"), ref(t, "b", "echo 1")
		h.wants(1, a)
		n := startNode(t, h)
		h.wants(2, ref(t, "a", "none"), b)
		synctest.Wait()
		n.wantRuns(a, b)
		ats := get(h, &h.ats)
		if last := ats[len(ats)-1]; last.At.Revision != 2 || len(last.Unfit) != 1 || last.Unfit[0].Name != "a" {
			t.Errorf("the node says %+v, want that a is unfit", last)
		}
	})
}

func TestALargeFunctionIsFetchedInPiecesAndGoneOnWithAfterACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		big := ref(t, "big", "echo "+strings.Repeat("x", 10*edge.ChunkSize))
		h.cutAt = 4 * edge.ChunkSize
		h.wants(1, big)
		n := startNode(t, h)
		pass(30 * time.Second) // the link is cut, and comes back
		n.wantRuns(big)
		var offsets []int
		for _, f := range get(h, &h.fetched) {
			offsets = append(offsets, f.Offset/edge.ChunkSize)
		}
		if want := []int{0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 10}; !slices.Equal(offsets, want) {
			t.Errorf("fetched from chunks %v, want %v", offsets, want)
		}
	})
}

func TestFunctionsAreFetchedNoFasterThanTheOwnerWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		big := ref(t, "big", "echo "+strings.Repeat("x", 20*edge.ChunkSize))
		h.wants(1, big)
		n := startNode(t, h, func(c *member.Config) { c.Rate = 64 << 10 })
		pass(8 * time.Second)
		n.wantRuns()
		pass(10 * time.Second)
		n.wantRuns(big)
	})
}

func TestANodeWithoutItsHubForHoursRunsOnAndTellsWhatHappened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		a := ref(t, "a", "echo 1")
		h.wants(1, a)
		n := startNode(t, h)
		h.cut()
		pass(time.Hour)
		for range 5 {
			n.bus.say("in", "x")
		}
		synctest.Wait()
		if c := n.Check(); !c.OK || !strings.Contains(c.Why, "hub away since") || !strings.Contains(c.Why, "unreachable") {
			t.Errorf("check %+v, want it ready, and the hub away", c)
		}
		// It ends and starts again, as in a power cut, and runs the same.
		n = n.restart(h)
		n.wantRuns(a)
		pass(2 * time.Hour)
		n.bus.say("in", "y")
		synctest.Wait()
		if got, want := n.bus.published(), []string{"out=y"}; !slices.Equal(got, want) {
			t.Errorf("published %q, want %q", got, want)
		}
		b := ref(t, "b", "echo 1")
		h.wants(7, a, b)
		said := len(get(h, &h.reports))
		h.down.Store(false)
		pass(3 * time.Minute)
		n.wantRuns(a, b)
		first := get(h, &h.reports)[said]
		if w := first.Away; w == nil || w.Runs != 6 || w.Boots != 1 || time.Since(w.Since) < 3*time.Hour {
			t.Errorf("the first report tells of %+v, want 6 runs and 1 start in 3 hours", first.Away)
		}
		if s := n.Status(); !s.Connected || s.At.Revision != 7 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestANodeThatIsRevokedRunsOnAndGetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		a := ref(t, "a", "echo 1")
		h.wants(1, a)
		n := startNode(t, h)
		h.mu.Lock()
		h.verdict = edge.Verdict{Code: edge.Forbidden, Message: "it was revoked"}
		h.mu.Unlock()
		h.cut()
		h.down.Store(false)
		h.wants(2)
		pass(time.Hour)
		n.wantRuns(a)
		if s := n.Status(); s.Connected || !strings.Contains(s.Error, "it was revoked") {
			t.Errorf("status %+v, want why it is away", s)
		}
		counters := map[int64]bool{}
		for _, p := range get(h, &h.proofs) {
			if counters[p.Counter] {
				t.Errorf("number %d was used for two dials", p.Counter)
			}
			counters[p.Counter] = true
		}
	})
}

func TestTheOwnerCanHoldTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it begins at midnight
		h := newHub(t)
		a, b := ref(t, "a", "echo 1"), ref(t, "b", "echo 1")
		h.wants(1, a)
		at := time.Now()
		w, err := member.ParseWindow(at.Add(time.Hour).Format("15:04") + "-" + at.Add(2*time.Hour).Format("15:04"))
		if err != nil {
			t.Fatal(err)
		}
		n := startNode(t, h, func(c *member.Config) { c.Owner.Window = w })
		pass(30 * time.Minute)
		n.wantRuns()
		if r := get(h, &h.refused); len(r) == 0 || r[0].Reason != edge.RefusedHeld || !strings.Contains(n.Check().Why, "held") {
			t.Errorf("the node says %+v, its check %+v; want that it is held", r, n.Check())
		}
		pass(31 * time.Minute)
		n.wantRuns(a)
		if err := member.Hold(n.home, "guests are here"); err != nil {
			t.Fatal(err)
		}
		h.wants(2, a, b)
		pass(time.Minute)
		n.wantRuns(a)
		if got := n.Check(); !got.OK || !strings.Contains(got.Why, "guests are here") {
			t.Errorf("check %+v, want why it is held", got)
		}
		if err := member.Release(n.home); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		n.wantRuns(a, b)
		if got := n.Check(); got != (edge.Check{Name: "hub", OK: true}) {
			t.Errorf("check %+v, want nothing to say", got)
		}
	})
}

func TestANodeThatWantsSignaturesRunsNothingWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		public, private, err := minisign.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		signers, err := member.ParseSigners([]byte(public.String()))
		if err != nil {
			t.Fatal(err)
		}
		h := newHub(t)
		a, b := ref(t, "a", "echo 1"), ref(t, "b", "echo 1")
		a.Signature = sign(t, private, "a", string(a.Revision))
		h.wants(1, a)
		n := startNode(t, h, func(c *member.Config) { c.Owner.Signers = signers })
		n.wantRuns(a)
		h.wants(2, a, b)
		pass(time.Minute)
		n.wantRuns(a)
		for id, try := range map[int64]edge.Try{1: {Function: *b.Function}, 2: {Function: *a.Function, Signature: a.Signature}} {
			answers := h.call(id, edge.VerbTry, try)
			if len(answers) != 1 || (answers[0].Error == nil) != (try.Signature != "") {
				t.Errorf("try of %s: %+v, want that only what is signed is loaded", try.Name(), answers)
			}
		}
		if r := get(h, &h.refused); len(r) == 0 || r[0].Reason != edge.RefusedUnsigned || !strings.Contains(n.Check().Why, "signed") {
			t.Errorf("the node says %+v, its check %+v; want that b is not signed", r, n.Check())
		}
	})
}

func TestANodeWhoseFilesAreDamagedStartsAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		a := ref(t, "a", "echo 1")
		h.wants(1, a)
		n := startNode(t, h)
		n.end()
		for _, name := range []string{"dials.json", "away.json"} {
			if err := os.WriteFile(filepath.Join(n.home, name), []byte("\x00\x00"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := get(h, &h.proofs)
		n = n.restart(h)
		pass(time.Minute)
		proofs := get(h, &h.proofs)
		if last := proofs[len(proofs)-1].Counter; !n.Status().Connected || last <= before[len(before)-1].Counter {
			t.Errorf("status %+v, dial %d after %d; want a higher number", n.Status(), last, before[len(before)-1].Counter)
		}
	})
}

func TestANodeThatIsIdleSaysNextToNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.wants(1, ref(t, "a", "echo 1"))
		n := startNode(t, h)
		pass(time.Hour)
		before := h.bytes.Load()
		const hours = 10
		pass(hours * time.Hour)
		bits := float64(h.bytes.Load()-before) * 8 / (hours * 3600)
		if !n.Status().Connected || bits == 0 || bits > 150 { // TLS, TCP and IP need the rest of 250
			t.Errorf("%.0f bit/s, connected %v; want at most 150", bits, n.Status().Connected)
		}
		t.Logf("%.0f bit/s", bits)
	})
}

func TestCallsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.wants(1, ref(t, "a", "echo 1"), ref(t, "s", "stuck"))
		n := startNode(t, h)
		n.bus.say("in", "x")
		synctest.Wait()
		key := edge.StateEntry{Key: "k", Value: "1"}
		padding := strings.Repeat("x", 3*edge.ChunkSize)
		large, largeBad := ref(t, "b", "echo "+padding), ref(t, "b", "none "+padding)
		id := int64(0)
		for _, c := range []struct {
			verb edge.Verb
			body any
			want string // in the answer as JSON
		}{
			{edge.VerbInvoke, edge.InvokeCall{Function: "a", Invoke: edge.Invoke{Payload: []byte("hello")}}, `\"hello\"`},
			{edge.VerbInvoke, edge.InvokeCall{Function: "never"}, `"code":"not_found"`},
			{edge.VerbStatus, nil, `"name":"a"`},
			{edge.VerbChecks, nil, `"name":"store"`},
			{edge.VerbTry, ref(t, "b", "echo 1").Function, `"id"`},
			{edge.VerbTry, ref(t, "b", "none").Function, "does not load"},
			{edge.VerbTry, map[string]any{"revision": "x"}, `"code":"invalid"`},
			{edge.VerbTry, h.lends(large), `"id"`},
			{edge.VerbTry, h.lends(largeBad), "does not load"},
			{edge.VerbTry, named(ref(t, "b", "gone")), "hub has no revision"},
			{edge.VerbDead, edge.Query{}, `"body":[]`},
			{edge.VerbRedrive, edge.DeadChoice{All: true}, `"body":0`},
			{edge.VerbDiscard, edge.DeadChoice{}, "which dead letters?"},
			{edge.VerbStatePut, edge.StateCall{Function: "a", Entry: &key}, `"key":"k"`},
			{edge.VerbStateGet, edge.StateCall{Function: "a", Entry: &key}, `"value":"1"`},
			{edge.VerbState, edge.StateCall{Function: "a", Limit: 10}, `"key":"k"`},
			{edge.VerbStateDelete, edge.StateCall{Function: "a", Entry: &key}, `"id"`},
			{edge.VerbStateGet, edge.StateCall{Function: "a"}, "names no key"},
			{edge.VerbDiagnostics, nil, `"version":"1"`},
			{"dance", nil, "does not know the verb"},
			{edge.VerbInvoke, []int{1}, "not as it should be"},
		} {
			id++
			answers := h.call(id, c.verb, c.body)
			text, _ := json.Marshal(answers)
			if len(answers) != 1 || answers[0].More || !strings.Contains(string(text), c.want) {
				t.Errorf("%s %+v: %s, want one with %s", c.verb, c.body, text, c.want)
			}
		}
	})
}

// named returns what is left of a function that is to be fetched.
func named(r edge.Ref) (f functions.Function) {
	f.Manifest.Metadata.Name, f.Revision = r.Name, r.Revision
	return f
}

// lends lets nodes fetch a function that is to be tried.
func (h *hub) lends(r edge.Ref) functions.Function {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	bundle, err := edge.Bundle(*r.Function)
	if err != nil {
		h.t.Fatal(err)
	}
	h.bundles[r.Revision] = bundle
	return named(r)
}

func TestStreamsGoOnUntilTheyAreCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.wants(1, ref(t, "a", "echo 1"))
		n := startNode(t, h)
		h.call(1, edge.VerbLogs, edge.Query{Follow: true})
		h.call(2, edge.VerbEvents, edge.Query{Last: 10})
		for i := range 3 {
			n.bus.say("in", fmt.Sprint(i))
		}
		synctest.Wait()
		lines := h.answered(1)
		if len(lines) != 3 || !lines[2].More || !strings.Contains(string(lines[2].Body), `"text":"2"`) {
			t.Errorf("answers %+v, want three lines and more to come", lines)
		}
		if steps := h.answered(2); len(steps) != 1 || steps[0].More || steps[0].Error != nil {
			t.Errorf("answers %+v, want an end", steps)
		}
		h.says(&edge.Cancel{ID: 1})
		synctest.Wait()
		n.bus.say("in", "4")
		synctest.Wait()
		if got := h.answered(1); len(got) != 3 {
			t.Errorf("after it was cancelled there are %d answers", len(got))
		}
	})
}

func TestCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.wants(1, ref(t, "a", "echo 1"), ref(t, "s", "stuck"))
		n := startNode(t, h)
		for id := range int64(65) {
			h.call(id+1, edge.VerbLogs, edge.Query{Follow: true})
		}
		if got := h.answered(65); len(got) != 1 || got[0].Error == nil || got[0].Error.Code != edge.Unavailable {
			t.Errorf("the 65th: %+v, want that it is too much", got)
		}
		for id := range int64(64) {
			h.says(&edge.Cancel{ID: id + 1})
		}
		synctest.Wait()
		var entries []edge.StateEntry
		for i := range 40 {
			e := edge.StateEntry{Key: fmt.Sprint(10 + i), Value: `"` + strings.Repeat("x", 60<<10) + `"`}
			entries = append(entries, e)
			if _, err := n.agent.StatePut(t.Context(), "a", e, nil); err != nil {
				t.Fatal(err)
			}
		}
		var page []edge.StateEntry
		got := h.call(66, edge.VerbState, edge.StateCall{Function: "a", Limit: len(entries)})
		if len(got) != 1 || json.Unmarshal(got[0].Body, &page) != nil || len(page) == 0 || len(page) == len(entries) || page[0].Value != entries[0].Value {
			t.Errorf("%d answers, %d entries, want as many as fit, from the first on", len(got), len(page))
		}
		heavy := edge.InvokeCall{Function: "a", Invoke: edge.Invoke{Payload: bytes.Repeat([]byte(`"`), 600<<10)}} // each comes back as four
		if got := h.call(67, edge.VerbInvoke, heavy); len(got) != 1 || got[0].Error == nil || got[0].Error.Code != edge.TooLarge {
			t.Errorf("%d answers, want that it is too large", len(got))
		}
		// A call that nothing ends does not outlive the session.
		h.call(68, edge.VerbInvoke, edge.InvokeCall{Function: "s"})
		h.cut()
		pass(time.Minute)
		h.down.Store(false)
		pass(5 * time.Minute)
		if !n.Status().Connected || len(h.answered(68)) != 0 {
			t.Errorf("status %+v, answers %+v", n.Status(), h.answered(68))
		}
	})
}

// A hub that comes and goes at random, and says what it wants at random, ends up with
// the node where it is to be.
func TestANodeEndsUpInStepWhateverTheLinkDoes(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		n := startNode(t, h)
		var want []edge.Ref
		for step := range int64(40) {
			want = nil
			for _, name := range []string{"a", "b", "c"} {
				code := fmt.Sprint("echo ", rng.IntN(3))
				if rng.IntN(4) == 0 {
					code += strings.Repeat("x", 3*edge.ChunkSize)
				}
				want = append(want, ref(t, name, code))
			}
			h.wants(step+1, want...)
			if rng.IntN(3) == 0 {
				h.cut()
				h.down.Store(rng.IntN(2) == 0)
			}
			if rng.IntN(8) == 0 {
				n = n.restart(h)
			}
			pass(time.Duration(rng.IntN(30)) * time.Second)
			h.down.Store(h.down.Load() && rng.IntN(2) == 0)
		}
		h.down.Store(false)
		pass(5 * time.Minute)
		n.wantRuns(want...)
		n = n.restart(h)
		n.wantRuns(want...)
	})
}
