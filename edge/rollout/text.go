package rollout

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sedge-iot/sedge/edge"
)

func percent(share float64) string {
	return strconv.FormatFloat(share*100, 'g', 3, 64) + " %"
}

func duration(seconds float64) time.Duration {
	return time.Duration(min(seconds, 1e6) * float64(time.Second)).Round(time.Millisecond)
}

func nodes(n int) string {
	if n == 1 {
		return "1 node"
	}
	return strconv.Itoa(n) + " nodes"
}

// list names the first of many.
func list(names []string) string {
	const few = 3
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

func unfitText(u *edge.Unfit) string {
	if u.Error == nil {
		return ""
	}
	return u.Error.Message
}

// because appends a node's own words, in bounds.
func because(text string) string {
	if text == "" {
		return ""
	}
	return ": " + cut(text)
}

func aside(text string) string {
	if text == "" {
		return ""
	}
	return " (" + cut(text) + ")"
}

// cut bounds what a node says, and keeps it on a line that a terminal only shows.
func cut(text string) string {
	const long = 200
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= long {
		return text
	}
	return strings.ToValidUTF8(text[:long], "") + "…"
}
