package agent

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A plan is a definition made ready to be asked: filters parsed, expressions
// compiled. It belongs to one revision. Its gates and schedules change as
// events come; the function's mu guards them.
type plan struct {
	home         home
	triggers     []trigger
	orderBy      string                // device, topic, none; unless order is set
	order        *functions.Expression // or nil
	dedupe       *functions.Expression // or nil
	needsPayload bool                  // order or dedupe looks at it
	publish      []devices.Filter      // that may be published to
	output       string                // topic template of the output, or ""
}

// A trigger is one of the manifest's; what is not of its kind is not set.
type trigger struct {
	words          string // as people are told of it
	filter         devices.Filter
	qos            byte
	gate           *functions.Gate
	memory         []byte          // the gate's last snapshot, or nil
	delays         store.TimerKind // hold or debounce, if it does
	ignoreRetained bool
	spec           functions.Trigger

	schedule *functions.Schedule
	next     time.Time // of schedule
	last     *delivery // of schedule; or nil
}

// A home is where a function's events run.
type home uint8

const (
	here      home = iota // on this node
	shared                // on the node that leads the cluster
	elsewhere             // on another node, to which the function is pinned
)

// homeOf returns where the events of a function placed so run, seen from the node
// of that name.
func homeOf(p functions.Placement, node string) home {
	switch host := p.Host(); {
	case p.Shared():
		return shared
	case host != "" && host != node:
		return elsewhere
	}
	return here
}

// newPlan compiles a function, which has been validated, for the node of that name.
func newPlan(fn functions.Function, node string) (*plan, error) {
	spec := &fn.Manifest.Spec
	p := &plan{home: homeOf(spec.Placement, node), orderBy: spec.Delivery.Order}
	for i, t := range spec.Triggers {
		ready, err := newTrigger(t)
		if err != nil {
			return nil, fmt.Errorf("trigger %d: %w", i, err)
		}
		p.triggers = append(p.triggers, ready)
	}
	captures := spec.Captures()
	var err error
	if o := spec.Delivery.Order; !slices.Contains([]string{"", "device", "topic", "none"}, o) {
		if p.order, err = functions.CompileExpression(o, captures); err != nil {
			return nil, fmt.Errorf("order: %w", err)
		}
	}
	if d := spec.Delivery.Dedupe; d != nil {
		if p.dedupe, err = functions.CompileExpression(d.Key, captures); err != nil {
			return nil, fmt.Errorf("dedupe: %w", err)
		}
	}
	for _, x := range []*functions.Expression{p.order, p.dedupe} {
		p.needsPayload = p.needsPayload || x != nil && x.Uses("payload")
	}
	for _, topic := range spec.Permissions.Publish {
		filter, err := devices.ParseFilter(topic)
		if err != nil {
			return nil, fmt.Errorf("permission %q: %w", topic, err)
		}
		p.publish = append(p.publish, filter)
	}
	if spec.Output != nil {
		p.output = spec.Output.Topic
	}
	return p, nil
}

func newTrigger(t functions.Trigger) (trigger, error) {
	ready := trigger{spec: t, words: t.Words()}
	var err error
	switch {
	case t.MQTT != nil:
		ready.ignoreRetained = t.MQTT.Retained != "run"
		ready.qos = 1
		if t.MQTT.QoS != nil {
			ready.qos = *t.MQTT.QoS
		}
		ready.delays = store.TimerHold
		if t.MQTT.Debounce > 0 {
			ready.delays = store.TimerDebounce
		}
		if ready.filter, err = devices.ParseFilter(t.MQTT.Topic); err != nil {
			return ready, err
		}
		ready.gate, err = functions.NewGate(*t.MQTT)
	case t.Schedule != nil:
		ready.schedule, err = t.Schedule.Compile()
	}
	return ready, err
}

// reason says which condition a message did not meet.
func (t *trigger) reason(condition string) string {
	switch condition {
	case "when":
		return "when: " + t.spec.MQTT.When
	case "changed":
		return "changed: " + t.spec.MQTT.Changed + " is as before"
	case "throttle":
		return "throttle: less than " + time.Duration(t.spec.MQTT.Throttle).String() + " since the last run"
	case "hold":
		return "hold: has run, and was not false since"
	}
	return condition
}

// inherit takes over what the gates of the plan before remember, where the
// triggers hear the same.
func (p *plan) inherit(old *plan, lg *slog.Logger) {
	if old == nil {
		return
	}
	old.snapshot()
	for i := range min(len(p.triggers), len(old.triggers)) {
		t, o := &p.triggers[i], &old.triggers[i]
		if t.gate == nil || o.memory == nil || t.filter.String() != o.filter.String() {
			continue
		}
		if err := t.gate.Restore(o.memory); err != nil {
			lg.Warn("a trigger starts as if new", "trigger", t.words, "err", err)
		}
	}
}

// snapshot brings the triggers' memory up to date and reports whether it has
// changed.
func (p *plan) snapshot() (changed bool) {
	for i := range p.triggers {
		t := &p.triggers[i]
		if t.gate == nil {
			continue
		}
		if s := t.gate.Snapshot(); s != nil {
			t.memory, changed = s, true
		}
	}
	return changed
}

// mayPublish reports whether the manifest permits a publish to topic: the
// output's topic is permitted without being listed.
func (p *plan) mayPublish(topic string, captures []devices.Capture) bool {
	for _, filter := range p.publish {
		if _, ok := filter.Match(topic); ok {
			return true
		}
	}
	if p.output == "" {
		return false
	}
	output, err := devices.ExpandTopic(p.output, captures)
	return err == nil && output == topic
}

// step leaves a step of ev's trail.
func (f *function) step(s edge.Step, ev *devices.Event) {
	s.Time, s.Function = time.Now(), f.name
	s.Event, s.Source, s.Topic = ev.ID, ev.Source, ev.Topic
	f.a.trail.add(s)
}

// log keeps a line that the function wrote.
func (f *function) log(invocation string, level functions.Level, text string) {
	if len(text) > maxLine {
		text = text[:maxLine] + "…"
	}
	f.a.logs.add(edge.LogLine{Time: time.Now(), Function: f.name, Invocation: invocation, Level: level, Text: text})
}

// maxLine is the most that is kept of a line of a log, bytes.
const maxLine = 2 << 10
