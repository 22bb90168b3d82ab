package edge_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge"
)

// says compares what is said with what is to be.
func says(t *testing.T, got []edge.Message, want ...edge.Message) {
	t.Helper()
	var g, w []string
	for _, m := range got {
		g = append(g, text(m))
	}
	for _, m := range want {
		w = append(w, text(m))
	}
	if !slices.Equal(g, w) {
		t.Errorf("it says %s\nwant %s", strings.Join(g, "; "), strings.Join(w, "; "))
	}
}

func TestTenThousandNodesShareOneMessageAndItsText(t *testing.T) {
	first := set(t, "e", 1, edge.Terms{}, ref(function("a", 1, 0), true))
	second := set(t, "e", 2, edge.Terms{}, ref(function("a", 2, 0), true))
	var whole, delta edge.Message
	var texts [2]*byte
	for range 10_000 {
		f := edge.NewFeed(first)
		w := f.Heard(&edge.At{})
		f.Heard(&edge.At{At: first.At()})
		d := f.Want(second)
		if whole == nil {
			whole, delta = w[0], d[0]
		}
		if w[0] != whole || d[0] != delta || d[0].Kind() != edge.KindDelta {
			t.Fatalf("nodes get messages of their own: %v, %v", w, d)
		}
		for i, m := range []edge.Message{w[0], d[0]} {
			data, err := edge.Encode(m)
			if err != nil {
				t.Fatal(err)
			}
			if texts[i] == nil {
				texts[i] = &data[0]
			}
			if &data[0] != texts[i] {
				t.Fatalf("%s is encoded again", m.Kind())
			}
		}
	}
}

func TestAFeedWaitsForTheNodeToSayWhereItIs(t *testing.T) {
	s := set(t, "e", 1, edge.Terms{}, ref(function("a", 1, 0), true))
	f := edge.NewFeed(nil)
	says(t, f.Want(s))
	says(t, f.Tick(), &edge.Current{})
	if f.InStep() {
		t.Error("it is in step with a node that has said nothing")
	}
	if got := f.Heard(&edge.At{}); len(got) != 1 || got[0].Kind() != edge.KindWhole {
		t.Errorf("then it says %v, want the whole", got)
	}
}

func TestAFeedOfNoSetLeavesTheNodeAsItIs(t *testing.T) {
	f := edge.NewFeed(nil)
	says(t, f.Heard(&edge.At{At: at("e", 3, held)}))
	says(t, f.Tick(), &edge.Current{})
	says(t, f.Heard(&edge.Refusal{To: at("e", 3, held)}))
}

func TestAStepIsSaidAgainAfterTwoQuietTicks(t *testing.T) {
	s := set(t, "e", 1, edge.Terms{}, ref(function("a", 1, 0), false))
	f := edge.NewFeed(s)
	step := f.Heard(&edge.At{})
	says(t, f.Tick(), &edge.Current{})
	says(t, f.Heard(&edge.Fetch{Revision: s.Refs()[0].Revision})) // it is at work
	says(t, f.Tick(), &edge.Current{})
	says(t, f.Tick(), step...)
	says(t, f.Heard(&edge.At{})) // from before it heard of it
	says(t, f.Heard(&edge.At{At: s.At()}))
	says(t, f.Tick(), &edge.Current{At: s.At()})
	says(t, f.Heard(&edge.At{At: s.At()}))
}

func TestARefusedSetIsNotSaidAgainUntilSomethingChanges(t *testing.T) {
	first := set(t, "e", 1, edge.Terms{}, ref(function("a", 1, 0), true))
	f := edge.NewFeed(first)
	step := f.Heard(&edge.At{})
	no := &edge.Refusal{Of: edge.KindWhole, To: first.At(), Reason: edge.RefusedHeld, Why: strings.Repeat("why ", 1000)}
	says(t, f.Heard(&edge.Refusal{To: at("e", 9, held)})) // of something else
	says(t, f.Heard(no))
	for range 100 {
		says(t, f.Tick(), &edge.Current{})
		says(t, f.Heard(no))
	}
	if r := f.Refusal(); r == nil || r.Reason != edge.RefusedHeld || len(r.Why) > 600 || f.InStep() {
		t.Errorf("its refusal is %+v, in step %v", r, f.InStep())
	}
	says(t, f.Heard(&edge.At{}), step...)
	if f.Refusal() != nil {
		t.Error("the refusal stands though the step is said again")
	}
	says(t, f.Heard(no))
	second := set(t, "e", 2, edge.Terms{}, ref(function("a", 2, 0), true))
	if got := f.Want(second); len(got) != 1 || got[0].(*edge.Whole).At != second.At() || f.Refusal() != nil {
		t.Errorf("with something new it says %v, and its refusal is %v", got, f.Refusal())
	}
	f.Heard(&edge.At{At: second.At()})
	says(t, f.Heard(&edge.Refusal{To: second.At(), Reason: edge.RefusedHeld})) // an old one
	if f.Refusal() != nil || !f.InStep() {
		t.Error("a refusal of what the node has by now is believed")
	}
}

