package agent

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"crypto/rand"

	"github.com/cespare/xxhash/v2"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// routes tell which triggers a topic concerns. They are never changed, only
// replaced.
type routes struct {
	trie    devices.Trie[route]
	filters []string // in MQTT's form, for the bus
}

// A route leads from a filter to a trigger.
type route struct {
	f       *function
	trigger int // index in the manifest
}

// reroute makes the routes anew from what is defined, and tells the buses.
func (a *Agent) reroute() {
	for _, e := range a.ears() {
		rt := a.route(e.shared)
		e.routes.Store(rt)
		e.bus.Subscribe(rt.filters)
	}
}

// route makes the routes of the cluster's ear, or of the node's own.
func (a *Agent) route(forCluster bool) *routes {
	a.mu.Lock()
	defer a.mu.Unlock()
	rt := &routes{}
	for _, f := range a.functions {
		if !f.removed.Load() {
			f.route(rt, forCluster)
		}
	}
	slices.Sort(rt.filters)
	rt.filters = slices.Compact(rt.filters)
	return rt
}

// route adds the function's triggers to rt, if that is the ear it is heard for with.
func (f *function) route(rt *routes, forCluster bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.plan.home == elsewhere || forCluster != (f.plan.home == shared) {
		return
	}
	for i, t := range f.plan.triggers {
		if t.spec.MQTT != nil {
			rt.trie.Add(t.filter, route{f, i})
			rt.filters = append(rt.filters, t.filter.MQTT())
		}
	}
}

// A hit is a trigger whose filter matched.
type hit struct {
	trigger  int
	captures []devices.Capture
}

// A hearing is one message while it is being matched. It lives on the bus's
// goroutine alone.
type hearing struct {
	devices.Message
	now      time.Time
	ear      *ear
	digest   uint64
	hops     int
	payload  any   // parsed, once parse was called
	invalid  error // why it could not be parsed
	isParsed bool
	takers   []taker
	id       string
}

// A taker is a function with the triggers of its that matched.
type taker struct {
	f    *function
	hits []hit
}

// parse returns the payload as expressions see it.
func (h *hearing) parse() (any, error) {
	if !h.isParsed {
		h.isParsed = true
		h.payload, h.invalid = functions.ParsePayload(h.Payload)
	}
	return h.payload, h.invalid
}

// scope returns what an expression over ev looks at, or why the payload cannot be
// parsed.
func (h *hearing) scope(ev *devices.Event, payload bool) (functions.Scope, *functions.Failure) {
	s := functions.Scope{Event: ev}
	if !payload {
		return s, nil
	}
	var err error
	if s.Payload, err = h.parse(); err != nil {
		return s, &functions.Failure{Code: functions.CodePayload, Message: "payload: " + err.Error()}
	}
	return s, nil
}

// hear takes one message from the bus. It never blocks: what cannot run now
// waits in its lane, and what waits too long goes to the inbox.
func (e *ear) hear(m devices.Message) {
	if e.deaf() && !m.Dup {
		return // it is not acknowledged, and will come again
	}
	a := e.a
	order := a.heard.Add(1)
	h := hearing{Message: m, ear: e, now: time.Now()}
	if h.Time.IsZero() {
		h.Time = h.now
	}
	e.routes.Load().trie.Match(m.Topic, h.hit)
	if len(h.takers) == 0 {
		if m.Ack != nil {
			m.Ack.Ack()
		}
		return
	}
	h.digest = digest(m.Topic, m.Payload)
	h.hops = a.loops.hops(h.digest, h.now)
	h.id = a.eventID(&h)
	if a.AckFirst && m.Ack != nil {
		m.Ack.Ack()
		h.Ack = nil
	}
	r := newReceipt(&e.load, len(h.takers)+1, h.Ack, len(h.Payload)) // the one more is ours: settled below, when all have it
	r.order = order
	for _, t := range h.takers {
		if len(t.hits) > 1 { // the trie has an order of its own
			slices.SortFunc(t.hits, func(x, y hit) int { return cmp.Compare(x.trigger, y.trigger) })
		}
		t.f.take(&h, t.hits, r)
	}
	r.settle()
	e.relieve()
}

func (h *hearing) hit(r route, captures []devices.Capture) {
	i := slices.IndexFunc(h.takers, func(t taker) bool { return t.f == r.f })
	if i < 0 {
		i = len(h.takers)
		h.takers = append(h.takers, taker{f: r.f})
	}
	h.takers[i].hits = append(h.takers[i].hits, hit{r.trigger, captures})
}

func (h *hearing) identity() store.Identity {
	if h.PacketID == 0 {
		return store.Identity{}
	}
	return store.Identity{Session: h.Session, PacketID: h.PacketID, Digest: h.digest}
}

// event returns the message as an event with what a trigger's filter caught.
func (h *hearing) event(captures []devices.Capture) devices.Event {
	return devices.Event{
		ID: h.id, Source: devices.MQTT, Topic: h.Topic, Payload: h.Payload, Time: h.Time,
		Captures: captures, QoS: h.QoS, Retained: h.Retained, Queued: h.Queued, Hops: h.hops,
	}
}

// eventID names a message. A packet of a kept session has the same id whenever
// it is repeated, also to another process, or to another node of a cluster: the
// session's name is the same for all of them.
func (a *Agent) eventID(h *hearing) string {
	if h.PacketID == 0 {
		return a.newID()
	}
	b := make([]byte, 0, len(h.Session)+24)
	b = append(b, h.Session...)
	b = append(b, '-')
	b = strconv.AppendUint(b, uint64(h.PacketID), 36)
	b = append(b, '-')
	b = strconv.AppendUint(b, h.digest, 36)
	return string(b)
}

// newID returns an id for an event or an invocation that no other has.
func (a *Agent) newID() string {
	b := make([]byte, 0, 24)
	b = append(b, a.boot...)
	b = append(b, '-')
	return string(strconv.AppendInt(b, a.ids.Add(1), 36))
}

func newBoot() string {
	var b [5]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// digest is xxHash64 of topic and payload, with the topic's length before it.
func digest(topic string, payload []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	var n [2]byte
	binary.LittleEndian.PutUint16(n[:], uint16(len(topic)))
	d.Write(n[:])
	d.WriteString(topic)
	d.Write(payload)
	return d.Sum64()
}
