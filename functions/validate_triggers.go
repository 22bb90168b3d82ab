package functions

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/devices"
)

func (c *checker) triggers(s Spec) {
	const field = "spec.triggers"
	switch n := len(s.Triggers); {
	case n == 0:
		c.add(field, RuleRequired, "write triggers: [{mqtt: {topic: \"zigbee2mqtt/{device}\"}}]", "needs at least one")
		return
	case n > MaxTriggers:
		c.add(field, RuleRange, "", "has %d triggers, at most %d are taken", n, MaxTriggers)
		return
	}
	paths := map[string]int{}
	for i, t := range s.Triggers {
		at := fmt.Sprintf("%s[%d]", field, i)
		c.trigger(at, t)
		if t.HTTP == nil || t.HTTP.Path == "" {
			continue
		}
		if first, twice := paths[t.HTTP.Path]; twice {
			c.add(at+".http.path", RuleDuplicate, "give the methods in one trigger", "%s is the path of %s[%d] too", quote(t.HTTP.Path), field, first)
			continue
		}
		paths[t.HTTP.Path] = i
	}
}

func (c *checker) trigger(field string, t Trigger) {
	kinds := 0
	if t.MQTT != nil {
		kinds++
		c.mqtt(field+".mqtt", *t.MQTT)
	}
	if t.Schedule != nil {
		kinds++
		c.schedule(field+".schedule", *t.Schedule)
	}
	if t.HTTP != nil {
		kinds++
		c.http(field+".http", *t.HTTP)
	}
	switch kinds {
	case 1:
	case 0:
		c.add(field, RuleRequired, "", "needs one of mqtt, schedule and http")
	default:
		c.add(field, RuleConflict, "make each a trigger of its own", "has %d of mqtt, schedule and http, which exclude each other", kinds)
	}
}

func (c *checker) mqtt(field string, t MQTTTrigger) {
	c.filter(field+".topic", t.Topic)
	captures := capturesOf(t.Topic)
	for _, name := range captures {
		if slices.Contains(sortedKeys(variables(nil)), name) {
			c.add(field+".topic", RuleConflict, "choose another name", "{%s} is the name of something else in expressions", name)
		}
	}
	if t.QoS != nil && *t.QoS > 1 {
		c.add(field+".qos", RuleRange, "at 1 nothing is lost, and doubles are recognised", "must be 0 or 1, is %d", *t.QoS)
	}
	if t.When != "" {
		_, err := CompileCondition(t.When, captures)
		c.slips(field+".when", err)
	}
	if t.Changed != "" {
		c.expression(field+".changed", t.Changed, captures)
	}
	for _, d := range []struct {
		name  string
		value Duration
	}{{"throttle", t.Throttle}, {"debounce", t.Debounce}, {"hold", t.Hold}} {
		if d.value != 0 {
			bound(c, field+"."+d.name, d.value, Duration(10*time.Millisecond), Duration(7*day))
		}
	}
	c.combination(field, t)
	if t.Retained != "ignore" && t.Retained != "run" {
		c.add(field+".retained", RuleValue, didYouMean(t.Retained, []string{"ignore", "run"}), "there is no %.40q", t.Retained)
	}
}

// combination refuses conditions that work against each other.
func (c *checker) combination(field string, t MQTTTrigger) {
	if t.Hold != 0 {
		if t.When == "" {
			c.add(field+".hold", RuleConflict, "say in when what has to stay true", "needs when")
		}
		if t.Changed != "" {
			c.add(field+".changed", RuleConflict, "leave it out", "does not go with hold, which runs once while when stays true")
		}
		if t.Throttle != 0 {
			c.add(field+".throttle", RuleConflict, "leave it out", "does not go with hold, which runs once while when stays true")
		}
		if t.Debounce != 0 {
			c.add(field+".debounce", RuleConflict, "choose one", "does not go with hold: one waits for silence, the other for staying true")
		}
	}
	if t.Throttle != 0 && t.Debounce != 0 {
		c.add(field+".debounce", RuleConflict, "choose one", "does not go with throttle: one counts the last message, the other the first")
	}
}

