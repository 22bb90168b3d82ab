package fleet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
	"github.com/sedge-iot/sedge/edge/rollout"
	"github.com/sedge-iot/sedge/edge/selector"
	"github.com/sedge-iot/sedge/functions"
)

// A plan says what each node is to run, as of one position of the ledger. It does no
// I/O. What it has worked out it keeps, so that nodes with the same labels, and those
// that run the same for other reasons, share it; so it is used from one goroutine at a
// time.
type plan struct {
	at      edge.Position
	places  []place           // by name
	single  bool              // nodes with the same labels may get different functions: some ask for a name, or roll out
	purged  map[string]int64  // functions of old whose state goes too, and at which revision
	givenUp []string          // epochs
	since   int64             // from this revision on all that was taken away was confirmed
	sinceOf map[string]int64  // the same, by node, where it is a later one
	matches map[string]match  // by labels, as text
	groups  map[string]*group // by what each place comes to
	former  map[end]*edge.Set // of earlier plans, that lead to what this one says too
}

// An end is what a set leads to, and how.
type end struct {
	digest    string
	confirmed bool // an operator knows what is lost on the way
}

// A place is a function and where it is to run.
type place struct {
	now      edge.Ref // with the function, if that is small
	before   edge.Ref // what runs where the rollout has not been; Name is "" for nothing
	fits     selector.Selector
	fitted   selector.Selector // of before
	named    bool              // one of them asks for a node's name
	rollout  *edge.Rollout     // under way, or nil
	revision func(node string) functions.Revision
}

// A choice is what becomes of a place on a node.
type choice byte

const (
	absent choice = iota
	current
	former // what was before the rollout
)

// A match is what labels lead to.
type match struct {
	now, before []bool // by place; false where that asks for a node's name
	group       *group // of all nodes with those labels, or nil if that is not all
}

// A group is what the nodes run that run the same.
type group struct {
	refs   []edge.Ref
	digest string             // of the refs
	sets   map[bool]*edge.Set // by whether an operator knows what their nodes lose on the way
}

// A looker gives the card of a revision of a function.
type looker func(name string, revision functions.Revision) (card, error)

// newPlan makes a plan of what the ledger says.
func newPlan(l ledger.Plan, look looker) (*plan, error) {
	p := &plan{
		at: l.At, purged: map[string]int64{}, givenUp: l.GivenUp, since: l.Removals.Since,
		sinceOf: map[string]int64{}, matches: map[string]match{}, groups: map[string]*group{},
	}
	for _, placed := range l.Functions {
		one, err := newPlace(placed, look)
		if err != nil {
			return nil, err
		}
		one.named = strings.Contains(one.fits.String()+one.fitted.String(), functions.HostLabel)
		p.single = p.single || one.named || one.rollout != nil
		p.places = append(p.places, one)
	}
	for _, r := range l.Removals.List {
		if r.Purge {
			p.purged[r.Name] = r.Position
		}
		switch {
		case r.Confirmed:
		case r.Node == "":
			p.since = max(p.since, r.Position)
		default:
			p.sinceOf[r.Node] = r.Position
		}
	}
	return p, nil
}

func newPlace(placed ledger.Placed, look looker) (one place, err error) {
	one = place{now: placed.Ref, before: placed.Before, rollout: placed.Rollout}
	where, err := selector.Parse(placed.Selector)
	if err != nil {
		return one, fmt.Errorf("place %s: %w", placed.Name, err)
	}
	c, err := look(placed.Name, placed.Revision)
	if err != nil {
		return one, fmt.Errorf("place %s: %w", placed.Name, err)
	}
	one.now.Function, one.fits = c.function, selector.And(selector.Of(c.at.Nodes), where)
	if one.rollout == nil {
		return one, nil
	}
	one.revision = rollout.Revisions(*one.rollout)
	if one.before.Name == "" {
		return one, nil
	}
	if c, err = look(placed.Name, one.before.Revision); err != nil {
		return one, fmt.Errorf("place what was before %s: %w", placed.Name, err)
	}
	one.before.Function, one.fitted = c.function, selector.And(selector.Of(c.at.Nodes), where)
	return one, nil
}

// labelText returns labels as a text that only the same labels have.
func labelText(labels map[string]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&b, "%q=%q,", key, labels[key])
	}
	return b.String()
}

// match returns what the labels of a node lead to.
func (p *plan) match(n *node) match {
	if m, ok := p.matches[n.text]; ok {
		return m
	}
	m := p.matching(n.is.Labels)
	if !p.single {
		m.group = p.grouped(p.choices(m, &n.is))
	}
	p.matches[n.text] = m
	return m
}

