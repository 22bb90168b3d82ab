package main

import (
	"io"
	"strings"
	"unicode/utf8"
)

// A record shows one thing to people: a name and a value on each line.
// Empty values are left out.
type record struct {
	sh *shell
	b  strings.Builder
}

// recordWidth is where the values begin.
const recordWidth = 13

func (sh *shell) record() *record { return &record{sh: sh} }

func (r *record) field(name, value string) { r.painted(name, "", value) }

func (r *record) painted(name string, c color, value string) {
	if value == "" {
		return
	}
	r.name(name)
	r.b.WriteString(r.sh.paint(r.sh.out, c, oneLine(value)) + "\n")
}

// list shows several values under one name, a line each.
func (r *record) list(name string, values []string) {
	for i, v := range values {
		if i > 0 {
			name = ""
		}
		r.name(name)
		r.b.WriteString(oneLine(v) + "\n")
	}
}

// block shows a text of several lines, indented.
func (r *record) block(name, text string) {
	if text == "" {
		return
	}
	r.b.WriteString(r.sh.paint(r.sh.out, dim, name) + "\n")
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		r.b.WriteString("  " + oneLine(strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "\t", "  ")) + "\n")
	}
}

func (r *record) name(name string) {
	r.b.WriteString(r.sh.paint(r.sh.out, dim, name))
	r.b.WriteString(strings.Repeat(" ", max(recordWidth-utf8.RuneCountInString(name), 1)))
}

func (r *record) flush() error {
	_, err := io.WriteString(r.sh.out, r.b.String())
	return err
}
