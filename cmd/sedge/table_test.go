package main

import (
	"bytes"
	"testing"
)

func TestATableAlignsWhatPeopleSee(t *testing.T) {
	ta := table{columns: []string{"NAME", "+WIDE", "WHY", "LAST"}}
	ta.add("küche", 1, cell{"", red}, "x")
	ta.add("a", 22, "two\nlines\x1b[31m", "")
	for output, want := range map[string]string{
		"table": "NAME   WHY             LAST\nküche                  x\na      two·lines·[31m\n",
		"wide":  "NAME   WIDE  WHY             LAST\nküche  1                     x\na      22    two·lines·[31m\n",
	} {
		var out bytes.Buffer
		sh := &shell{out: &out, output: output, lookup: none}
		sh.table(ta)
		if got := out.String(); got != want {
			t.Errorf("as %s the table is\n%swant\n%s", output, got, want)
		}
	}
}

func TestWhatCameFromElsewhereCannotSteerTheTerminal(t *testing.T) {
	for text, want := range map[string]string{
		"plain Küche 🙂":      "plain Küche 🙂",
		"a\x1b]0;title\x07b": "a·]0;title·b",
		"a\u202eb\u2066c":    "a·b·c",
		"a\u0085b\u2028c":    "a·b·c",
	} {
		if got := oneLine(text); got != want {
			t.Errorf("oneLine(%q) = %q, want %q", text, got, want)
		}
	}
}
