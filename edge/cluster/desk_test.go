package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/kube"
	"github.com/sedge-iot/sedge/functions"
)

var update = flag.Bool("update", false, "write the answers of the transcripts anew")

// specs are what transcripts call by a word.
var specs = map[string]string{
	"good":   `{"runtime":"javascript","source":{"inline":"export function handle() {}"},"triggers":[{"mqtt":{"topic":"a"}}]}`,
	"better": `{"runtime":"javascript","source":{"inline":"export function handle() {}"},"triggers":[{"mqtt":{"topic":"b"}}]}`,
	"home":   `{"runtime":"javascript","source":{"inline":"export function handle() {}"},"triggers":[{"mqtt":{"topic":"a"}}],"placement":{"nodes":{"site":"home"}}}`,
	"wrong":  `{"runtime":"javascript","source":{"inline":"export function handle() {}"},"triggers":[{"mqtt":{"topic":"a/#/b","when":"payload.x ="}}]}`,
	"path":   `{"runtime":"javascript","source":{"path":"index.js"},"triggers":[{"mqtt":{"topic":"a"}}]}`,
	"large":  `{"runtime":"javascript","source":{"inline":"export function handle() {} // ` + strings.Repeat("x", 400<<10) + `"},"triggers":[{"mqtt":{"topic":"a"}}]}`,
}

// A play is a desk with an API server and an agent in memory. Transcripts tell
// it what happens, and it writes below each line what the desk wants done, which
// it then does. Lines of a transcript:
//
//	has NAME SPEC [ORIGIN]     the agent has the function already
//	labels [NAME=VALUE]        what the node's labels are
//	members NODE[:NAME=VALUE]… which nodes have an agent; one in brackets gives no sign of life
//	see NAME GENERATION SPEC   a resource is there
//	gone NAME                  it is not any more
//	whole                      the first list is complete
//	phase NAME PHASE [REASON]  how the agent says the function is
//	refuse TEXT, fail TEXT     what the agent answers from now on; without text it takes all
//	away, back                 the API server
//	node NAME NODE GENERATION SPEC PHASE   what another node writes
//	wait TIME                  time passes
type play struct {
	t       *testing.T
	desk    *Desk
	now     time.Time
	out     strings.Builder
	agent   map[string]edge.FunctionStatus
	server  map[string]Resource
	version int
	refuse  error
	away    bool
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
			p := &play{t: t, desk: NewDesk("pi-1"), now: time.Unix(0, 0).UTC(), agent: map[string]edge.FunctionStatus{}, server: map[string]Resource{}}
			p.desk.Functions(nil)
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

func (p *play) line(line string) {
	p.out.WriteString(line)
	words := strings.Fields(line)
	if len(words) == 0 || words[0] == "#" {
		return
	}
	if words[0] == "wait" {
		d, err := time.ParseDuration(words[1])
		p.check(err)
		p.pass(p.now.Add(d))
		return
	}
	p.do(words)
	p.desk.Functions(slices.Collect(maps.Values(p.agent)))
	p.settle()
}

func (p *play) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// pass lets time pass until then, with a stop whenever the desk wants one.
func (p *play) pass(then time.Time) {
	for {
		again := p.settle()
		if again.IsZero() || again.After(then) {
			p.now = then
			p.settle()
			return
		}
		p.now = again
	}
}

// settle does what the desk wants until it wants nothing, and returns when it
// wants to be asked again.
func (p *play) settle() time.Time {
	for range 100 {
		todo, again := p.desk.Next(p.now)
		if len(todo) == 0 {
			return again
		}
		for _, a := range todo {
			p.act(a)
		}
		p.desk.Functions(slices.Collect(maps.Values(p.agent)))
	}
	p.t.Fatal("the desk never rests")
	return time.Time{}
}

func (p *play) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	fmt.Fprintf(&p.out, "> %v %s\n", p.now.Sub(time.Unix(0, 0)), strings.ReplaceAll(strings.TrimSpace(line), "\n", "; "))
}

