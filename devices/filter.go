package devices

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Filter says which topics are meant, as MQTT does, and what to catch from
// them: {name} stands for one level, like +, and {name...} for all that follow,
// like #. The zero Filter matches nothing. A Filter is immutable.
type Filter struct {
	source string
	levels []level
}

type level struct {
	kind kind
	text string // of a literal
	name string // of the capture, or ""
}

type kind byte

const (
	literal kind = iota
	one          // + or {name}
	rest         // # or {name...}; always last
)

// ParseFilter reads a filter such as zigbee2mqtt/{device} or tele/+/{rest...}.
// Names are ASCII identifiers and differ from each other. Shared subscriptions
// ($share/…) are refused: their messages come on other topics.
func ParseFilter(s string) (Filter, error) {
	f := Filter{source: s}
	if err := checkText(s); err != nil {
		return Filter{}, fmt.Errorf("topic filter %s: %w", brief(s), err)
	}
	if strings.HasPrefix(s, "$share/") {
		return Filter{}, fmt.Errorf("topic filter %s: is a shared subscription", brief(s))
	}
	for text := range strings.SplitSeq(s, "/") {
		l, err := parseLevel(text)
		if err != nil {
			return Filter{}, fmt.Errorf("topic filter %s: %w", brief(s), err)
		}
		f.levels = append(f.levels, l)
	}
	if err := f.check(); err != nil {
		return Filter{}, fmt.Errorf("topic filter %s: %w", brief(s), err)
	}
	return f, nil
}

func parseLevel(text string) (level, error) {
	switch {
	case text == "+":
		return level{kind: one}, nil
	case text == "#":
		return level{kind: rest}, nil
	case strings.ContainsAny(text, "+#"):
		return level{}, fmt.Errorf("wildcard in %q does not take up a whole level", text)
	case !strings.ContainsAny(text, "{}"):
		return level{kind: literal, text: text}, nil
	}
	name, opened := strings.CutPrefix(text, "{")
	name, closed := strings.CutSuffix(name, "}")
	name, all := strings.CutSuffix(name, "...")
	switch {
	case !opened || !closed:
		return level{}, fmt.Errorf("capture in %q does not take up a whole level", text)
	case !identifier(name):
		return level{}, fmt.Errorf("capture %q is not named by letters, digits and _", text)
	case all:
		return level{kind: rest, name: name}, nil
	}
	return level{kind: one, name: name}, nil
}

// check holds the rules that concern several levels.
func (f Filter) check() error {
	var names []string
	for i, l := range f.levels {
		if l.kind == rest && i < len(f.levels)-1 {
			return errors.New("# and {name...} may only come last")
		}
		if l.name == "" {
			continue
		}
		if slices.Contains(names, l.name) {
			return fmt.Errorf("captures {%s} twice", l.name)
		}
		names = append(names, l.name)
	}
	return nil
}

func identifier(s string) bool {
	for i, c := range []byte(s) {
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// String returns the filter as it was written.
func (f Filter) String() string { return f.source }

// MQTT returns the filter as brokers know it, with + and #.
func (f Filter) MQTT() string {
	var b strings.Builder
	for i, l := range f.levels {
		if i > 0 {
			b.WriteByte('/')
		}
		switch l.kind {
		case one:
			b.WriteByte('+')
		case rest:
			b.WriteByte('#')
		default:
			b.WriteString(l.text)
		}
	}
	return b.String()
}

// Names returns the names of the filter's captures in their order.
func (f Filter) Names() []string {
	var names []string
	for _, l := range f.levels {
		if l.name != "" {
			names = append(names, l.name)
		}
	}
	return names
}

// Match reports whether topic, which must be valid, is meant by the filter, and
// what was captured from it. As MQTT has it, a/# matches a too, where {name...}
// captures nothing, and a wildcard that comes first leaves out topics that
// begin with $.
func (f Filter) Match(topic string) ([]Capture, bool) {
	if len(f.levels) == 0 || f.levels[0].kind != literal && reserved(topic) {
		return nil, false
	}
	text, left, more := "", topic, true
	for _, l := range f.levels {
		if l.kind == rest {
			return f.captures(topic), true
		}
		if !more {
			return nil, false
		}
		text, left, more = strings.Cut(left, "/")
		if l.kind == literal && l.text != text {
			return nil, false
		}
	}
	if more {
		return nil, false
	}
	return f.captures(topic), true
}

// captures returns what the filter catches from a topic that it matches.
func (f Filter) captures(topic string) []Capture {
	var caught []Capture
	left := topic
	for i, l := range f.levels {
		value := left
		if l.kind != rest {
			value, left, _ = strings.Cut(left, "/")
		}
		if l.name == "" {
			continue
		}
		if caught == nil {
			caught = make([]Capture, 0, f.named(i))
		}
		caught = append(caught, Capture{Name: l.name, Value: value})
	}
	return caught
}

// named counts the captures from level i on.
func (f Filter) named(i int) (n int) {
	for _, l := range f.levels[i:] {
		if l.name != "" {
			n++
		}
	}
	return n
}

// Covers reports whether every topic that other matches is matched by f too.
func (f Filter) Covers(other Filter) bool {
	var t Trie[struct{}]
	t.Add(f, struct{}{})
	return t.covering(other) > 0
}

// MergeFilters returns, sorted and in MQTT's form, those filters that no other
// one covers: subscribed to these, a broker sends what it would send for all,
// and less of it twice. What is no filter is left as it is.
func MergeFilters(filters []string) []string {
	distinct := map[string]Filter{}
	var t Trie[struct{}]
	for _, s := range filters {
		f, err := ParseFilter(s)
		if err == nil {
			s = f.MQTT()
		}
		if _, known := distinct[s]; !known {
			distinct[s] = f
			t.Add(f, struct{}{})
		}
	}
	var merged []string
	for s, f := range distinct {
		if t.covering(f) <= 1 { // by itself
			merged = append(merged, s)
		}
	}
	slices.Sort(merged)
	return merged
}

// reserved reports whether topic is one of the broker's own.
func reserved(topic string) bool { return strings.HasPrefix(topic, "$") }
