package devices

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFilterMatchesAsMQTTHasIt(t *testing.T) {
	tests := []struct {
		filter, topic string
		want          bool
		captures      []Capture
	}{
		{"a/b", "a/b", true, nil},
		{"a/b", "a/b/c", false, nil},
		{"a/b/c", "a/b", false, nil},
		{"a/+", "a/b", true, nil},
		{"a/+", "a/", true, nil},
		{"a/+", "a", false, nil},
		{"+", "a", true, nil},
		{"+", "/a", false, nil},
		{"/+", "/a", true, nil},
		{"+/+", "/a", true, nil},
		{"#", "a/b/c", true, nil},
		{"#", "/", true, nil},
		{"a/#", "a", true, nil},
		{"a/#", "a/", true, nil},
		{"a/#", "ab", false, nil},
		{"a/#", "a/b/c", true, nil},
		{"a/+/#", "a", false, nil},
		{"+/b/#", "a/b", true, nil},
		{"A/b", "a/b", false, nil},
		{"#", "$SYS/x", false, nil},
		{"+/x", "$SYS/x", false, nil},
		{"$SYS/#", "$SYS/x", true, nil},
		{"$SYS/+", "$SYS/x", true, nil},
		{"a/+", "a/$x", true, nil},
		{"zigbee2mqtt/{device}", "zigbee2mqtt/hall", true, []Capture{{"device", "hall"}}},
		{"{site}/+/{room}", "home/up/bath", true, []Capture{{"site", "home"}, {"room", "bath"}}},
		{"tele/{d}/{what...}", "tele/x/a/b", true, []Capture{{"d", "x"}, {"what", "a/b"}}},
		{"tele/{d}/{what...}", "tele/x", true, []Capture{{"d", "x"}, {"what", ""}}},
		{"{all...}", "a//b", true, []Capture{{"all", "a//b"}}},
		{"a/{x}/b", "a//b", true, []Capture{{"x", ""}}},
		{"{x}", "$SYS", false, nil},
	}
	for _, tt := range tests {
		f := parse(t, tt.filter)
		captures, got := f.Match(tt.topic)
		if got != tt.want || !slices.Equal(captures, tt.captures) {
			t.Errorf("%q.Match(%q) = %v, %v, want %v, %v", tt.filter, tt.topic, captures, got, tt.captures, tt.want)
		}
	}
}

func TestFilterIsRefusedWithTheReason(t *testing.T) {
	tests := []struct{ filter, want string }{
		{"", "is empty"},
		{"a\x00b", "NUL"},
		{"a\xffb", "UTF-8"},
		{strings.Repeat("a", 65536), "longer than 65535"},
		{"a+", "whole level"},
		{"a/#b", "whole level"},
		{"#/a", "only come last"},
		{"{x...}/a", "only come last"},
		{"a{b}", "whole level"},
		{"{b", "whole level"},
		{"b}", "whole level"},
		{"{}", "not named"},
		{"{...}", "not named"},
		{"{1a}", "not named"},
		{"{a-b}", "not named"},
		{"{{a}}", "not named"},
		{"{größe}", "not named"},
		{"{a}/{a}", "twice"},
		{"{a}/{a...}", "twice"},
		{"$share/g/a", "shared"},
	}
	for _, tt := range tests {
		_, err := ParseFilter(tt.filter)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseFilter(%.20q) = %v, want an error that says %q", tt.filter, err, tt.want)
		}
	}
}

func TestFilterTellsItsWireFormAndNames(t *testing.T) {
	f := parse(t, "home/{room}/+/{rest...}")
	if got, want := f.MQTT(), "home/+/+/#"; got != want {
		t.Errorf("MQTT = %q, want %q", got, want)
	}
	if got, want := f.Names(), []string{"room", "rest"}; !slices.Equal(got, want) {
		t.Errorf("Names = %q, want %q", got, want)
	}
}

func TestZeroFilterMatchesNothing(t *testing.T) {
	var f Filter
	for _, topic := range []string{"", "a", "$SYS"} {
		if _, ok := f.Match(topic); ok {
			t.Errorf("the zero Filter matches %q", topic)
		}
	}
	if f.Covers(f) || parse(t, "#").Covers(f) {
		t.Error("the zero Filter is covered, want not")
	}
}