func (p *play) act(a Action) {
	switch {
	case a.Put != nil:
		p.say("put %s %s", a.Name, p.word(a.Put.Revision))
		if p.refuse == nil {
			p.agent[a.Name] = edge.FunctionStatus{Name: a.Name, Revision: a.Put.Revision, Phase: edge.Asleep, Origin: edge.FromCluster}
		}
		p.desk.Put(a.Name, a.Put.Revision, p.refuse, p.now)
	case a.Remove:
		p.say("remove %s", a.Name)
		delete(p.agent, a.Name)
	case a.Event != nil:
		kind := "normal"
		if a.Event.Warning {
			kind = "warning"
		}
		p.say("event %s %s %s: %s", a.Name, kind, a.Event.Reason, p.words(a.Event.Message))
	case a.Patch != nil:
		p.patch(a.Name, a.Patch)
	}
}

func (p *play) patch(name string, patch *Patch) {
	r := p.server[name]
	if p.away {
		p.say("status %s: nobody answers", name)
		p.desk.Wrote(name, errors.New("away"), p.now)
		return
	}
	p.desk.Wrote(name, nil, p.now)
	body, err := json.Marshal(patch.Body())
	p.check(err)
	r.Status = merged(p.t, r.Status, body)
	for _, node := range sorted(patch.Nodes) {
		if s := patch.Nodes[node]; s == nil {
			p.say("status %s of %s: gone", name, node)
		} else {
			p.say("status %s of %s: %d %s %s %s", name, node, s.Generation, p.words(s.Revision), s.Phase, s.Reason)
		}
	}
	for _, c := range patch.Conditions {
		p.say("status %s %s=%s since %v, %s %s", name, c.Type, c.Status, c.Time.Sub(time.Unix(0, 0)), c.Reason, c.Message)
	}
	p.write(r)
}

// merged patches a status as the API server does.
func merged(t *testing.T, s Status, body []byte) Status {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	var patch struct{ Status map[string]any }
	if err := errors.Join(json.Unmarshal(text, &tree), json.Unmarshal(body, &patch)); err != nil {
		t.Fatal(err)
	}
	merge(tree, patch.Status)
	if text, err = json.Marshal(tree); err != nil {
		t.Fatal(err)
	}
	var after Status
	if err := json.Unmarshal(text, &after); err != nil {
		t.Fatal(err)
	}
	return after
}

func merge(into, patch map[string]any) {
	for key, value := range patch {
		below, isMap := value.(map[string]any)
		old, wasMap := into[key].(map[string]any)
		switch {
		case value == nil:
			delete(into, key)
		case isMap && wasMap:
			merge(old, below)
		default:
			into[key] = value
		}
	}
}

func (p *play) write(r Resource) {
	p.version++
	r.Metadata.ResourceVersion = strconv.Itoa(p.version)
	p.server[r.Metadata.Name] = r
	if !p.away {
		p.desk.See(r)
	}
}

// resource returns the resource of that name with that spec.
func (p *play) resource(name, generation, spec string) Resource {
	n, err := strconv.ParseInt(generation, 10, 64)
	p.check(err)
	text, ok := specs[spec]
	if !ok {
		p.t.Fatalf("there is no spec %q", spec)
	}
	return Resource{TypeMeta: kube.TypeMeta{APIVersion: functions.APIVersion, Kind: "Function"}, Metadata: kube.Meta{Name: name, UID: name, Generation: n}, Spec: json.RawMessage(text)}
}

func (p *play) revision(name, spec string) functions.Revision {
	f, err := p.resource(name, "1", spec).Function()
	p.check(err)
	return f.Revision
}

// words replaces the digits of revisions by what their specs are called.
func (p *play) words(text string) string {
	for name := range specs {
		for _, function := range []string{"f", "g"} {
			if f, err := p.resource(function, "1", name).Function(); err == nil {
				text = strings.ReplaceAll(text, f.Revision.Short(), name)
			}
		}
	}
	return text
}

