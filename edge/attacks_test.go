package edge_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge"
)

// What a hub says that is not what it should be, or that somebody else put into its
// mouth. A victim is at revision 10 of epoch e with the functions a to e, and wants
// signatures. For chunks it was told before to take f too, which it fetches.

// ignored is the answer to what needs none but where the node is, if that.
const ignored = edge.RefusalReason("")

// An attack is one way to do it with one kind of message.
type attack struct {
	messages []edge.Message
	want     edge.RefusalReason
}

// signed signs as the operator whom the victim trusts does; other as somebody else.
func signed(r edge.Ref) edge.Ref {
	r.Signature = "good:" + r.Name + ":" + string(r.Revision[:8])
	return r
}
func other(r edge.Ref) edge.Ref {
	r.Signature = "evil:" + r.Name + ":" + string(r.Revision[:8])
	return r
}

func trust(r edge.Ref) error {
	switch {
	case r.Signature == "":
		return errors.New("there is no signature")
	case r.Signature != signed(r).Signature:
		return errors.New("the signature is of nobody who is trusted")
	}
	return nil
}

// refs names functions of a version, inline and signed; mod changes each.
func refs(names string, version int, mod ...func(edge.Ref) edge.Ref) (list []edge.Ref) {
	for _, name := range strings.Fields(names) {
		r := signed(ref(function(name, version, 0), true))
		for _, m := range mod {
			r = m(r)
		}
		list = append(list, r)
	}
	return list
}

func at(epoch string, revision int64, list []edge.Ref) edge.Position {
	return edge.Position{Epoch: epoch, Revision: revision, Digest: edge.Digest(list)}
}

func whole(revision int64, list []edge.Ref) *edge.Whole {
	return &edge.Whole{At: at("e", revision, list), Functions: list}
}

// put is a delta from what the victim has that puts list.
func put(revision int64, list []edge.Ref) *edge.Delta {
	all := slices.Clone(list)
	for _, r := range held {
		if !slices.ContainsFunc(list, func(x edge.Ref) bool { return x.Name == r.Name }) {
			all = append(all, r)
		}
	}
	return &edge.Delta{From: at("e", 10, held), At: at("e", revision, all), Put: list}
}

var (
	held  = refs("a b c d e", 1)
	large = function("f", 1, 3*edge.ChunkSize)
	stray = function("z", 1, 0) // nobody has asked for it
)

// piece is a chunk of what the victim fetches.
func piece(offset int, data []byte) *edge.Chunk {
	return &edge.Chunk{Revision: large.Revision, Offset: offset, Total: len(bundle(large)), Data: data}
}

func forge(r edge.Ref) edge.Ref {
	f := *r.Function
	f.Code += "// and more"
	r.Function = &f
	return r
}

func swap(r edge.Ref) edge.Ref { f := stray; r.Function = &f; return r }

func unsign(r edge.Ref) edge.Ref { r.Signature = ""; return r }

// many names that many functions that nobody has.
func many(n int) (list []edge.Ref) {
	for i := range n {
		list = append(list, signed(edge.Ref{Name: fmt.Sprintf("n%03d", i), Revision: stray.Revision, Enabled: true}))
	}
	return list
}