// The hub's revision has moved on, or the hub has been restarted, and the node has the same
// functions still: nothing is sent.
func TestANodeIsInStepWithAnySetOfTheSameFunctions(t *testing.T) {
	a, b := ref(function("a", 1, 0), true), ref(function("b", 1, 0), true)
	old, same := set(t, "e", 3, edge.Terms{}, a), set(t, "e", 7, edge.Terms{}, a)
	f := edge.NewFeed(same)
	says(t, f.Heard(&edge.At{At: old.At()}), &edge.Current{At: old.At()})
	says(t, f.Tick(), &edge.Current{At: old.At()})
	more := set(t, "e", 8, edge.Terms{}, a, b)
	says(t, f.Want(more), &edge.Delta{From: old.At(), At: more.At(), Put: []edge.Ref{b}})

	purged := set(t, "e", 8, edge.Terms{Purged: map[string]int64{"c": 5}}, a)
	says(t, edge.NewFeed(purged).Heard(&edge.At{At: old.At()}), &edge.Whole{
		At: purged.At(), Functions: edge.Plain([]edge.Ref{a}), Purged: []edge.Removal{{Name: "c", Purge: true, Revision: 5}}})
}

func TestANodeThatIsAheadIsNotInStep(t *testing.T) {
	a := ref(function("a", 1, 0), true)
	f := edge.NewFeed(set(t, "e", 3, edge.Terms{}, a))
	ahead := set(t, "e", 4, edge.Terms{}, a).At()
	got := f.Heard(&edge.At{At: ahead})
	if f.InStep() || !f.Behind() || len(got) != 1 || got[0].Kind() != edge.KindWhole {
		t.Errorf("in step %v, behind %v, says %v; want false, true, the whole, which the node refuses", f.InStep(), f.Behind(), got)
	}
	f.Want(set(t, "e2", 4, edge.Terms{}, a))
	if f.Behind() {
		t.Error("it is behind also in another epoch")
	}
}

// Between two steps the node says that it is somewhere else: it gets the whole.
func TestAFeedBeginsAgainWhereTheNodeIs(t *testing.T) {
	first := set(t, "e", 1, edge.Terms{}, ref(function("a", 1, 0), true))
	second := set(t, "e", 2, edge.Terms{}, ref(function("a", 2, 0), true))
	f := edge.NewFeed(first)
	f.Heard(&edge.At{})
	f.Heard(&edge.At{At: first.At()})
	f.Want(second)
	if got := f.Heard(&edge.At{At: at("e", 1, nil)}); len(got) != 1 || got[0].Kind() != edge.KindWhole {
		t.Errorf("it says %v, want the whole", got)
	}
	f.Heard(&edge.At{At: second.At()})
	if !f.InStep() {
		t.Error("it is not in step in the end")
	}
}

func TestWhatANodeSaysIsNotKeptIfItIsTooLong(t *testing.T) {
	f := edge.NewFeed(set(t, "e", 1, edge.Terms{}))
	f.Heard(&edge.At{At: edge.Position{Epoch: strings.Repeat("e", 100_000)}})
	if got := f.At(); got != (edge.Position{}) {
		t.Errorf("it is taken to be at %.100v", got)
	}
}

// The worst names that a set may have.
func worst(n int) (refs []edge.Ref) {
	for i := range n {
		refs = append(refs, edge.Ref{
			Name: fmt.Sprintf("%063d", i), Revision: stray.Revision, Signature: strings.Repeat("x", edge.MaxSignature),
		})
	}
	return refs
}