func (p *play) word(r functions.Revision) string { return p.words(r.Short()) }

func (p *play) do(words []string) {
	rest := strings.Join(words[1:], " ")
	switch words[0] {
	case "has":
		origin := edge.FromCluster
		if len(words) > 3 {
			origin = ""
		}
		p.agent[words[1]] = edge.FunctionStatus{Name: words[1], Revision: p.revision(words[1], words[2]), Phase: edge.Asleep, Origin: origin}
	case "labels":
		p.desk.Labels(labelsOf(words[1:]))
	case "members":
		p.members(words[1:])
	case "see":
		r := p.resource(words[1], words[2], words[3])
		r.Status = p.server[words[1]].Status
		p.write(r)
	case "gone":
		delete(p.server, words[1])
		p.desk.Gone(words[1])
	case "whole":
		p.desk.Whole()
	case "phase":
		s := p.agent[words[1]]
		s.Phase, s.Reason = edge.Phase(words[2]), strings.Join(words[3:], " ")
		p.agent[words[1]] = s
	case "refuse":
		p.refuse = nil
		if rest != "" {
			p.refuse = &edge.Error{Code: edge.Invalid, Message: rest}
		}
	case "fail":
		p.refuse = errors.New(rest)
	case "away":
		p.away = true
	case "back":
		p.away = false
		for _, name := range sorted(p.server) {
			p.desk.See(p.server[name])
		}
	case "node":
		n, err := strconv.ParseInt(words[3], 10, 64)
		p.check(err)
		r := p.server[words[1]]
		r.Status.Nodes = maps.Clone(r.Status.Nodes)
		r.Status.Nodes[words[2]] = NodeStatus{Generation: n, Revision: p.revision(words[1], words[4]).Short(), Phase: words[5], Time: p.now}
		p.write(r)
	default:
		p.t.Fatalf("what is %q?", words[0])
	}
}

func (p *play) members(words []string) {
	var all []Member
	for _, w := range words {
		name, inner := strings.CutPrefix(w, "[")
		name, labels, _ := strings.Cut(strings.TrimSuffix(name, "]"), ":")
		all = append(all, Member{Node: name, Labels: labelsOf(strings.Fields(labels)), Fresh: !inner})
	}
	p.desk.Members(all)
}

func labelsOf(pairs []string) map[string]string {
	labels := map[string]string{}
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		labels[name] = value
	}
	return labels
}

func TestAResourceIsTheFunctionThatItWasMadeOf(t *testing.T) {
	for name := range specs {
		f, err := (&play{t: t}).resource("f", "1", name).Function()
		if err != nil {
			continue // those that are not valid are in the transcripts
		}
		made, err := NewResource(f)
		if err != nil {
			t.Fatal(err)
		}
		again, err := made.Function()
		if err != nil || again.Revision != f.Revision {
			t.Errorf("%s: comes back as %s, %v, want %s", name, again.Revision.Short(), err, f.Revision.Short())
		}
	}
	f := functions.Function{Code: strings.Repeat("x", MaxCode+1)}
	if _, err := NewResource(f); err == nil || !strings.Contains(err.Error(), "at most 900000 fit") {
		t.Errorf("code that is too large: %v", err)
	}
}

func FuzzResource(f *testing.F) {
	for name, spec := range specs {
		if name != "large" {
			f.Add([]byte(spec))
		}
	}
	f.Fuzz(func(t *testing.T, spec []byte) {
		r := Resource{TypeMeta: kube.TypeMeta{APIVersion: functions.APIVersion, Kind: "Function"}, Metadata: kube.Meta{Name: "f"}, Spec: bytes.Clone(spec)}
		made, err := r.Function()
		if err != nil {
			return
		}
		if err := made.Verify(); err != nil {
			t.Errorf("%s: is no function: %v", spec, err)
		}
	})
}
