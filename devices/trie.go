package devices

import "strings"

// A Trie finds the filters that match a topic, among many, each with a value.
// The zero Trie is empty. Once it is built, Match may be called from several
// goroutines: to change a trie in use, build another and swap them.
type Trie[V any] struct {
	root node[V]
}

// A node stands for the levels of a filter that lead to it.
type node[V any] struct {
	literals map[string]*node[V]
	one      *node[V]
	ends     []entry[V] // filters that end here
	rests    []entry[V] // filters that go on with a last # from here
}

type entry[V any] struct {
	filter Filter
	value  V
}

// Add puts v under f. The same filter may be added more than once, each time
// with a value of its own; the zero Filter is ignored.
func (t *Trie[V]) Add(f Filter, v V) {
	if len(f.levels) == 0 {
		return
	}
	n := &t.root
	for _, l := range f.levels {
		switch l.kind {
		case rest:
			n.rests = append(n.rests, entry[V]{f, v})
			return
		case one:
			if n.one == nil {
				n.one = &node[V]{}
			}
			n = n.one
		default:
			if n.literals == nil {
				n.literals = map[string]*node[V]{}
			}
			next := n.literals[l.text]
			if next == nil {
				next = &node[V]{}
				n.literals[l.text] = next
			}
			n = next
		}
	}
	n.ends = append(n.ends, entry[V]{f, v})
}

// Match calls visit for each filter that matches topic, as [Filter.Match] has
// it, with the filter's value and what it caught. The order is always the same
// for one trie, and has no meaning. Nothing is allocated but the captures.
func (t *Trie[V]) Match(topic string, visit func(V, []Capture)) {
	if !reserved(topic) {
		t.root.match(topic, topic, true, visit)
		return
	}
	first, left, more := strings.Cut(topic, "/")
	if next := t.root.literals[first]; next != nil {
		next.match(topic, left, more, visit)
	}
}

// match goes on with what is left of topic; more is false where nothing is,
// not even an empty level.
func (n *node[V]) match(topic, left string, more bool, visit func(V, []Capture)) {
	visitAll(n.rests, topic, visit)
	if !more {
		visitAll(n.ends, topic, visit)
		return
	}
	text, left, more := strings.Cut(left, "/")
	if next := n.literals[text]; next != nil {
		next.match(topic, left, more, visit)
	}
	if n.one != nil {
		n.one.match(topic, left, more, visit)
	}
}

func visitAll[V any](entries []entry[V], topic string, visit func(V, []Capture)) {
	for _, e := range entries {
		visit(e.value, e.filter.captures(topic))
	}
}

// covering counts the filters of t that match every topic that f matches.
func (t *Trie[V]) covering(f Filter) int {
	switch {
	case len(f.levels) == 0:
		return 0
	case f.levels[0].kind != literal || !reserved(f.levels[0].text):
		return t.root.covering(f.levels)
	}
	next := t.root.literals[f.levels[0].text]
	if next == nil {
		return 0
	}
	return next.covering(f.levels[1:])
}

func (n *node[V]) covering(levels []level) int {
	count := len(n.rests)
	if len(levels) == 0 {
		return count + len(n.ends)
	}
	l := levels[0]
	if next := n.literals[l.text]; next != nil && l.kind == literal {
		count += next.covering(levels[1:])
	}
	if n.one != nil && l.kind != rest {
		count += n.one.covering(levels[1:])
	}
	return count
}
