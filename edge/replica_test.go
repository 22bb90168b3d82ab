package edge_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// lacking begins a session on a node at revision 10 that is told to take f too, which
// it fetches.
func lacking(t *testing.T, r *edge.Replica) *edge.Whole {
	t.Helper()
	want := append(slices.Clone(held), signed(ref(large, false)))
	w := &edge.Whole{At: at("e", 11, want), Functions: edge.Plain(want)}
	r.Begin()
	if out := r.Step(w); len(out.Send) != 1 || out.Send[0].Kind() != edge.KindFetch {
		t.Fatalf("it says %v, want a fetch", out.Send)
	}
	return w
}

func replica(policy edge.Policy) *edge.Replica {
	return edge.NewReplica(edge.Synced{At: at("e", 10, held), Functions: edge.Plain(held)}, policy)
}

// serve answers fetches out of text until something else comes of it, and returns that and
// how many there were.
func serve(r *edge.Replica, text []byte, out edge.Output) (edge.Output, int) {
	for n := 0; ; n++ {
		if out.Apply != nil || len(out.Send) != 1 || out.Send[0].Kind() != edge.KindFetch {
			return out, n
		}
		out = r.Step(edge.Cut(text, *out.Send[0].(*edge.Fetch)))
	}
}

func TestContentIsFetchedOnWhereItWasCut(t *testing.T) {
	r := replica(edge.Policy{})
	w := lacking(t, r)
	r.Step(edge.Cut(bundle(large), edge.Fetch{Revision: large.Revision}))
	r.Begin()
	out := r.Step(w)
	says(t, out.Send, &edge.Fetch{Revision: large.Revision, Offset: edge.ChunkSize})
	out, n := serve(r, bundle(large), out)
	if out.Apply == nil || n != 3 || out.Apply.Put[0].Function.Verify() != nil {
		t.Errorf("after %d pieces it says %v, and applies %v; want it all after 3", n, out.Send, out.Apply)
	}
}

// The hub keeps the same revision in other words than in the session before.
func TestContentThatHasChangedSinceIsFetchedAnew(t *testing.T) {
	for name, before := range map[string]func([]byte) []byte{
		"longer": func(b []byte) []byte { return append(slices.Clone(b), ' ') },
		"other":  func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("//"), []byte("/*")) },
	} {
		t.Run(name, func(t *testing.T) {
			r := replica(edge.Policy{})
			w := lacking(t, r)
			r.Step(edge.Cut(before(bundle(large)), edge.Fetch{Revision: large.Revision}))
			r.Begin()
			out, n := serve(r, bundle(large), r.Step(w))
			if out.Apply == nil || n < 4 {
				t.Errorf("after %d pieces it says %v, and applies %v", n, out.Send, out.Apply)
			}
		})
	}
}

func TestWhatWasFetchedOutlivesTheSession(t *testing.T) {
	r := replica(edge.Policy{})
	f, g := function("f", 1, 0), function("g", 1, 0)
	want := append(slices.Clone(held), ref(f, false), ref(g, false))
	w := &edge.Whole{At: at("e", 11, want), Functions: edge.Plain(want)}
	r.Step(w)
	says(t, r.Step(edge.Cut(bundle(f), edge.Fetch{Revision: f.Revision})).Send, &edge.Fetch{Revision: g.Revision})
	r.Begin()
	says(t, r.Step(w).Send, &edge.Fetch{Revision: g.Revision})
}

// What a node keeps before it applies it is bounded, whatever the set weighs.
func TestMoreThanFitsIsAppliedInParts(t *testing.T) {
	const each = 1 << 20
	var want []edge.Ref
	bundles := map[functions.Revision][]byte{}
	for i := range 12 {
		f := function(fmt.Sprintf("f%02d", i), 1, each)
		want, bundles[f.Revision] = append(want, ref(f, false)), bundle(f)
	}
	r := edge.NewReplica(edge.Synced{}, edge.Policy{})
	out := r.Step(&edge.Whole{At: at("e", 1, want), Functions: edge.Plain(want)})
	var parts []int
	for r.Synced().At.Digest == "" {
		if out.Apply != nil {
			weight := 0
			for _, d := range out.Apply.Put {
				weight += len(d.Function.Code)
			}
			parts = append(parts, weight/each)
			out = edge.Output{Send: r.Applied(edge.Result{})}
			continue
		}
		f, ok := out.Send[0].(*edge.Fetch)
		if !ok {
			t.Fatalf("it says %s", text(out.Send[0]))
		}
		out = r.Step(edge.Cut(bundles[f.Revision], *f))
	}
	if !slices.Equal(parts, []int{8, 4}) {
		t.Errorf("it applied MiB in parts of %v, want 8 and 4", parts)
	}
}

