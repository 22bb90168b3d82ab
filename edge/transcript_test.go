package edge_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

var update = flag.Bool("update", false, "write the answers of the transcripts anew")

// A scene is a hub and a node. Transcripts tell it what happens, and it writes below
// each line what the two say and do then. A position is written epoch/revision, with ~
// behind it where the node's functions are not those of a set. Lines of a transcript:
//
//	put NAME VERSION [BYTES]   the hub's definitions; one of so many bytes is fetched
//	remove NAME, purge NAME, disable NAME
//	confirm                    the operator confirms what the node loses
//	epoch NAME [ACCEPTS]       the hub begins an epoch, for which ACCEPTS is given up
//	save, restore              a copy of the hub's ledger is taken, or put back
//	tell                       the hub tells what it has now, if there is a session
//	connect, cut               the session
//	cut after N                the session ends when so many more messages have arrived
//	wait, go                   messages wait until go
//	tick                       BeatTime passes
//	reboot                     the node's program starts again, on what is stored
//	unfit NAME, full, hold WHY the node cannot run it, cannot store it the next time, takes nothing in; hold alone ends that
//	memory BYTES               how much the node keeps before it applies it, from the next reboot on
type scene struct {
	t       *testing.T
	out     strings.Builder
	hub     book
	saved   book
	feed    *edge.Feed
	replica *edge.Replica
	synced  edge.Synced
	policy  edge.Policy
	unfit   string
	held    string
	full    bool
	wait    bool
	names   map[functions.Revision]string
	left    int // messages until the session ends, or -1
	up      []edge.Message
	down    []edge.Message
}

// A book is what the hub of a scene remembers.
type book struct {
	at    edge.Position
	refs  []edge.Ref
	terms edge.Terms
}

func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("transcripts are %v, %v", files, err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			p := &scene{t: t, hub: book{at: edge.Position{Epoch: "e1"}}, names: map[functions.Revision]string{}, left: -1}
			p.policy.Held = func() string { return p.held }
			p.replica = edge.NewReplica(p.synced, p.policy)
			for line := range strings.Lines(string(text)) {
				if !strings.HasPrefix(line, "> ") {
					p.line(line)
				}
			}
			if got := p.out.String(); *update {
				if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("%s went otherwise:\n%s", name, got)
			}
		})
	}
}

func (p *scene) line(line string) {
	p.out.WriteString(line)
	words := strings.Fields(line)
	if len(words) == 0 || words[0] == "#" {
		return
	}
	words = append(words, "", "", "")
	if !p.hubLine(words) && !p.nodeLine(words) {
		p.t.Fatalf("nobody knows what that is: %s", line)
	}
	p.settle()
}

// hubLine does what a line says of the hub.
func (p *scene) hubLine(words []string) bool {
	h := &p.hub
	i := slices.IndexFunc(h.refs, func(r edge.Ref) bool { return r.Name == words[1] })
	if slices.Contains([]string{"put", "remove", "purge", "disable", "confirm"}, words[0]) {
		h.at.Revision++
	}
	if slices.Contains([]string{"put", "remove", "purge", "disable"}, words[0]) && i >= 0 {
		h.refs = slices.Delete(slices.Clone(h.refs), i, i+1)
	}
	switch words[0] {
	case "put", "disable":
		number, _ := strconv.Atoi(words[2])
		weight, _ := strconv.Atoi(words[3])
		r := ref(function(words[1], number, weight), true)
		r.Enabled = words[0] == "put"
		p.names[r.Revision] = version(*r.Function)
		h.refs = append(slices.Clone(h.refs), r)
	case "remove":
	case "purge":
		h.terms.Purged = map[string]int64{words[1]: h.at.Revision}
	case "confirm":
		h.terms.Confirmed = h.at.Revision
	case "epoch":
		h.at.Epoch, h.at.Revision, h.terms.Accepts = words[1], h.at.Revision+1, words[2:3]
	case "save":
		p.saved = p.hub
	case "restore":
		p.hub = p.saved
	case "tell":
		if p.feed != nil {
			p.down = append(p.down, p.feed.Want(p.set())...)
		}
	default:
		return false
	}
	return true
}

// nodeLine does what a line says of the node, or of what lies between.
func (p *scene) nodeLine(words []string) bool {
	switch words[0] {
	case "connect":
		p.feed, p.up = edge.NewFeed(p.set()), p.replica.Begin()
	case "cut":
		if p.left = -1; words[1] == "after" {
			p.left, _ = strconv.Atoi(words[2])
			return true
		}
		p.cut()
	case "wait", "go":
		p.wait = words[0] == "wait"
	case "tick":
		p.up = append(p.up, p.replica.Tick()...)
		p.down = append(p.down, p.feed.Tick()...)
	case "reboot":
		p.cut()
		p.replica = edge.NewReplica(p.synced, p.policy)
	case "unfit":
		p.unfit = words[1]
	case "full":
		p.full = true
	case "hold":
		p.held = strings.TrimSpace(strings.Join(words[1:], " "))
	case "memory":
		p.policy.Memory, _ = strconv.Atoi(words[1])
	default:
		return false
	}
	return true
}

func (p *scene) cut() { p.feed, p.up, p.down, p.left = nil, nil, nil, -1 }

