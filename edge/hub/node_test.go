package hub_test

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// node is a member.Agent that keeps everything in maps. Code that holds BROKEN does
// not load; a function fails for the payload "fail", and the node itself for "break".
type node struct {
	mu      sync.Mutex // guards all below
	defined map[string]edge.Definition
	waiting map[string]int
	state   map[string]map[string]edge.StateEntry
	version int64
	dead    []edge.DeadLetter
	logs    []edge.LogLine
	spoken  chan struct{} // closed and replaced when a line is added
	follow  int           // how many are following
	invoked chan struct{} // gets a token when a run is held
	release chan struct{} // ends a run that is held
	onTry   func()        // or nil
	synced  edge.Synced
	reports map[string]edge.FunctionReport // what differs from what is told of a function that rests
	checks  []edge.Check
	quota   int // bytes of all values of a function
}

func newNode() *node {
	return &node{
		defined: map[string]edge.Definition{}, waiting: map[string]int{}, reports: map[string]edge.FunctionReport{}, state: map[string]map[string]edge.StateEntry{},
		spoken: make(chan struct{}), invoked: make(chan struct{}, 1), release: make(chan struct{}), quota: 1 << 20,
		checks: []edge.Check{{Name: "broker", OK: true}, {Name: "store", OK: true}},
	}
}

func loads(f functions.Function) *edge.Error {
	if strings.Contains(f.Code, "BROKEN") {
		return &edge.Error{Code: edge.Invalid, Message: f.Name() + " does not load: line 1"}
	}
	return nil
}

func (n *node) Try(ctx context.Context, f functions.Function) error {
	n.mu.Lock()
	onTry := n.onTry
	n.mu.Unlock()
	if onTry != nil {
		onTry()
	}
	if err := loads(f); err != nil {
		return err
	}
	return nil
}

func (n *node) Synced() edge.Synced {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.synced
}

func (n *node) Apply(ctx context.Context, put []edge.Definition, remove []edge.Removal, next edge.Synced) (unfit []edge.Unfit, discarded map[string]int, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	discarded = map[string]int{}
	for _, d := range put {
		name := d.Function.Name()
		if d.Function.Code == "" { // it is here already
			was := n.defined[name]
			d.Function = was.Function
		}
		if err := loads(d.Function); err != nil {
			unfit = append(unfit, edge.Unfit{Name: name, Revision: d.Function.Revision, Error: err})
			continue
		}
		n.defined[name] = d
	}
	for _, r := range remove {
		delete(n.defined, r.Name)
		if r.Purge {
			delete(n.state, r.Name)
		}
		discarded[r.Name] = n.waiting[r.Name]
		delete(n.waiting, r.Name)
	}
	next.Unfit = unfit
	n.synced = next
	return unfit, discarded, nil
}

func (n *node) Reports() (list []edge.FunctionReport) {
	for _, s := range n.Functions() {
		n.mu.Lock()
		r := n.reports[s.Name]
		n.mu.Unlock()
		r.Name, r.Waiting = s.Name, s.Waiting
		if r.Revision == "" {
			r.Revision = s.Revision
		}
		if r.Phase == "" {
			r.Phase = s.Phase
		}
		list = append(list, r)
	}
	return list
}

// has returns a function as the node has it.
func (n *node) has(name string) edge.Definition {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.defined[name]
}

func (n *node) missing(name string) error {
	return &edge.Error{Code: edge.NotFound, Message: "there is no function " + name + " on this node"}
}

func (n *node) Functions() []edge.FunctionStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []edge.FunctionStatus
	for _, name := range slices.Sorted(maps.Keys(n.defined)) {
		d := n.defined[name]
		phase := edge.Asleep
		if !d.Enabled {
			phase = edge.Disabled
		}
		list = append(list, edge.FunctionStatus{
			Name: name, Revision: d.Function.Revision, Runtime: d.Function.Manifest.Spec.Runtime, Phase: phase,
			Triggers: []string{"mqtt a/{device}"}, Waiting: n.waiting[name],
		})
	}
	return list
}

func (n *node) Invoke(ctx context.Context, name string, in edge.Invoke) (edge.Invoked, error) {
	switch string(in.Payload) {
	case "break":
		return edge.Invoked{}, fmt.Errorf("a secret of the house")
	case "fail":
		return edge.Invoked{Invocation: "i1", Error: &functions.Failure{Code: functions.CodeThrown, Message: "thrown"}}, nil
	case "hold":
		n.invoked <- struct{}{}
		<-n.release
		return edge.Invoked{Invocation: "held"}, ctx.Err()
	case "wait":
		<-ctx.Done()
		return edge.Invoked{}, ctx.Err()
	}
	return edge.Invoked{Invocation: "i1", Returned: fmt.Sprintf("%q", in.Payload), Published: []string{in.Topic}}, nil
}

