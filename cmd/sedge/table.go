package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A table aligns rows of cells for people. Columns that only the wide form
// shows have names that begin with a plus.
type table struct {
	columns []string
	rows    [][]cell
}

// A cell is a text and its color, if any.
type cell struct {
	text  string
	color color
}

func (t *table) add(cells ...any) {
	row := make([]cell, len(cells))
	for i, c := range cells {
		if painted, ok := c.(cell); ok {
			row[i] = painted
		} else {
			row[i] = cell{text: fmt.Sprint(c)}
		}
		row[i].text = oneLine(row[i].text)
	}
	t.rows = append(t.rows, row)
}

// table prints t on stdout, as wide as the user asked for.
func (sh *shell) table(t table) { sh.tableOn(sh.out, t) }

func (sh *shell) tableOn(w io.Writer, t table) {
	var shown []int
	width := make([]int, len(t.columns))
	for i, name := range t.columns {
		plain, wide := strings.CutPrefix(name, "+")
		if wide && sh.output != "wide" {
			continue
		}
		shown = append(shown, i)
		width[i] = utf8.RuneCountInString(plain)
		for _, row := range t.rows {
			width[i] = max(width[i], utf8.RuneCountInString(row[i].text))
		}
	}
	var b strings.Builder
	line := func(cellOf func(i int) cell) {
		gap := 0
		for _, i := range shown {
			c := cellOf(i)
			if c.text != "" {
				b.WriteString(strings.Repeat(" ", gap) + sh.paint(w, c.color, c.text))
				gap = 0
			}
			gap += width[i] - utf8.RuneCountInString(c.text) + 2
		}
		b.WriteByte('\n')
	}
	line(func(i int) cell { return cell{strings.TrimPrefix(t.columns[i], "+"), dim} })
	for _, row := range t.rows {
		line(func(i int) cell { return row[i] })
	}
	io.WriteString(w, b.String())
}

// oneLine makes a text that came from elsewhere safe for one line of a
// terminal: no line ends, no escapes.
func oneLine(s string) string {
	if strings.IndexFunc(s, unsafe) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unsafe(r) {
			return '·'
		}
		return r
	}, s)
}

func unsafe(r rune) bool {
	return r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}
