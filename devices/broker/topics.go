package broker

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// maxRoutes is how many topics' routes are remembered; then all are forgotten.
const maxRoutes = 4096

// A subscription is what one session, or the agent, wants.
type subscription struct {
	session     *session // nil: the agent
	filter      string   // as it was asked for
	qos         byte
	noLocal     bool
	asPublished bool
	id          int // of MQTT 5, or 0
}

// topics knows who wants which topic.
type topics struct {
	mu     sync.RWMutex
	root   node              // guarded by mu
	routes map[string]*route // guarded by mu
}

// A node is a level of the filters that were asked for.
type node struct {
	next map[string]*node
	subs []*subscription
}

// A route says where the messages of a topic go.
type route struct {
	topic  string
	wanted bool // by the agent
	to     []target
	groups [][]target    // of shared subscriptions: each message goes to one of each
	turn   atomic.Uint32 // of the groups' members
}

// A target is a session that wants a topic, by one or more subscriptions.
type target struct {
	session     *session
	qos         byte
	noLocal     bool
	asPublished bool
	ids         []int
}

func newTopics() *topics { return &topics{routes: map[string]*route{}} }

// add adds a subscription that is not there.
func (t *topics) add(sub *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.routes)
	n := &t.root
	_, path := unshare(sub.filter)
	for level := range strings.SplitSeq(path, "/") {
		if n.next == nil {
			n.next = map[string]*node{}
		}
		child := n.next[level]
		if child == nil {
			child = &node{}
			n.next[level] = child
		}
		n = child
	}
	n.subs = append(n.subs, sub)
}

// remove takes a subscription away.
func (t *topics) remove(sub *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.routes)
	_, path := unshare(sub.filter)
	t.root.remove(sub, path, true)
}

// remove reports whether the node is of no use any more.
func (n *node) remove(sub *subscription, path string, more bool) bool {
	if !more {
		n.subs = slices.DeleteFunc(n.subs, func(s *subscription) bool { return s == sub })
	} else {
		level, rest, more := strings.Cut(path, "/")
		if child := n.next[level]; child != nil && child.remove(sub, rest, more) {
			delete(n.next, level)
		}
	}
	return len(n.subs) == 0 && len(n.next) == 0
}

// route returns where messages of topic go.
func (t *topics) route(topic string) *route {
	t.mu.RLock()
	r := t.routes[topic]
	t.mu.RUnlock()
	if r != nil {
		return r
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r = t.findLocked(strings.Clone(topic)) // the clone keeps no packet alive
	if len(topic) > maxText {
		return r
	}
	if len(t.routes) >= maxRoutes {
		clear(t.routes)
	}
	t.routes[r.topic] = r
	return r
}

func (t *topics) findLocked(topic string) *route {
	r := &route{topic: topic}
	direct := map[*session]int{}
	groups := map[string]int{}
	t.root.find(topic, true, !strings.HasPrefix(topic, "$"), func(sub *subscription) {
		s := sub.session
		if s == nil {
			r.wanted = true
			return
		}
		if !s.rules.allow(topic, reading) {
			return
		}
		to := target{session: s, qos: sub.qos, noLocal: sub.noLocal, asPublished: sub.asPublished}
		if sub.id > 0 {
			to.ids = []int{sub.id}
		}
		if group, _ := unshare(sub.filter); group != "" {
			_, path := unshare(sub.filter)
			i, ok := groups[group+"/"+path]
			if !ok {
				i = len(r.groups)
				groups[group+"/"+path] = i
				r.groups = append(r.groups, nil)
			}
			r.groups[i] = append(r.groups[i], to)
			return
		}
		if i, ok := direct[s]; ok {
			r.to[i] = r.to[i].and(to)
			return
		}
		direct[s] = len(r.to)
		r.to = append(r.to, to)
	})
	return r
}

// and returns the target of both subscriptions: a message that several of them
// want is delivered once.
func (to target) and(other target) target {
	to.qos = max(to.qos, other.qos)
	to.noLocal = to.noLocal && other.noLocal
	to.asPublished = to.asPublished || other.asPublished
	to.ids = append(to.ids, other.ids...)
	return to
}

// find calls yield for each subscription that wants topic, whose levels from n
// on are in rest.
func (n *node) find(rest string, more, wild bool, yield func(*subscription)) {
	if all := n.next["#"]; all != nil && wild {
		for _, sub := range all.subs {
			yield(sub)
		}
	}
	if !more {
		for _, sub := range n.subs {
			yield(sub)
		}
		return
	}
	level, rest, more := strings.Cut(rest, "/")
	if child := n.next[level]; child != nil {
		child.find(rest, more, true, yield)
	}
	if child := n.next["+"]; child != nil && wild {
		child.find(rest, more, true, yield)
	}
}

// member returns whose turn it is in a group: of those that are connected the
// next one, else the next one.
func (r *route) member(group []target) target {
	turn := int(r.turn.Add(1) % uint32(len(group)))
	for i := range group {
		if to := group[(turn+i)%len(group)]; to.session.online.Load() {
			return to
		}
	}
	return group[turn]
}
