package cluster

import (
	"errors"
	"hash/fnv"
	"time"

	"golang.org/x/time/rate"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A Desk decides what a node does about the Function resources of its cluster:
// it is told what is seen and done, and says what to do next. It does no I/O and
// asks no clock, and is used by one goroutine.
//
// Until it was told the whole list of resources once, it removes nothing; until
// it knows the node's labels, it takes nothing up.
type Desk struct {
	node    string
	patient time.Duration // before it says for all what another node may say
	labels  map[string]string
	members []Member
	whole   bool // the list of resources was complete once
	files   map[string]*file
	has     map[string]edge.FunctionStatus // what the agent has, by name
	told    bool                           // has was told
	events  *rate.Limiter
}

// A file is what the desk knows about one resource.
type file struct {
	resource Resource
	function *functions.Function // nil if the resource is not valid
	refusal  string              // why it is not valid, or why the agent does not take it; ""
	final    bool                // the agent will not take it
	retry    time.Time           // not before
	fails    int
	patched  time.Time  // when the status was last written, or was to be
	missed   int        // how often in a row it could not be
	apart    time.Time  // since when what is said for all is out of date
	told     NodeStatus // what the last event was about
}

// The pace at which a desk works.
const (
	patchEvery = 2 * time.Second // for one function
	retryFirst = 5 * time.Second
	retryMost  = 5 * time.Minute
	eventEvery = 10 * time.Second
	eventBurst = 20
)

// NewDesk returns the desk of a node.
func NewDesk(node string) *Desk {
	h := fnv.New32a()
	h.Write([]byte(node))
	return &Desk{
		node:    node,
		patient: patchEvery/4 + time.Duration(h.Sum32()%2000)*time.Millisecond,
		files:   map[string]*file{},
		has:     map[string]edge.FunctionStatus{},
		events:  rate.NewLimiter(rate.Every(eventEvery), eventBurst),
	}
}

// See tells that the resource is there, as given.
func (d *Desk) See(r Resource) {
	f := d.files[r.Metadata.Name]
	if f == nil || f.resource.Metadata.UID != r.Metadata.UID {
		f = &file{}
		d.files[r.Metadata.Name] = f
	}
	if f.resource.Metadata.ResourceVersion != r.Metadata.ResourceVersion {
		f.missed = 0 // the API server is there
	}
	changed := f.resource.Metadata.Generation != r.Metadata.Generation || !sameLabels(f.resource.Metadata.Labels, r.Metadata.Labels)
	f.resource = r
	if !changed {
		return
	}
	f.function, f.refusal, f.final, f.fails, f.retry = nil, "", false, 0, time.Time{}
	made, err := r.Function()
	if err != nil {
		f.refusal = err.Error()
		return
	}
	f.function = &made
}

func sameLabels(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, value := range a {
		if other, ok := b[name]; !ok || other != value {
			return false
		}
	}
	return true
}

// Gone tells that there is no such resource any more.
func (d *Desk) Gone(name string) { delete(d.files, name) }

// Whole tells that every resource there is was told.
func (d *Desk) Whole() { d.whole = true }

// Labels tells the node's own labels.
func (d *Desk) Labels(labels map[string]string) { d.labels = nonNil(labels) }

// Members tells which nodes have an agent, this one included.
func (d *Desk) Members(all []Member) { d.members = all }

// Functions tells what the agent has.
func (d *Desk) Functions(all []edge.FunctionStatus) {
	d.told = true
	d.has = make(map[string]edge.FunctionStatus, len(all))
	for _, s := range all {
		d.has[s.Name] = s
	}
}

// An Action is one thing to do: one of its fields is set, and Name always.
type Action struct {
	Name   string
	Put    *functions.Function // hand it to the agent
	Remove bool                // from the agent; its state stays
	Patch  *Patch              // of the resource's status
	Event  *Event              // about the resource
}

// A Patch changes a status. Absent is what stays, and a node that is nil goes.
type Patch struct {
	Version    string // the resource must still have it; "" for any
	Generation int64
	Revision   string
	Nodes      map[string]*NodeStatus
	Conditions []Condition // all of them; nil: they stay
}

// An Event is what kubectl describe shows below a resource.
type Event struct {
	Resource Resource
	Warning  bool
	Reason   string
	Message  string
}

// Next returns what is to be done now, and when to ask again at the latest if
// nothing is told before: zero for never. What was to be done and was not is
// asked for again.
func (d *Desk) Next(now time.Time) (todo []Action, again time.Time) {
	if !d.told {
		return nil, time.Time{}
	}
	sooner := func(t time.Time) {
		if !t.IsZero() && (again.IsZero() || t.Before(again)) {
			again = t
		}
	}
	for _, name := range sorted(d.files) {
		f := d.files[name]
		if d.labels == nil {
			break
		}
		a, wait := d.take(name, f, now)
		sooner(wait)
		if len(a) == 0 { // else its status is written when that is done
			a, wait = d.write(name, f, now)
			sooner(wait)
		}
		todo = append(todo, a...)
	}
	if d.whole {
		for _, name := range sorted(d.has) {
			if d.files[name] == nil && d.has[name].Origin == edge.FromCluster {
				todo = append(todo, Action{Name: name, Remove: true})
			}
		}
	}
	return todo, again
}

// take has the agent take up a resource, or let go of it.
func (d *Desk) take(name string, f *file, now time.Time) ([]Action, time.Time) {
	has, there := d.has[name]
	ours := there && has.Origin == edge.FromCluster
	switch {
	case f.function == nil:
		return nil, time.Time{}
	case !runs(f.function.Manifest.Spec.Placement, d.labels):
		f.refusal = ""
		if ours {
			return []Action{{Name: name, Remove: true}}, time.Time{}
		}
		return nil, time.Time{}
	case there && !ours:
		f.refusal = "the hub defines a function of that name too: give one of them another name"
		return nil, time.Time{}
	case there && has.Revision == f.function.Revision:
		f.refusal = ""
		return nil, time.Time{}
	case f.final:
		return nil, time.Time{}
	case now.Before(f.retry):
		return nil, f.retry
	}
	f.refusal = ""
	return []Action{{Name: name, Put: f.function}}, time.Time{}
}

// Put tells what the agent answered when it was given a function.
func (d *Desk) Put(name string, revision functions.Revision, err error, now time.Time) {
	f := d.files[name]
	if f == nil || f.function == nil || f.function.Revision != revision {
		return
	}
	if err == nil {
		f.fails, f.retry = 0, now.Add(retryFirst) // should the agent not have it by then
		return
	}
	f.refusal = err.Error()
	if e, ok := errors.AsType[*edge.Error](err); ok && e.Code == edge.Invalid {
		f.final = true // the same would be refused again
		return
	}
	f.retry = now.Add(min(retryFirst<<min(f.fails, 10), retryMost))
	f.fails++
}

// Wrote tells what the API server answered to a patch, nil if it took it. What it
// did not take is asked for again, more and more seldom.
func (d *Desk) Wrote(name string, err error, now time.Time) {
	f := d.files[name]
	if f == nil {
		return
	}
	f.patched = now
	f.missed++
	if err == nil {
		f.missed = 0
	}
}
