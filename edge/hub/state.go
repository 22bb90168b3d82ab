package hub

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

func (h *Hub) listState(r *request) (any, error) {
	function, err := r.owner()
	if err != nil {
		return nil, err
	}
	p := r.params("prefix", "after", "limit", "node")
	prefix, after := p.text("prefix", functions.MaxStateKey), p.text("after", functions.MaxStateKey)
	limit := int(min(p.number("limit", onePage, 1, math.MaxInt64), mostPage))
	on, err := h.target(r, p)
	if err != nil {
		return nil, err
	}
	list, err := on.State(r.Context(), function, prefix, after, limit)
	if err != nil {
		return nil, err
	}
	list = page(list, func(e edge.StateEntry) int { return len(e.Key) + len(e.Value) })
	return map[string][]edge.StateEntry{"state": list}, nil
}

func (h *Hub) getState(r *request) (any, error) {
	function, key, err := r.key()
	if err != nil {
		return nil, err
	}
	on, err := h.target(r, r.params("node"))
	if err != nil {
		return nil, err
	}
	e, err := on.StateGet(r.Context(), function, key)
	return r.entry(e, err)
}

func (h *Hub) putState(r *request) (any, error) {
	function, key, err := r.key()
	if err != nil {
		return nil, err
	}
	version, err := r.ifVersion()
	if err != nil {
		return nil, err
	}
	var v edge.StateValue
	if err := r.decode(&v); err != nil {
		return nil, err
	}
	switch {
	case len(v.Value) > functions.MaxStateValue:
		return nil, &edge.Error{Code: edge.TooLarge, Message: fmt.Sprintf("the value has %d bytes, at most %d are kept", len(v.Value), functions.MaxStateValue)}
	case !json.Valid([]byte(v.Value)):
		return nil, invalid(`the text on is written "\"on\""`, "the value must be JSON text")
	}
	on, err := h.target(r, r.params("node"))
	if err != nil {
		return nil, err
	}
	ctx, stop := lasting(r.Context())
	defer stop()
	e, err := on.StatePut(ctx, function, edge.StateEntry{Key: key, Value: v.Value, Expires: v.Expires}, version)
	return r.entry(e, err)
}

func (h *Hub) deleteState(r *request) (any, error) {
	function, key, err := r.key()
	if err != nil {
		return nil, err
	}
	version, err := r.ifVersion()
	if err != nil {
		return nil, err
	}
	on, err := h.target(r, r.params("node"))
	if err != nil {
		return nil, err
	}
	ctx, stop := lasting(r.Context())
	defer stop()
	return nil, on.StateDelete(ctx, function, key, version)
}

// entry answers with e and its version as the tag.
func (r *request) entry(e edge.StateEntry, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	r.header.Set("ETag", strconv.Quote(strconv.FormatInt(e.Version, 10)))
	return e, nil
}

// owner returns the function whose state is meant. State is kept by function:
// what cannot be the name of one reaches for something else.
func (r *request) owner() (string, error) {
	name := r.PathValue("function")
	if len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return "", &edge.Error{Code: edge.Forbidden, Message: fmt.Sprintf("%.100q is no function, and state is reached only by its function", name)}
	}
	return name, nil
}

func (r *request) key() (function, key string, err error) {
	function, err = r.owner()
	key = r.PathValue("key")
	switch {
	case err != nil:
	case key == "" || strings.Contains(key, "\x00"):
		err = invalid("", "a key is 1 to %d bytes of UTF-8 without NUL", functions.MaxStateKey)
	case len(key) > functions.MaxStateKey:
		err = invalid("", "the key has %d bytes, at most %d are taken", len(key), functions.MaxStateKey)
	case !utf8.ValidString(key):
		err = invalid("", "the key is not UTF-8")
	}
	return function, key, err
}

// ifVersion reads on which version of the key the change depends, nil for any.
func (r *request) ifVersion() (*int64, error) {
	absent, err := r.absent()
	if err != nil {
		return nil, err
	}
	tag, err := r.tag()
	switch {
	case err != nil:
		return nil, err
	case absent && tag != "":
		return nil, invalid("", "If-Match and If-None-Match do not go together")
	case absent:
		return new(int64), nil
	case tag == "":
		return nil, nil
	}
	version, err := strconv.ParseInt(tag, 10, 64)
	if err != nil || version < 1 {
		return nil, &edge.Error{Code: edge.Conflict, Message: fmt.Sprintf("no key ever has the version %.40q", tag), Hint: "read the key to learn its version"}
	}
	return &version, nil
}