// say adds a line of a log and wakes who follows.
func (n *node) say(function, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.logs = append(n.logs, edge.LogLine{Time: time.Now().UTC(), Function: function, Level: functions.LevelInfo, Text: text})
	close(n.spoken)
	n.spoken = make(chan struct{})
}

func (n *node) Logs(ctx context.Context, q edge.Query) iter.Seq[edge.LogLine] {
	return func(yield func(edge.LogLine) bool) {
		n.following(+1)
		defer n.following(-1)
		n.mu.Lock()
		next := 0
		if q.Last >= 0 {
			next = max(0, len(n.logs)-q.Last)
		}
		n.mu.Unlock()
		for {
			n.mu.Lock()
			lines, spoken := slices.Clone(n.logs[next:]), n.spoken
			n.mu.Unlock()
			next += len(lines)
			for _, l := range lines {
				if (q.Function == "" || q.Function == l.Function) && !yield(l) {
					return
				}
			}
			if !q.Follow {
				return
			}
			select {
			case <-spoken:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (n *node) following(by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.follow += by
}

// followers returns how many are following.
func (n *node) followers() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.follow
}

func (n *node) Steps(ctx context.Context, q edge.Query) iter.Seq[edge.Step] {
	return func(yield func(edge.Step) bool) {
		for line := range n.Logs(ctx, q) {
			if !yield(edge.Step{Time: line.Time, Function: line.Function, What: edge.StepDone, Why: line.Text}) {
				return
			}
		}
	}
}

func (n *node) Dead(ctx context.Context, q edge.Query) ([]edge.DeadLetter, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []edge.DeadLetter
	for _, d := range n.dead {
		if d.ID > q.After && (q.Function == "" || q.Function == d.Function) && len(list) < q.Last {
			list = append(list, d)
		}
	}
	return list, nil
}

func (n *node) Redrive(ctx context.Context, function string, ids []int64) (int, error) {
	return n.Discard(ctx, function, ids)
}

func (n *node) Discard(ctx context.Context, function string, ids []int64) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := len(n.dead)
	n.dead = slices.DeleteFunc(n.dead, func(d edge.DeadLetter) bool {
		return (function == "" || d.Function == function) && (len(ids) == 0 || slices.Contains(ids, d.ID))
	})
	return before - len(n.dead), nil
}

func (n *node) State(ctx context.Context, function, prefix, after string, limit int) ([]edge.StateEntry, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.defined[function]; !ok {
		return nil, n.missing(function)
	}
	var list []edge.StateEntry
	for key, e := range n.state[function] {
		if strings.HasPrefix(key, prefix) && key > after {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b edge.StateEntry) int { return cmp.Compare(a.Key, b.Key) })
	return list[:min(limit, len(list))], nil
}

func (n *node) StateGet(ctx context.Context, function, key string) (edge.StateEntry, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e, ok := n.state[function][key]
	if !ok {
		return e, &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("%s has no key %q", function, key)}
	}
	return e, nil
}

func (n *node) StatePut(ctx context.Context, function string, e edge.StateEntry, ifVersion *int64) (edge.StateEntry, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.defined[function]; !ok {
		return e, n.missing(function)
	}
	if err := n.conflict(function, e.Key, ifVersion); err != nil {
		return e, err
	}
	used := len(e.Value)
	for key, other := range n.state[function] {
		if key != e.Key {
			used += len(other.Value)
		}
	}
	if used > n.quota {
		return e, &edge.Error{Code: edge.NoRoom, Message: fmt.Sprintf("%s may keep %d bytes", function, n.quota)}
	}
	if n.state[function] == nil {
		n.state[function] = map[string]edge.StateEntry{}
	}
	n.version++
	e.Version = n.version
	n.state[function][e.Key] = e
	return e, nil
}

func (n *node) StateDelete(ctx context.Context, function, key string, ifVersion *int64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.conflict(function, key, ifVersion); err != nil {
		return err
	}
	if _, ok := n.state[function][key]; !ok {
		return &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("%s has no key %q", function, key)}
	}
	delete(n.state[function], key)
	return nil
}

func (n *node) conflict(function, key string, ifVersion *int64) error {
	is := n.state[function][key].Version
	if ifVersion == nil || *ifVersion == is {
		return nil
	}
	return &edge.Error{Code: edge.Conflict, Message: fmt.Sprintf("%q has version %d", key, is)}
}

func (n *node) Checks() []edge.Check {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.checks)
}
