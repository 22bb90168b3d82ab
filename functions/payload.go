package functions

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxPayloadDepth is how deep the arrays and objects of a payload may nest.
const MaxPayloadDepth = 64

// ParsePayload returns what a payload says: of JSON, the value (nil, bool,
// float64, string, []any, map[string]any), else the bytes as a string. So a
// JSON text that is cut short or holds NaN is a string.
//
// It returns a *[Failure] with [CodePayload] for JSON on which readers would
// not agree: nested deeper than [MaxPayloadDepth], an object with the same key
// twice, a number beyond float64.
func ParsePayload(data []byte) (any, error) {
	r := reader{data: data}
	r.space()
	v, ok := r.value(0)
	r.space()
	if r.refused != "" {
		return nil, &Failure{Code: CodePayload, Message: "payload " + r.refused}
	}
	if !ok || r.at < len(data) {
		return string(data), nil
	}
	return v, nil
}

// A reader reads one JSON text. Its methods return false where the text is no
// JSON, or, with refused set, is JSON that is not taken.
type reader struct {
	data    []byte
	at      int
	refused string
}

func (r *reader) refuse(format string, args ...any) bool {
	if r.refused == "" {
		r.refused = fmt.Sprintf(format, args...)
	}
	return false
}

func (r *reader) space() {
	for r.at < len(r.data) {
		switch r.data[r.at] {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return
		}
	}
}

// next takes c if it comes next.
func (r *reader) next(c byte) bool {
	if r.at < len(r.data) && r.data[r.at] == c {
		r.at++
		return true
	}
	return false
}

func (r *reader) value(depth int) (any, bool) {
	if r.at == len(r.data) {
		return nil, false
	}
	c := r.data[r.at]
	if depth == MaxPayloadDepth && (c == '{' || c == '[') {
		return nil, r.refuse("nests deeper than %d", MaxPayloadDepth)
	}
	switch c {
	case '{':
		return r.object(depth)
	case '[':
		return r.array(depth)
	case '"':
		return r.text()
	case 't':
		return true, r.word("true")
	case 'f':
		return false, r.word("false")
	case 'n':
		return nil, r.word("null")
	default:
		return r.number()
	}
}

func (r *reader) word(w string) bool {
	if len(r.data)-r.at < len(w) || string(r.data[r.at:r.at+len(w)]) != w {
		return false
	}
	r.at += len(w)
	return true
}

func (r *reader) object(depth int) (any, bool) {
	r.at++
	object := map[string]any{}
	r.space()
	if r.next('}') {
		return object, true
	}
	for {
		r.space()
		key, ok := r.text()
		r.space()
		if !ok || !r.next(':') {
			return nil, false
		}
		r.space()
		v, ok := r.value(depth + 1)
		if !ok {
			return nil, false
		}
		if _, twice := object[key]; twice {
			return nil, r.refuse("has the key %.40q twice", key)
		}
		object[key] = v
		r.space()
		if r.next('}') {
			return object, true
		}
		if !r.next(',') {
			return nil, false
		}
	}
}

func (r *reader) array(depth int) (any, bool) {
	r.at++
	array := []any{}
	r.space()
	if r.next(']') {
		return array, true
	}
	for {
		r.space()
		v, ok := r.value(depth + 1)
		if !ok {
			return nil, false
		}
		array = append(array, v)
		r.space()
		if r.next(']') {
			return array, true
		}
		if !r.next(',') {
			return nil, false
		}
	}
}

// text reads a string. One that is not UTF-8 makes the whole no JSON.
func (r *reader) text() (string, bool) {
	if !r.next('"') {
		return "", false
	}
	start := r.at
	for ; r.at < len(r.data); r.at++ {
		switch c := r.data[r.at]; {
		case c == '"':
			s := r.data[start:r.at]
			r.at++
			return string(s), utf8.Valid(s)
		case c == '\\':
			return r.escaped(r.data[start:r.at])
		case c < ' ':
			return "", false
		}
	}
	return "", false
}

// escaped reads on in a string after its first part, which held no escape.
func (r *reader) escaped(first []byte) (string, bool) {
	s := append([]byte(nil), first...)
	for r.at < len(r.data) {
		c := r.data[r.at]
		r.at++
		switch {
		case c == '"':
			return string(s), utf8.Valid(s)
		case c < ' ':
			return "", false
		case c != '\\':
			s = append(s, c)
			continue
		}
		char, ok := r.escape()
		if !ok {
			return "", false
		}
		s = utf8.AppendRune(s, char)
	}
	return "", false
}

// escape reads what follows a backslash. A lone surrogate is U+FFFD.
func (r *reader) escape() (rune, bool) {
	if r.at == len(r.data) {
		return 0, false
	}
	c := r.data[r.at]
	r.at++
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		return r.unicode()
	}
	return 0, false
}

func (r *reader) unicode() (rune, bool) {
	high, ok := r.hex()
	if !ok || !utf16.IsSurrogate(high) {
		return high, ok
	}
	before := r.at
	if r.next('\\') && r.next('u') {
		if low, ok := r.hex(); ok {
			if char := utf16.DecodeRune(high, low); char != utf8.RuneError {
				return char, true
			}
		}
	}
	r.at = before
	return utf8.RuneError, true
}

func (r *reader) hex() (rune, bool) {
	if len(r.data)-r.at < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(r.data[r.at:r.at+4]), 16, 16)
	if err != nil {
		return 0, false
	}
	r.at += 4
	return rune(n), true
}

// number reads a number. JSON's grammar is stricter than that of ParseFloat.
func (r *reader) number() (any, bool) {
	start := r.at
	for r.at < len(r.data) {
		switch c := r.data[r.at]; {
		case c >= '0' && c <= '9', c == '-', c == '+', c == '.', c == 'e', c == 'E':
			r.at++
			continue
		}
		break
	}
	text := r.data[start:r.at]
	if !json.Valid(text) {
		return nil, false
	}
	n, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return nil, r.refuse("has the number %.40s, which no float64 holds", text)
	}
	return n, true
}