func (p *plan) matching(labels map[string]string) match {
	m := match{now: make([]bool, len(p.places)), before: make([]bool, len(p.places))}
	for i, one := range p.places {
		if !one.named {
			m.now[i], m.before[i] = one.fit(labels)
		}
	}
	return m
}

// fit reports whether a node with those labels is to run the function, and whether it was
// before the rollout.
func (one place) fit(labels map[string]string) (now, before bool) {
	return one.fits.Matches(labels), one.before.Name != "" && one.fitted.Matches(labels)
}

// has reports whether there is a function of that name.
func (p *plan) has(name string) bool {
	_, there := slices.BinarySearchFunc(p.places, name, func(one place, name string) int { return strings.Compare(one.now.Name, name) })
	return there
}

// fits reports whether the place at i is on a node by its placement and selector.
func (p *plan) fits(n *node, i int) bool {
	if p.places[i].named {
		return p.places[i].fits.Matches(n.is.PlacedBy())
	}
	return p.match(n).now[i]
}

// choices returns what a node gets, given what its labels lead to.
func (p *plan) choices(m match, is *edge.Node) []choice {
	var labels map[string]string
	list := make([]choice, len(p.places))
	for i := range p.places {
		one := &p.places[i]
		now, before := m.now[i], m.before[i]
		if one.named {
			if labels == nil {
				labels = is.PlacedBy()
			}
			now, before = one.fit(labels)
		}
		reached := one.rollout == nil || now && one.revision(is.ID) == one.now.Revision
		switch {
		case reached && now:
			list[i] = current
		case !reached && before:
			list[i] = former
		}
	}
	return list
}

func (p *plan) grouped(list []choice) *group {
	key := make([]byte, len(list))
	for i, c := range list {
		key[i] = byte(c)
	}
	g := p.groups[string(key)]
	if g == nil {
		refs := p.refs(list)
		g = &group{refs: refs, digest: edge.Digest(refs), sets: map[bool]*edge.Set{}}
		p.groups[string(key)] = g
	}
	return g
}

func (p *plan) refs(list []choice) (refs []edge.Ref) {
	for i, c := range list {
		switch c {
		case current:
			refs = append(refs, p.places[i].now)
		case former:
			refs = append(refs, p.places[i].before)
		}
	}
	return refs
}

// group returns what a node is to run.
func (p *plan) group(n *node) *group {
	m := p.match(n)
	if m.group != nil {
		return m.group
	}
	return p.grouped(p.choices(m, &n.is))
}

// follow has the plan go on with the sets of the one before, if any, where they say the same. So
// nodes that come one by one, each of which moves the ledger, are all at one
// position, from which one message leads them on.
func (p *plan) follow(before *plan) {
	if before == nil || before == p || before.at.Epoch != p.at.Epoch || !maps.Equal(before.purged, p.purged) || !slices.Equal(before.givenUp, p.givenUp) {
		return
	}
	p.former = map[end]*edge.Set{}
	for _, g := range before.groups {
		for _, confirmed := range []bool{false, true} {
			e := end{g.digest, confirmed}
			if s := cmp.Or(before.former[e], g.sets[confirmed]); s != nil {
				p.former[e] = s
			}
		}
	}
}

// set returns the set of a node that is where n.is.At says. What its way there takes
// away is confirmed if an operator knew of everything that was taken away since.
func (p *plan) set(n *node) (*edge.Set, error) {
	g, confirmed := p.group(n), p.confirmed(n)
	if s := p.former[end{g.digest, confirmed}]; s != nil && n.before(s) {
		return s, nil
	}
	if s := g.sets[confirmed]; s != nil {
		return s, nil
	}
	terms := edge.Terms{Purged: p.purged, Accepts: p.givenUp}
	if confirmed {
		terms.Confirmed = p.at.Revision
	}
	s, err := edge.NewSet(p.at, g.refs, terms)
	if err != nil {
		return nil, fmt.Errorf("of node %s: %w", n.is.Name, err)
	}
	g.sets[confirmed] = s
	return s, nil
}

// confirmed reports whether an operator knew of all that was taken away since the node
// last had all. Who gave an epoch up knew that what came after it goes.
func (p *plan) confirmed(n *node) bool {
	if n.is.At.Epoch == p.at.Epoch {
		return max(n.is.At.Revision, n.settled) >= max(p.since, p.sinceOf[n.is.ID])
	}
	return slices.Contains(p.givenUp, n.is.At.Epoch)
}
