package devices

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// agree checks the trie of filters against each filter by itself.
func agree(t *testing.T, filters []Filter, topic string) {
	t.Helper()
	var trie Trie[int]
	want := map[int]string{}
	for i, f := range filters {
		trie.Add(f, i)
		if captures, ok := f.Match(topic); ok {
			want[i] = fmt.Sprint(captures)
		}
	}
	got := map[int]string{}
	trie.Match(topic, func(i int, captures []Capture) {
		if _, twice := got[i]; twice {
			t.Errorf("Match(%q) visited %q twice", topic, filters[i])
		}
		got[i] = fmt.Sprint(captures)
	})
	if !maps.Equal(got, want) {
		t.Errorf("Match(%q) among %v = %v, want %v", topic, filters, got, want)
	}
}

func TestTrieFindsEveryFilterThatMatches(t *testing.T) {
	var filters []Filter
	for _, s := range []string{
		"#", "+", "a", "a/b", "a/+", "a/#", "+/b", "+/+", "+/+/#", "{x}/b", "a/{y...}",
		"/", "//", "+/", "/#", "$SYS/#", "$SYS/+", "$SYS", "a", "a/b/c/d",
	} {
		filters = append(filters, parse(t, s))
	}
	for _, topic := range []string{"a", "b", "a/b", "a/b/c", "a/b/c/d", "/", "//", "a/", "$SYS", "$SYS/a", "$SYS/a/b", "$x/b", "a/$SYS"} {
		agree(t, filters, topic)
	}
}

func TestEmptyTrieMatchesNothing(t *testing.T) {
	var trie Trie[int]
	trie.Add(Filter{}, 1)
	for _, topic := range []string{"", "a", "$SYS/a"} {
		trie.Match(topic, func(int, []Capture) { t.Errorf("Match(%q) found something", topic) })
	}
}

func FuzzTrie(f *testing.F) {
	f.Add("a/b\n+/b\n#\n{x}/{y...}", "a/b")
	f.Add("$SYS/#\n+/#\n/", "$SYS/a")
	f.Fuzz(func(t *testing.T, lines, topic string) {
		var filters []Filter
		for line := range strings.SplitSeq(lines, "\n") {
			if filter, err := ParseFilter(line); err == nil {
				filters = append(filters, filter)
			}
		}
		agree(t, filters, topic)

		var wire, merged []string
		for _, filter := range filters {
			wire = append(wire, filter.MQTT())
		}
		merged = MergeFilters(wire)
		matches := func(s string) bool { _, ok := parse(t, s).Match(topic); return ok }
		if got, want := slices.ContainsFunc(merged, matches), slices.ContainsFunc(wire, matches); got != want {
			t.Fatalf("%q merged to %q: %q matches %v, want %v", wire, merged, topic, got, want)
		}
	})
}

// manyFilters returns a trie of n filters such as a large house would have.
func manyFilters(t testing.TB, n int) *Trie[int] {
	trie := &Trie[int]{}
	for i := range n {
		s := fmt.Sprintf("site%d/floor%d/{device}/state", i%50, i)
		switch i % 4 {
		case 1:
			s = fmt.Sprintf("zigbee2mqtt/device%d", i)
		case 2:
			s = fmt.Sprintf("tele/+/sensor%d/{what...}", i)
		case 3:
			s = fmt.Sprintf("zigbee2mqtt/device%d/{attribute}", i)
		}
		trie.Add(parse(t, s), i)
	}
	return trie
}

func TestTrieAllocatesNothingButTheCaptures(t *testing.T) {
	trie := manyFilters(t, 10_000)
	found := 0
	visit := func(int, []Capture) { found++ }
	for topic, want := range map[string]float64{
		"zigbee2mqtt/device5001":       0,
		"zigbee2mqtt/unknown":          0,
		"tele/x/sensor5002/a/b":        1,
		"site0/floor5000/motion/state": 1,
	} {
		if got := testing.AllocsPerRun(100, func() { trie.Match(topic, visit) }); got != want {
			t.Errorf("Match(%q) allocates %v times, want %v", topic, got, want)
		}
	}
	if found == 0 {
		t.Error("nothing was found")
	}
}

func TestMergingTenThousandFiltersIsQuick(t *testing.T) {
	var filters []string
	for i := range 10_000 {
		filters = append(filters, fmt.Sprintf("a/b%d/+", i))
	}
	began := time.Now()
	if got := len(MergeFilters(filters)); got != 10_000 {
		t.Errorf("%d filters are left, want all", got)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("MergeFilters took %v, want far below a second", took)
	}
}

func BenchmarkTrieMatchAmongTenThousand(b *testing.B) {
	trie := manyFilters(b, 10_000)
	visit := func(int, []Capture) {}
	for name, topic := range map[string]string{
		"literal": "zigbee2mqtt/device5001",
		"capture": "site0/floor5000/motion/state",
		"rest":    "tele/x/sensor5002/a/b",
		"none":    "zigbee2mqtt/unknown/state",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				trie.Match(topic, visit)
			}
		})
	}
}