// filter wants a topic filter.
func (c *checker) filter(field, filter string) {
	if filter == "" {
		c.add(field, RuleRequired, "", "is missing")
		return
	}
	if len(filter) > devices.MaxTopic {
		c.add(field, RuleRange, "", "is longer than %d bytes", devices.MaxTopic)
		return
	}
	if _, err := devices.ParseFilter(filter); err != nil {
		c.add(field, RuleValue, "", "%s", err)
	}
}

// capturesOf returns the names that a filter catches, none if it is broken.
func capturesOf(filter string) []string {
	f, err := devices.ParseFilter(filter)
	if err != nil {
		return nil
	}
	return f.Names()
}

func (c *checker) output(s Spec) {
	const field = "spec.output"
	if s.Output == nil {
		return
	}
	if *s.Output.QoS > 1 {
		c.add(field+".qos", RuleRange, "", "must be 0 or 1, is %d", *s.Output.QoS)
	}
	topic := s.Output.Topic
	switch {
	case topic == "":
		c.add(field+".topic", RuleRequired, "", "is missing")
		return
	case len(topic) > devices.MaxTopic:
		c.add(field+".topic", RuleRange, "", "is longer than %d bytes", devices.MaxTopic)
		return
	}
	names := s.Captures()
	values := make([]devices.Capture, len(names))
	for i, name := range names {
		values[i] = devices.Capture{Name: name, Value: "x"}
	}
	if _, err := devices.ExpandTopic(topic, values); err != nil {
		hint := ""
		if strings.Contains(topic, "{") {
			hint = "every mqtt trigger must capture what the topic names"
		}
		c.add(field+".topic", RuleValue, hint, "%s", strings.TrimPrefix(err.Error(), fmt.Sprintf("topic template %q: ", topic)))
	}
}

func (c *checker) schedule(field string, t ScheduleTrigger) {
	switch {
	case t.Cron == "" && t.Every == 0:
		c.add(field, RuleRequired, "", "needs one of cron and every")
	case t.Cron != "" && t.Every != 0:
		c.add(field, RuleConflict, "", "has both of cron and every, which exclude each other")
	case t.Every != 0:
		bound(c, field+".every", t.Every, Duration(time.Second), Duration(30*day))
		if t.Timezone != "" {
			c.add(field+".timezone", RuleConflict, "", "goes only with cron")
		}
	default:
		c.cron(field, t)
	}
}

func (c *checker) cron(field string, t ScheduleTrigger) {
	if _, err := loadZone(t.Timezone); err != nil {
		c.add(field+".timezone", RuleValue, "write a name such as Europe/Berlin", "there is no time zone %s", quote(t.Timezone))
	}
	if _, err := parseCron(t.Cron); err != nil {
		c.add(field+".cron", RuleValue, "", "%v", err)
	}
}

func (c *checker) http(field string, t HTTPTrigger) {
	const hint = "write a path such as /night-light"
	p := t.Path
	switch {
	case p == "":
		c.add(field+".path", RuleRequired, hint, "is missing")
	case p[0] != '/':
		c.add(field+".path", RuleValue, hint, "%s does not begin with /", quote(p))
	case len(p) > 256 || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`?#%{}\"<>^|`+"`", r) }):
		c.add(field+".path", RuleValue, hint, "%s is not a plain path", quote(p))
	case path.Clean(p) != p:
		c.add(field+".path", RuleValue, "write "+path.Clean(p), "%s is not written plainly", quote(p))
	}
	known := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
	for i, m := range t.Methods {
		at := fmt.Sprintf("%s.methods[%d]", field, i)
		if !slices.Contains(known, m) {
			c.add(at, RuleValue, didYouMean(m, known), "there is no method %.20q here", m)
		} else if slices.Contains(t.Methods[:i], m) {
			c.add(at, RuleDuplicate, "", "%s is named twice", m)
		}
	}
}
