package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/sedge-iot/sedge/edge"
)

// State returns a function's keys that begin with prefix and come after the key
// after, in order, at most limit. The hub may give fewer at a time: ask again
// after the last one until none come.
func (c *Client) State(ctx context.Context, function, prefix, after string, limit int) ([]edge.StateEntry, error) {
	q := url.Values{}
	if prefix != "" {
		q.Set("prefix", prefix)
	}
	if after != "" {
		q.Set("after", after)
	}
	if limit != 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	list, err := ask[struct {
		State []edge.StateEntry `json:"state"`
	}](ctx, c, call{path: path("functions", function, "state"), query: q})
	return list.State, err
}

// StateGet returns one key.
func (c *Client) StateGet(ctx context.Context, function, key string) (edge.StateEntry, error) {
	return ask[edge.StateEntry](ctx, c, call{path: path("functions", function, "state", key)})
}

// StatePut sets e.Key to e.Value until e.Expires (zero: for ever). With
// ifVersion the key must have that version, 0 for not being there, else the
// error is a Conflict.
func (c *Client) StatePut(ctx context.Context, function string, e edge.StateEntry, ifVersion *int64) (edge.StateEntry, error) {
	how := call{
		method: http.MethodPut,
		path:   path("functions", function, "state", e.Key),
		body:   edge.StateValue{Value: e.Value, Expires: e.Expires},
	}.at(ifVersion)
	return ask[edge.StateEntry](ctx, c, how)
}

// StateDelete removes a key; ifVersion is as in StatePut.
func (c *Client) StateDelete(ctx context.Context, function, key string, ifVersion *int64) error {
	how := call{method: http.MethodDelete, path: path("functions", function, "state", key)}.at(ifVersion)
	return c.do(ctx, how, nil)
}

// at makes the call depend on the version of the key.
func (how call) at(version *int64) call {
	switch {
	case version == nil:
	case *version == 0:
		how.absent = true
	default:
		how.match = `"` + strconv.FormatInt(*version, 10) + `"`
	}
	return how
}