func (p *scene) set() *edge.Set {
	s, err := edge.NewSet(p.hub.at, p.hub.refs, p.hub.terms)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// settle delivers messages until there are none.
func (p *scene) settle() {
	for !p.wait && p.feed != nil && len(p.up)+len(p.down) > 0 {
		if p.left == 0 {
			p.say("the session ends")
			p.cut()
			return
		}
		p.left = max(p.left-1, -1)
		if len(p.up) > 0 {
			m := p.up[0]
			p.up = p.up[1:]
			p.say("node: %s", p.describe(m))
			p.hear(m)
			continue
		}
		m := p.down[0]
		p.down = p.down[1:]
		p.say("hub: %s", p.describe(m))
		out := p.replica.Step(m)
		p.up = append(p.up, out.Send...)
		if out.Apply != nil {
			p.up = append(p.up, p.replica.Applied(p.apply(out.Apply))...)
		}
	}
}

func (p *scene) say(format string, args ...any) { fmt.Fprintf(&p.out, "> "+format+"\n", args...) }

func (p *scene) hear(m edge.Message) {
	p.down = append(p.down, p.feed.Heard(m)...)
	f, ok := m.(*edge.Fetch)
	if !ok {
		return
	}
	var text []byte
	for _, r := range p.hub.refs {
		if r.Revision == f.Revision {
			text = bundle(*r.Function)
		}
	}
	p.down = append(p.down, edge.Cut(text, *f))
}

func (p *scene) apply(a *edge.Apply) (res edge.Result) {
	if p.full {
		p.full = false
		p.say("node cannot store %s", place(a.Next.At))
		return edge.Result{Err: errors.New("the disk is full")}
	}
	var what []string
	for _, d := range a.Put {
		f := d.Function
		word := "put " + version(f)
		if !d.Enabled {
			word += " disabled"
		}
		if f.Name() == p.unfit {
			res.Unfit = append(res.Unfit, edge.Unfit{Name: f.Name(), Revision: f.Revision, Error: &edge.Error{Code: edge.Invalid, Message: "it does not load"}})
			word += " which does not load"
		}
		what = append(what, word)
	}
	for _, r := range a.Remove {
		what = append(what, removal(r))
	}
	p.synced = a.Next
	p.synced.Unfit = append(slices.Clone(a.Next.Unfit), res.Unfit...)
	p.say("node stores %s: %s", place(a.Next.At), strings.Join(what, ", "))
	return res
}

// describe says what a message says, in few words.
func (p *scene) describe(m edge.Message) string {
	switch m := m.(type) {
	case *edge.Whole:
		s := fmt.Sprintf("whole %s: %s", place(m.At), p.list(m.Functions, m.Purged))
		if m.Accepts != "" {
			s += ", accepts " + m.Accepts
		}
		return s + confirmed(m.Confirmed)
	case *edge.Delta:
		return fmt.Sprintf("delta %s to %s: %s", place(m.From), place(m.At), p.list(m.Put, m.Remove)) + confirmed(m.Confirmed)
	case *edge.Chunk:
		return fmt.Sprintf("chunk of %s: %d bytes at %d of %d", p.name(m.Revision), len(m.Data), m.Offset, m.Total)
	case *edge.Current:
		return "current " + place(m.At)
	case *edge.At:
		s := "at " + place(m.At)
		for _, u := range m.Unfit {
			s += fmt.Sprintf(", %s unfit: %s", p.name(u.Revision), u.Error)
		}
		return s
	case *edge.Refusal:
		return fmt.Sprintf("refuses %s %s, remains at %s: %s: %s", m.Of, place(m.To), place(m.At), m.Reason, m.Why)
	case *edge.Fetch:
		return fmt.Sprintf("fetch %s from %d", p.name(m.Revision), m.Offset)
	}
	return text(m)
}

func (p *scene) list(refs []edge.Ref, removals []edge.Removal) string {
	var words []string
	for _, r := range refs {
		word := p.name(r.Revision)
		if r.Function != nil {
			word += " with it"
		}
		if !r.Enabled {
			word += " disabled"
		}
		words = append(words, word)
	}
	for _, r := range removals {
		words = append(words, removal(r))
	}
	return strings.Join(words, ", ")
}

func removal(r edge.Removal) string {
	if r.Purge {
		return "purge " + r.Name
	}
	return "remove " + r.Name
}

func confirmed(yes bool) string {
	if yes {
		return ", confirmed"
	}
	return ""
}

func place(p edge.Position) string {
	s := fmt.Sprintf("%s/%d", p.Epoch, p.Revision)
	switch {
	case p.Epoch == "":
		return "nowhere"
	case p.Digest == "":
		return s + "~"
	}
	return s
}

// name says of which function a revision is, and which version of it.
func (p *scene) name(r functions.Revision) string {
	if name, ok := p.names[r]; ok {
		return name
	}
	return r.Short()
}

// version names a function of the fixtures and its version.
func version(f functions.Function) string {
	if f.Code == "" {
		return f.Name() + " as it is"
	}
	number, _, _ := strings.Cut(strings.TrimPrefix(f.Code, "export default () => "), "/")
	return f.Name() + "@" + number
}
