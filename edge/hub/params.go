package hub

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// params are a request's query, read one by one; the first fault sticks.
type params struct {
	values url.Values
	err    error
}

// params returns the query, which may hold the names and each but once.
func (r *request) params(names ...string) *params {
	values, err := url.ParseQuery(r.URL.RawQuery)
	p := &params{values: values}
	if err != nil {
		p.err = invalid("", "the query is malformed: %v", err)
		return p
	}
	for name, v := range values {
		switch {
		case !slices.Contains(names, name):
			p.fail(name, "is not known here", strings.Join(names, ", "))
		case len(v) > 1:
			p.fail(name, "is given more than once", "")
		case !utf8.ValidString(v[0]):
			p.fail(name, "is not UTF-8", "")
		}
	}
	return p
}

func (p *params) fail(name, why, known string) {
	hint := ""
	if known != "" {
		hint = "known: " + known
	}
	if p.err == nil {
		p.err = invalid(hint, "the query's %.50q %s", name, why)
	}
}

func (p *params) text(name string, most int) string {
	v := p.values.Get(name)
	if len(v) > most {
		p.fail(name, fmt.Sprintf("is longer than %d bytes", most), "")
	}
	return v
}

func (p *params) flag(name string) bool {
	switch p.values.Get(name) {
	case "true", "1":
		return true
	case "", "false", "0":
	default:
		p.fail(name, "is neither true nor false", "")
	}
	return false
}

func (p *params) number(name string, otherwise, least, most int64) int64 {
	text := p.values.Get(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		p.fail(name, fmt.Sprintf("is not a number from %d to %d", least, most), "")
		return otherwise
	}
	return n
}

// tag returns what the header If-Match names, or "" if there is none.
func (r *request) tag() (string, error) {
	lines := r.Header.Values("If-Match")
	if len(lines) == 0 {
		return "", nil
	}
	if tag, ok := unquote(lines[0]); ok && len(lines) == 1 {
		return tag, nil
	}
	return "", invalid(`like If-Match: "TAG", as the answer's ETag has it`, "If-Match must name one tag in quotes")
}

// absent reports whether the header If-None-Match asks that there be nothing yet.
func (r *request) absent() (bool, error) {
	switch lines := r.Header.Values("If-None-Match"); {
	case len(lines) == 0:
		return false, nil
	case len(lines) == 1 && lines[0] == "*":
		return true, nil
	}
	return false, invalid("", "If-None-Match may only be *")
}

func unquote(tag string) (string, bool) {
	inner, ok := strings.CutPrefix(tag, `"`)
	inner, ends := strings.CutSuffix(inner, `"`)
	return inner, ok && ends && inner != "" && !strings.Contains(inner, `"`)
}