func TestTheGuardCountsFunctionsAndTheirShare(t *testing.T) {
	for _, row := range []struct {
		has, gone int
		confirmed bool
		refused   bool
	}{
		{1, 1, false, false}, {2, 1, false, false}, {2, 2, false, true}, {2, 2, true, false}, {3, 3, false, true}, {3, 3, true, false}, {9, 3, false, true}, {10, 3, false, false}, {11, 4, false, true}, {14, 4, false, false},
	} {
		var names []string
		for i := range row.has {
			names = append(names, fmt.Sprintf("f%02d", i))
		}
		has := refs(strings.Join(names, " "), 1)
		stays := has[row.gone:]
		r := edge.NewReplica(edge.Synced{At: at("e", 1, has), Functions: has}, edge.Policy{})
		var removed []edge.Removal
		for _, was := range has[:row.gone] {
			removed = append(removed, edge.Removal{Name: was.Name})
		}
		for _, m := range []edge.Message{
			&edge.Delta{From: at("e", 1, has), At: at("e", 2, stays), Remove: removed, Confirmed: row.confirmed},
			&edge.Whole{At: at("e", 3, stays), Functions: stays, Confirmed: row.confirmed},
		} {
			out := r.Step(m)
			if refused := out.Apply == nil; refused != row.refused {
				t.Errorf("%s that takes %d of %d away, confirmed %v: refused %v, want %v", m.Kind(), row.gone, row.has, row.confirmed, refused, row.refused)
			}
			r.Applied(edge.Result{Err: errors.New("not now")})
		}
	}
}

func TestAnEpochIsLeftOnlyIfItIsGivenUp(t *testing.T) {
	r := replica(edge.Policy{})
	m := &edge.Whole{At: at("e2", 1, held), Functions: held}
	if out := r.Step(m); len(out.Send) != 1 || out.Send[0].(*edge.Refusal).Reason != edge.RefusedEpoch {
		t.Errorf("it says %v", out.Send)
	}
	m.Accepts = "e"
	if out := r.Step(m); out.Apply == nil || len(out.Apply.Put) > 0 || out.Apply.Next.At != m.At {
		t.Errorf("with the epoch given up it says %v, applies %v", out.Send, out.Apply)
	}
}

// A node whose store has lost something takes the whole of the revision that it is at.
func TestANodeThatLostSomethingGetsItAgain(t *testing.T) {
	r := edge.NewReplica(edge.Synced{At: at("e", 10, held), Functions: held[1:]}, edge.Policy{})
	says(t, r.Begin(), &edge.At{At: edge.Position{Epoch: "e", Revision: 10}})
	out := r.Step(whole(10, held))
	if out.Apply == nil || len(out.Apply.Put) != 1 || out.Apply.Put[0].Function.Name() != "a" {
		t.Errorf("it says %v, applies %+v", out.Send, out.Apply)
	}
	if out := replica(edge.Policy{}).Step(whole(9, held)); out.Apply != nil {
		t.Error("it goes back for it")
	}
}

func TestNothingHappensBetweenAnApplyAndItsResult(t *testing.T) {
	r := replica(edge.Policy{})
	first, second := whole(11, refs("a b c d e", 2)), whole(12, refs("a b c d e", 3))
	out := r.Step(first)
	if out := r.Step(second); out.Apply != nil || len(out.Send) > 0 {
		t.Errorf("in between it says %v, applies %v", out.Send, out.Apply)
	}
	says(t, r.Tick())
	says(t, r.Begin(), &edge.At{At: at("e", 10, held)}) // the session ended meanwhile
	says(t, r.Applied(edge.Result{Discarded: map[string]int{"a": 2}}), &edge.At{At: first.At, Discarded: map[string]int{"a": 2}})
	if got := r.Synced().At; got != out.Apply.Next.At {
		t.Errorf("it is at %v, stored is %v", got, out.Apply.Next.At)
	}
	says(t, r.Applied(edge.Result{}))
}

// One tick, two, four: what could not be stored is tried again ever more rarely, and
// what was refused for another reason more rarely still.
func TestARefusedStepIsTriedAgainEverMoreRarely(t *testing.T) {
	failing := func(r *edge.Replica) {
		r.Step(whole(11, refs("a b c d e", 2)))
		r.Applied(edge.Result{Err: errors.New("the disk is full")})
	}
	emptying := func(r *edge.Replica) { r.Step(whole(11, nil)) }
	for name, row := range map[string]struct {
		refuse func(*edge.Replica)
		most   int
	}{"failed": {failing, 32}, "emptying": {emptying, 1024}} {
		r := replica(edge.Policy{})
		r.Begin()
		for n, wait := 0, 1; n < 13; n, wait = n+1, min(2*wait, row.most) {
			row.refuse(r)
			ticks := 1
			for len(r.Tick()) == 0 {
				ticks++
			}
			if ticks != wait {
				t.Fatalf("%s: the time %d it waits %d ticks, want %d", name, n, ticks, wait)
			}
		}
	}
}