func TestFilterCoversWhatItIncludes(t *testing.T) {
	tests := []struct {
		f, other string
		want     bool
	}{
		{"#", "a/b", true},
		{"#", "+/b", true},
		{"#", "$SYS/a", false},
		{"+/a", "$SYS/a", false},
		{"$SYS/#", "$SYS/a", true},
		{"a/#", "a", true},
		{"a/#", "a/#", true},
		{"a/#", "a/+/c", true},
		{"a/+", "a/#", false},
		{"a/+", "a/b", true},
		{"a/+", "a/{x}", true},
		{"a/b", "a/+", false},
		{"a/b", "a/b/c", false},
		{"a/b/c", "a/b", false},
		{"+/b", "a/+", false},
	}
	for _, tt := range tests {
		if got := parse(t, tt.f).Covers(parse(t, tt.other)); got != tt.want {
			t.Errorf("%q.Covers(%q) = %v, want %v", tt.f, tt.other, got, tt.want)
		}
	}
}

func TestMergeFiltersDropsWhatAnotherCovers(t *testing.T) {
	tests := []struct{ filters, want []string }{
		{nil, nil},
		{[]string{"a", "a"}, []string{"a"}},
		{[]string{"{x}/b", "+/b"}, []string{"+/b"}},
		{[]string{"z/+", "z/#", "z/lamp", "y"}, []string{"y", "z/#"}},
		{[]string{"#", "a", "$SYS/x", "+/#"}, []string{"#", "$SYS/x"}},
		{[]string{"a/+", "+/b"}, []string{"+/b", "a/+"}},
		{[]string{"a/#", "a+"}, []string{"a+", "a/#"}},
	}
	for _, tt := range tests {
		if got := MergeFilters(tt.filters); !slices.Equal(got, tt.want) {
			t.Errorf("MergeFilters(%q) = %q, want %q", tt.filters, got, tt.want)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("zigbee2mqtt/{device}", "zigbee2mqtt/hall", "+/hall")
	f.Add("{all...}", "$SYS/a", "#")
	f.Add("a/+/{rest...}", "a//b/", "a/#")
	f.Fuzz(func(t *testing.T, s, topic, other string) {
		filter, err := ParseFilter(s)
		if err != nil {
			return
		}
		again, err := ParseFilter(filter.String())
		if err != nil || again.String() != s || again.MQTT() != filter.MQTT() {
			t.Fatalf("ParseFilter(%q).String() = %q, which parses to %q, %v", s, filter.String(), again.MQTT(), err)
		}
		wire, err := ParseFilter(filter.MQTT())
		if err != nil {
			t.Fatalf("%q.MQTT() = %q, which is no filter: %v", s, filter.MQTT(), err)
		}
		captures, ok := filter.Match(topic)
		if _, plain := wire.Match(topic); plain != ok {
			t.Fatalf("%q matches %q: %v, but its wire form %q: %v", s, topic, ok, filter.MQTT(), plain)
		}
		if want := len(filter.Names()); ok && len(captures) != want {
			t.Fatalf("%q captured %d from %q, want %d", s, len(captures), topic, want)
		}
		if g, err := ParseFilter(other); err == nil && g.Covers(filter) {
			if _, covered := g.Match(topic); ok && !covered {
				t.Fatalf("%q covers %q, but does not match %q", other, s, topic)
			}
		}
		if ok && CheckTopic(topic) == nil {
			template := strings.ReplaceAll(s, "...}", "}")
			if strings.ContainsAny(template, "+#") {
				return
			}
			expanded, err := ExpandTopic(template, captures)
			if err == nil && strings.TrimSuffix(expanded, "/") != strings.TrimSuffix(topic, "/") {
				t.Fatalf("%q filled with what it caught from %q = %q", s, topic, expanded)
			}
		}
	})
}

func FuzzCheckTopic(f *testing.F) {
	f.Add("a/b")
	f.Add("a/+")
	f.Fuzz(func(t *testing.T, topic string) {
		err := CheckTopic(topic)
		valid := topic != "" && len(topic) <= 65535 && utf8.ValidString(topic) && !strings.ContainsAny(topic, "\x00+#")
		if valid != (err == nil) {
			t.Fatalf("CheckTopic(%q) = %v", topic, err)
		}
	})
}

func parse(t testing.TB, s string) Filter {
	t.Helper()
	f, err := ParseFilter(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