func attacks() map[string]map[edge.Kind]attack {
	whole12, put12 := whole(12, refs("a b c d e", 2)), put(12, refs("a", 2))
	text := bundle(large)
	first := piece(0, text[:edge.ChunkSize])
	second := piece(edge.ChunkSize, text[edge.ChunkSize:2*edge.ChunkSize])
	third := piece(2*edge.ChunkSize, text[2*edge.ChunkSize:3*edge.ChunkSize])
	strays := &edge.Chunk{Revision: stray.Revision, Total: len(bundle(stray)), Data: bundle(stray)}
	fake := bytes.ReplaceAll(slices.Clone(text), []byte("//"), []byte("/*"))
	current := func(revision int64, list []edge.Ref) *edge.Current { return &edge.Current{At: at("e", revision, list)} }
	one := func(want edge.RefusalReason, m ...edge.Message) attack { return attack{m, want} }
	thousand := func(m edge.Message) []edge.Message { return slices.Repeat([]edge.Message{m}, 1000) }
	return map[string]map[edge.Kind]attack{
		"forged content": {
			edge.KindWhole: one(edge.RefusedContent, whole(12, refs("a b c d e", 2, forge))),
			edge.KindDelta: one(edge.RefusedContent, put(12, refs("a", 2, forge))),
			edge.KindChunk: one(edge.RefusedContent, piece(0, fake[:edge.ChunkSize]), piece(edge.ChunkSize, fake[edge.ChunkSize:2*edge.ChunkSize]),
				piece(2*edge.ChunkSize, fake[2*edge.ChunkSize:3*edge.ChunkSize]), piece(3*edge.ChunkSize, fake[3*edge.ChunkSize:])),
			edge.KindCurrent: one(edge.RefusedMixed, current(10, refs("a", 2))),
		},
		"another function in its place": {
			edge.KindWhole:   one(edge.RefusedContent, whole(12, refs("a b c d e", 2, swap))),
			edge.KindDelta:   one(edge.RefusedContent, put(12, refs("a", 2, swap))),
			edge.KindChunk:   one(edge.RefusedContent, &edge.Chunk{Revision: large.Revision, Total: len(bundle(stray)), Data: bundle(stray)}),
			edge.KindCurrent: one(edge.RefusedMixed, current(10, refs("a b c d z", 1))),
		},
		"replayed": {
			edge.KindWhole:   one(edge.RefusedBackward, whole(9, refs("a b c d", 1))),
			edge.KindDelta:   one(ignored, &edge.Delta{From: at("e", 8, refs("a", 1)), At: at("e", 9, refs("a b", 1)), Put: refs("b", 1)}),
			edge.KindChunk:   one(ignored, first, first, second, first, second),
			edge.KindCurrent: one(edge.RefusedBackward, current(9, refs("a b c d", 1))),
		},
		"rolled back": {
			edge.KindWhole:   one(edge.RefusedBackward, whole(9, refs("a b c d e", 2))),
			edge.KindDelta:   one(edge.RefusedBackward, put(9, refs("a", 2))),
			edge.KindChunk:   one(edge.RefusedContent, first, &edge.Chunk{Revision: large.Revision, Offset: second.Offset, Total: second.Total - 1, Data: second.Data}),
			edge.KindCurrent: one(edge.RefusedBackward, current(0, nil)),
		},
		"frozen": {
			edge.KindWhole:   one(edge.RefusedBackward, thousand(whole(9, refs("a b c d", 1)))...),
			edge.KindDelta:   one(ignored, thousand(&edge.Delta{From: at("e", 9, refs("a b c d", 1)), At: at("e", 10, held), Put: refs("e", 1)})...),
			edge.KindChunk:   one(edge.RefusedContent, piece(0, nil)),
			edge.KindCurrent: one(edge.RefusedBackward, thousand(current(9, held))...),
		},
		"fast-forward": {
			edge.KindWhole:   one(edge.RefusedForward, whole(edge.MaxRevision+1, refs("a b c d e", 2))),
			edge.KindDelta:   one(edge.RefusedForward, put(edge.MaxRevision+1, refs("a", 2))),
			edge.KindChunk:   one(edge.RefusedContent, &edge.Chunk{Revision: large.Revision, Total: edge.MaxBundle + 1, Data: text[:100]}),
			edge.KindCurrent: one(ignored, current(edge.MaxRevision+1, held)),
		},
		"mixed": {
			edge.KindWhole:   one(edge.RefusedMixed, &edge.Whole{At: whole12.At, Functions: refs("a b c d", 2)}),
			edge.KindDelta:   one(edge.RefusedMixed, &edge.Delta{From: put12.From, At: put12.At, Put: refs("b", 2)}),
			edge.KindChunk:   one(edge.RefusedContent, first, piece(edge.ChunkSize, text[:edge.ChunkSize]), third, piece(3*edge.ChunkSize, text[3*edge.ChunkSize:])),
			edge.KindCurrent: one(edge.RefusedMixed, current(10, refs("a b c d e", 2))),
		},
		"of its own revision": {
			edge.KindWhole:   one(edge.RefusedMixed, whole(10, refs("a b c d e", 2))),
			edge.KindDelta:   one(edge.RefusedMixed, put(10, refs("a", 2))),
			edge.KindChunk:   one(ignored, strays),
			edge.KindCurrent: one(edge.RefusedMixed, current(10, nil)),
		},
		"of another epoch": {
			edge.KindWhole:   one(edge.RefusedEpoch, &edge.Whole{At: at("e2", 12, held), Functions: held, Accepts: "e1"}),
			edge.KindDelta:   one(edge.RefusedMalformed, &edge.Delta{From: put12.From, At: at("e2", 12, refs("a b c d e", 2)), Put: refs("a b c d e", 2)}),
			edge.KindChunk:   one(ignored, strays),
			edge.KindCurrent: one(ignored, &edge.Current{At: at("e2", 3, held)}),
		},
		"endless": {
			edge.KindWhole:   one(edge.RefusedMalformed, whole(12, many(edge.MaxFunctions+1))),
			edge.KindDelta:   one(edge.RefusedMalformed, put(12, many(edge.MaxFunctions))),
			edge.KindChunk:   one(edge.RefusedContent, first, second, third, piece(3*edge.ChunkSize, text[:edge.ChunkSize])),
			edge.KindCurrent: one(ignored, thousand(current(12, held))...),
		},
		"of another node": {
			edge.KindWhole:   one(edge.RefusedEmptying, whole(12, refs("x y z", 1))),
			edge.KindDelta:   one(ignored, &edge.Delta{From: at("e", 10, refs("x y", 1)), At: at("e", 12, refs("x y z", 1)), Put: refs("z", 1)}),
			edge.KindChunk:   one(ignored, strays),
			edge.KindCurrent: one(edge.RefusedMixed, current(10, refs("x y", 1))),
		},
		"unsigned": {
			edge.KindWhole:   one(edge.RefusedUnsigned, whole(12, refs("a b c d e", 2, unsign))),
			edge.KindDelta:   one(edge.RefusedUnsigned, put(12, refs("a", 2, unsign))),
			edge.KindChunk:   one(ignored, strays),
			edge.KindCurrent: one(edge.RefusedMixed, current(10, refs("a b c d e", 1, unsign))),
		},
		"signed with the wrong key": {
			edge.KindWhole:   one(edge.RefusedUnsigned, whole(12, refs("a b c d e", 2, other))),
			edge.KindDelta:   one(edge.RefusedUnsigned, put(12, refs("a", 2, other))),
			edge.KindChunk:   one(ignored, strays),
			edge.KindCurrent: one(edge.RefusedMixed, current(10, refs("a b c d e", 1, other))),
		},
		"truncated": {
			edge.KindWhole:   one(edge.RefusedMixed, &edge.Whole{At: whole12.At, Functions: whole12.Functions[:4]}),
			edge.KindDelta:   one(edge.RefusedMixed, &edge.Delta{From: put12.From, At: put12.At}),
			edge.KindChunk:   one(edge.RefusedContent, &edge.Chunk{Revision: large.Revision, Total: 100, Data: text[:100]}),
			edge.KindCurrent: one(ignored, &edge.Current{}),
		},
		"extra data": {
			edge.KindWhole:   one(edge.RefusedMalformed, &edge.Whole{At: whole12.At, Functions: append(refs("a b c d e", 2), refs("e", 3)...)}),
			edge.KindDelta:   one(edge.RefusedMalformed, &edge.Delta{From: put12.From, At: put12.At, Put: put12.Put, Remove: []edge.Removal{{Name: "a"}}}),
			edge.KindChunk:   one(edge.RefusedContent, piece(0, append(slices.Clone(text), make([]byte, 10)...))),
			edge.KindCurrent: one(ignored, &edge.Current{At: edge.Position{Epoch: strings.Repeat("e", 100_000), Digest: strings.Repeat("d", 100_000)}}),
		},
		"mass delete": {
			edge.KindWhole: one(edge.RefusedEmptying, whole(12, refs("a b", 1))),
			edge.KindDelta: one(edge.RefusedEmptying, &edge.Delta{From: put12.From, At: at("e", 12, refs("a b", 1)),
				Remove: []edge.Removal{{Name: "c"}, {Name: "d"}, {Name: "e", Purge: true}}}),
			edge.KindChunk:   one(edge.RefusedContent, &edge.Chunk{Revision: large.Revision}),
			edge.KindCurrent: one(edge.RefusedMixed, current(10, nil)),
		},
		"duplicate": {
			edge.KindWhole:   one(ignored, whole(10, held), whole(10, held)),
			edge.KindDelta:   one(ignored, &edge.Delta{From: at("e", 9, nil), At: at("e", 10, held), Put: held}),
			edge.KindChunk:   one(ignored, first, first),
			edge.KindCurrent: one(ignored, current(10, held), current(10, held)),
		},
		"gap": {
			edge.KindWhole:   one(edge.RefusedMalformed, &edge.Whole{At: edge.Position{Epoch: "e", Revision: 12}, Functions: held}),
			edge.KindDelta:   one(ignored, &edge.Delta{From: at("e", 12, refs("a b c d e", 2)), At: at("e", 13, refs("a b c d e", 3)), Put: refs("a b c d e", 3)}),
			edge.KindChunk:   one(ignored, first, third, piece(-5, text[:100])),
			edge.KindCurrent: one(ignored, current(12, refs("a b c d e", 2))),
		},
	}
}

