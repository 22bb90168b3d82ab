package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/url"
	"strconv"

	"github.com/sedge-iot/sedge/edge"
)

const maxLine = 4 << 20 // bytes

// Logs yields log lines until they end or ctx is done. After an error, which is
// not yielded for the end of ctx, it yields nothing more.
func (c *Client) Logs(ctx context.Context, q edge.Query) iter.Seq2[edge.LogLine, error] {
	return stream[edge.LogLine](ctx, c, "logs", q)
}

// Events yields the trail, in the way of Logs.
func (c *Client) Events(ctx context.Context, q edge.Query) iter.Seq2[edge.Step, error] {
	return stream[edge.Step](ctx, c, "events", q)
}

// stream yields the lines of an answer. To stop early is to end its request.
func stream[T any](ctx context.Context, c *Client, what string, q edge.Query) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		reading, stop := context.WithCancel(ctx)
		defer stop()
		resp, err := c.send(reading, call{path: path(what), query: lines(q)})
		if err != nil {
			if ctx.Err() == nil {
				yield(none, c.explain(ctx, err))
			}
			return
		}
		defer resp.Body.Close()
		in := bufio.NewScanner(resp.Body)
		in.Buffer(nil, maxLine)
		for in.Scan() {
			v, err := line[T](in.Bytes())
			if _, told := errors.AsType[*edge.Error](err); err != nil && !told {
				err = c.stranger(resp)
			}
			if err != nil {
				yield(none, err)
				return
			}
			if !yield(v, nil) {
				return
			}
		}
		switch err := in.Err(); {
		case ctx.Err() != nil:
		case err != nil:
			yield(none, c.explain(ctx, err))
		case q.Follow:
			yield(none, &edge.Error{Code: edge.Unavailable, Message: "the hub at " + c.url + " has ended"})
		}
	}
}

// line reads a line of a stream. One that holds an error says why there are no more.
func line[T any](text []byte) (v T, err error) {
	var failed struct {
		Error *edge.Error `json:"error"`
	}
	if err := json.Unmarshal(text, &failed); err != nil {
		return v, err
	}
	if failed.Error != nil {
		return v, failed.Error
	}
	return v, json.Unmarshal(text, &v)
}

// lines is the query for the lines that q chooses.
func lines(q edge.Query) url.Values {
	v := url.Values{"last": {strconv.Itoa(max(q.Last, -1))}}
	if q.Function != "" {
		v.Set("function", q.Function)
	}
	if q.Follow {
		v.Set("follow", "true")
	}
	return v
}