func TestTheOwnerIsAskedAgainBeforeAnythingIsApplied(t *testing.T) {
	why := ""
	r := replica(edge.Policy{Held: func() string { return why }})
	lacking(t, r)
	why = "at night only"
	out, _ := serve(r, bundle(large), edge.Output{Send: []edge.Message{&edge.Fetch{Revision: large.Revision}}})
	if out.Apply != nil || len(out.Send) != 1 || out.Send[0].(*edge.Refusal).Reason != edge.RefusedHeld {
		t.Errorf("it says %v, applies %v", out.Send, out.Apply)
	}
	for range 10 {
		says(t, r.Tick())
	}
	why = ""
	says(t, r.Tick(), &edge.At{At: at("e", 10, held)})
}

// However many functions are unfit, and whatever is said of them, the hub is told.
func TestAllThatIsUnfitFitsIntoAMessage(t *testing.T) {
	r := edge.NewReplica(edge.Synced{}, edge.Policy{})
	var list []edge.Ref
	var res edge.Result
	res.Discarded = map[string]int{}
	for i := range 200 {
		f := function(fmt.Sprintf("f%060d", i), 1, 0)
		list = append(list, ref(f, true))
		why := &edge.Error{Code: edge.Invalid, Message: strings.Repeat("\x01", 10_000), Faults: make(functions.Faults, 100)}
		res.Unfit = append(res.Unfit, edge.Unfit{Name: f.Name(), Revision: f.Revision, Error: why})
		res.Discarded[f.Name()] = 1 << 30
	}
	r.Step(&edge.Whole{At: at("e", 1, list), Functions: list})
	said := r.Applied(res)
	if data, err := edge.Encode(said[0]); err != nil || len(said[0].(*edge.At).Unfit) != 200 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}

// step has a replica take a message, and judges what it does.
func step(t *testing.T, r *edge.Replica, m edge.Message, fails bool) {
	before := r.Synced()
	out := r.Step(m)
	if out.Apply == nil && r.Synced().At != before.At {
		t.Fatalf("it moves to %v without an apply", r.Synced().At)
	}
	if a := out.Apply; a != nil {
		for _, d := range a.Put {
			if err := d.Function.Verify(); d.Function.Code != "" && err != nil {
				t.Fatalf("it puts a function that is wrong: %v", err)
			}
		}
		if a.Next.At.Digest != "" && a.Next.At.Digest != edge.Digest(a.Next.Functions) {
			t.Fatalf("it goes to %v with other functions", a.Next.At)
		}
		if a.Next.At.Epoch == before.At.Epoch && a.Next.At.Revision < before.At.Revision {
			t.Fatalf("it goes back from %v to %v", before.At, a.Next.At)
		}
		var res edge.Result
		if fails {
			res.Err = errors.New("the disk is full")
		}
		out.Send = append(out.Send, r.Applied(res)...)
	}
	if len(out.Send) > 1 {
		t.Fatalf("one message leads to %d", len(out.Send))
	}
	for _, m := range out.Send {
		if _, err := edge.Encode(m); err != nil {
			t.Fatalf("it says what cannot be sent: %v", err)
		}
	}
}

// Whatever a hub says, line by line, a node goes only where the rules let it; whatever a
// node says, a hub answers with one message at most.
func FuzzMessages(f *testing.F) {
	var script []byte
	for _, row := range attacks() {
		for _, cell := range row {
			for _, m := range cell.messages[:min(4, len(cell.messages))] {
				if data, err := edge.Encode(m); err == nil && len(data) < 5_000 {
					script = append(append(script, data...), '\n')
				}
			}
		}
		f.Add(slices.Clone(script), false)
		script = script[:0]
	}
	good, _ := edge.Encode(whole(20, refs("a b c d e f", 4)))
	for _, m := range samples() {
		data, _ := edge.Encode(m)
		script = append(append(script, data...), '\n')
	}
	f.Add(append(script, good...), true)
	some, others := set(f, "e", 10, edge.Terms{}, held...), set(f, "e", 11, edge.Terms{}, refs("a b", 1)...)
	f.Fuzz(func(t *testing.T, data []byte, fails bool) {
		r := replica(edge.Policy{Trust: trust})
		feed := edge.NewFeed(some)
		for i, line := range bytes.Split(data[:min(len(data), 1<<16)], []byte("\n")) {
			m, err := edge.Decode(line)
			if err != nil {
				continue
			}
			step(t, r, m, fails)
			said := feed.Heard(m)
			if i%3 == 2 {
				said = append(feed.Want(others), feed.Tick()...)[:1]
			}
			for _, m := range said {
				if _, err := edge.Encode(m); err != nil || len(said) > 1 {
					t.Fatalf("the feed says %v, %v", said, err)
				}
			}
			r.Tick()
		}
	})
}