func TestNoAttackMovesANode(t *testing.T) {
	for name, row := range attacks() {
		for _, kind := range []edge.Kind{edge.KindWhole, edge.KindDelta, edge.KindChunk, edge.KindCurrent} {
			t.Run(fmt.Sprintf("%s %s", name, kind), func(t *testing.T) {
				cell, ok := row[kind]
				if !ok {
					t.Fatal("nobody tries that")
				}
				v := newVictim(t, kind == edge.KindChunk)
				v.suffer(cell)
				v.recover()
			})
		}
	}
}

// A victim is a node that is attacked.
type victim struct {
	t       *testing.T
	replica *edge.Replica
}

func newVictim(t *testing.T, fetching bool) *victim {
	v := &victim{t, edge.NewReplica(edge.Synced{At: at("e", 10, held), Functions: edge.Plain(held)}, edge.Policy{Trust: trust})}
	v.replica.Begin()
	if fetching {
		want := append(slices.Clone(held), signed(ref(large, false)))
		out := v.replica.Step(&edge.Whole{At: at("e", 11, want), Functions: edge.Plain(want)})
		if len(out.Send) != 1 || text(out.Send[0]) != text(&edge.Fetch{Revision: large.Revision}) {
			t.Fatalf("a node that lacks f says %v", out.Send)
		}
	}
	return v
}