func TestTheLargestSetFitsIntoAMessage(t *testing.T) {
	terms := edge.Terms{Purged: map[string]int64{}, Accepts: []string{strings.Repeat("d", 64)}, Confirmed: 1}
	for i := range 2 * edge.MaxPurged {
		terms.Purged[fmt.Sprintf("p%062d", i)] = int64(i)
	}
	epoch := strings.Repeat("e", 64)
	s := set(t, epoch, edge.MaxRevision, terms, worst(edge.MaxFunctions)...)
	for _, from := range []edge.Position{{}, {Epoch: epoch}, {Epoch: terms.Accepts[0]}} {
		got := edge.NewFeed(s).Heard(&edge.At{At: from})
		w := got[0].(*edge.Whole)
		data, err := edge.Encode(w)
		if err != nil || len(w.Functions) != edge.MaxFunctions || len(w.Purged) != edge.MaxPurged {
			t.Fatalf("from %.20v: %d functions, %d purged, %v", from, len(w.Functions), len(w.Purged), err)
		}
		if w.Purged[0].Name != fmt.Sprintf("p%062d", edge.MaxPurged) {
			t.Errorf("the newest are not those that are told: %v", w.Purged[0])
		}
		t.Logf("%d bytes of %d", len(data), edge.MaxMessage)
	}
	if _, err := edge.NewSet(edge.Position{Epoch: "e"}, worst(edge.MaxFunctions+1), edge.Terms{}); err == nil || !strings.Contains(err.Error(), "at most 500") {
		t.Errorf("one function more: %v", err)
	}
}

// What does not fit travels by name, and what still does not fit as a delta, as a whole.
func TestWhatDoesNotFitIsFetched(t *testing.T) {
	var list []edge.Ref
	for i := range 40 {
		list = append(list, ref(function(fmt.Sprintf("f%02d", i), 1, 10_000), true))
	}
	s := set(t, "e", 1, edge.Terms{}, append(list, ref(function("large", 1, edge.MaxInline), true))...)
	inline := 0
	for _, r := range edge.NewFeed(s).Heard(&edge.At{})[0].(*edge.Whole).Functions {
		if r.Function != nil {
			inline++
		}
		if r.Name == "large" && r.Function != nil {
			t.Error("more than MaxInline travels within the message")
		}
	}
	if inline < 20 || inline == 40 {
		t.Errorf("%d of 40 functions of 10,000 bytes travel within the message", inline)
	}
	purged := map[string]int64{}
	for i := range edge.MaxPurged {
		purged[fmt.Sprintf("p%062d", i)] = 2
	}
	from := set(t, "e", 1, edge.Terms{}, worst(2 * edge.MaxFunctions)[edge.MaxFunctions:]...)
	to := set(t, "e", 2, edge.Terms{Purged: purged}, worst(edge.MaxFunctions)...)
	f := edge.NewFeed(from)
	f.Heard(&edge.At{At: from.At()})
	if got := f.Want(to); len(got) != 1 || got[0].Kind() != edge.KindWhole {
		t.Errorf("a change of everything is said as %v", got[0].Kind())
	}
}

func TestASetThatNoNodeCouldTakeIsNotMade(t *testing.T) {
	a := function("a", 1, 0)
	for name, refs := range map[string][]edge.Ref{
		"twice":     {ref(a, false), ref(function("a", 2, 0), false)},
		"name":      {{Name: "a b", Revision: a.Revision}},
		"revision":  {{Name: "a", Revision: "abc"}},
		"signature": {{Name: "a", Revision: a.Revision, Signature: "with a space"}},
		"content":   {{Name: "a", Revision: stray.Revision, Function: &a}},
	} {
		if _, err := edge.NewSet(edge.Position{Epoch: "e"}, refs, edge.Terms{}); err == nil {
			t.Errorf("%s: it is made", name)
		}
	}
	if _, err := edge.NewSet(edge.Position{}, nil, edge.Terms{}); err == nil {
		t.Error("a set of no epoch is made")
	}
}

func TestCutAnswersEveryFetch(t *testing.T) {
	text := bundle(large)
	var all []byte
	for len(all) < len(text) {
		c := edge.Cut(text, edge.Fetch{Revision: large.Revision, Offset: len(all)})
		if c.Offset != len(all) || c.Total != len(text) || len(c.Data) == 0 || len(c.Data) > edge.ChunkSize {
			t.Fatalf("a piece at %d is %d bytes at %d of %d", len(all), len(c.Data), c.Offset, c.Total)
		}
		all = append(all, c.Data...)
	}
	if string(all) != string(text) {
		t.Error("the pieces are not the whole")
	}
	for _, offset := range []int{-1, len(text), 1 << 30} {
		if c := edge.Cut(text, edge.Fetch{Offset: offset}); len(c.Data) > 0 {
			t.Errorf("at %d there are %d bytes", offset, len(c.Data))
		}
	}
	if c := edge.Cut(nil, edge.Fetch{}); c.Total != 0 {
		t.Errorf("of nothing there are %d bytes", c.Total)
	}
}
