package javascript

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/grafana/sobek"

	"github.com/sedge-iot/sedge/functions"
)

// payload returns what an event's bytes say: the value of JSON, else a string.
// It decides as [functions.ParsePayload] does, but keeps the order of keys, and
// makes JavaScript's values at once.
func (c *place) payload(data []byte) (sobek.Value, error) {
	r := jsonReader{c: c, data: data}
	r.space()
	v, ok := r.value(0)
	r.space()
	if r.refused != nil {
		return nil, r.refused
	}
	if !ok || r.at < len(data) {
		return c.vm.ToValue(string(data)), nil
	}
	return v, nil
}

// A jsonReader reads one JSON text. Its methods return false where the text is
// no JSON, or, with refused set, is JSON that is not taken.
type jsonReader struct {
	c       *place
	data    []byte
	at      int
	refused *functions.Failure
}

func (r *jsonReader) refuse(format string, args ...any) (sobek.Value, bool) {
	if r.refused == nil {
		r.refused = &functions.Failure{Code: functions.CodePayload, Message: "payload " + fmt.Sprintf(format, args...)}
	}
	return nil, false
}

func (r *jsonReader) space() {
	for r.at < len(r.data) {
		switch r.data[r.at] {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return
		}
	}
}

// next takes b if it comes next.
func (r *jsonReader) next(b byte) bool {
	if r.at < len(r.data) && r.data[r.at] == b {
		r.at++
		return true
	}
	return false
}

func (r *jsonReader) value(depth int) (sobek.Value, bool) {
	if r.at == len(r.data) {
		return nil, false
	}
	b := r.data[r.at]
	if depth == functions.MaxPayloadDepth && (b == '{' || b == '[') {
		return r.refuse("nests deeper than %d", functions.MaxPayloadDepth)
	}
	switch b {
	case '{':
		return r.object(depth)
	case '[':
		return r.array(depth)
	case '"':
		s, ok := r.text()
		return r.c.vm.ToValue(s), ok
	case 't':
		return r.c.vm.ToValue(true), r.word("true")
	case 'f':
		return r.c.vm.ToValue(false), r.word("false")
	case 'n':
		return sobek.Null(), r.word("null")
	}
	return r.number()
}

func (r *jsonReader) word(w string) bool {
	if len(r.data)-r.at < len(w) || string(r.data[r.at:r.at+len(w)]) != w {
		return false
	}
	r.at += len(w)
	return true
}

func (r *jsonReader) object(depth int) (sobek.Value, bool) {
	r.at++
	o := r.c.vm.NewObject()
	r.space()
	if r.next('}') {
		return o, true
	}
	keys := make(map[string]bool, 8)
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
		if keys[key] {
			return r.refuse("has the key %.40q twice", key)
		}
		keys[key] = true
		if err := define(o, key, v); err != nil {
			return nil, false
		}
		r.space()
		if r.next('}') {
			return o, true
		}
		if !r.next(',') {
			return nil, false
		}
	}
}

func (r *jsonReader) array(depth int) (sobek.Value, bool) {
	r.at++
	var items []any
	r.space()
	if r.next(']') {
		return r.c.vm.NewArray(), true
	}
	for {
		r.space()
		v, ok := r.value(depth + 1)
		if !ok {
			return nil, false
		}
		items = append(items, v)
		r.space()
		if r.next(']') {
			return r.c.vm.NewArray(items...), true
		}
		if !r.next(',') {
			return nil, false
		}
	}
}

// text reads a string. One that is not UTF-8 makes the whole no JSON.
func (r *jsonReader) text() (string, bool) {
	start := r.at
	if !r.next('"') {
		return "", false
	}
	for escaped := false; r.at < len(r.data); r.at++ {
		switch b := r.data[r.at]; {
		case b == '"':
			r.at++
			return unquote(r.data[start:r.at], escaped)
		case b == '\\':
			escaped = true
			r.at++ // whatever comes next is no end of the string
		case b < ' ':
			return "", false
		}
	}
	return "", false
}

func unquote(quoted []byte, escaped bool) (s string, ok bool) {
	if escaped {
		ok = utf8.Valid(quoted) && json.Unmarshal(quoted, &s) == nil
		return s, ok
	}
	s = string(quoted[1 : len(quoted)-1])
	return s, utf8.ValidString(s)
}

// number reads a number.
func (r *jsonReader) number() (sobek.Value, bool) {
	start, whole := r.at, true
scan:
	for ; r.at < len(r.data); r.at++ {
		switch b := r.data[r.at]; {
		case b >= '0' && b <= '9', b == '-':
		case b == '+', b == '.', b == 'e', b == 'E':
			whole = false
		default:
			break scan
		}
	}
	text := r.data[start:r.at]
	if !json.Valid(text) { // its grammar is stricter than that of ParseFloat
		return nil, false
	}
	if whole && len(text) < 16 && text[0] != '-' {
		var n int64
		for _, b := range text {
			n = 10*n + int64(b-'0')
		}
		return r.c.vm.ToValue(n), true
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return r.refuse("has the number %.40s, which no float64 holds", text)
	}
	return r.c.vm.ToValue(f), true
}