// suffer has the victim take the messages of an attack, and looks at its answers.
func (v *victim) suffer(cell attack) {
	v.t.Helper()
	refused := 0
	for _, m := range cell.messages {
		data, err := edge.Encode(m)
		if err == nil {
			m, err = edge.Decode(data)
		}
		if err != nil {
			v.t.Fatal(err)
		}
		out := v.replica.Step(m)
		if out.Apply != nil || len(out.Send) > 1 {
			v.t.Fatalf("it answers %v, and applies %+v", out.Send, out.Apply)
		}
		for _, m := range out.Send {
			r, ok := m.(*edge.Refusal)
			if !ok {
				continue
			}
			refused++
			if r.Reason != cell.want || r.At != at("e", 10, held) || r.Why == "" {
				v.t.Errorf("it refuses: %s; want %q", text(r), cell.want)
			}
		}
	}
	if cell.want != ignored && refused == 0 {
		v.t.Errorf("it refuses nothing, want %q", cell.want)
	}
}

// recover shows that the victim has what it had, and takes what is right.
func (v *victim) recover() {
	v.t.Helper()
	if got := v.replica.Synced(); got.At != at("e", 10, held) || edge.Digest(got.Functions) != got.At.Digest {
		v.t.Errorf("it is at %v now, with %v", got.At, got.Functions)
	}
	good := whole(20, refs("a b c d e", 4))
	out := v.replica.Step(good)
	if out.Apply == nil || len(out.Apply.Put) != 5 {
		v.t.Fatalf("after that it does not take what is right: %v, %+v", out.Send, out.Apply)
	}
	said := v.replica.Applied(edge.Result{})
	if len(said) != 1 || text(said[0]) != text(&edge.At{At: good.At}) {
		v.t.Errorf("after that it says %v, want that it is at %v", said, good.At)
	}
}

// What is cut off, or has something behind it, is no message.
func TestNoMessageIsReadThatIsCutOrLonger(t *testing.T) {
	for _, m := range samples() {
		data, err := edge.Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		for n := range data {
			if got, err := edge.Decode(data[:n]); err == nil {
				t.Errorf("the first %d bytes of %s are read as %s", n, data, text(got))
			}
		}
		for _, more := range []string{"{}", "x", "]", string(data)} {
			if got, err := edge.Decode(append(slices.Clone(data), more...)); err == nil {
				t.Errorf("%s and %q behind it are read as %s", data, more, text(got))
			}
		}
	}
}
