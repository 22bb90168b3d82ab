package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/sedge-iot/sedge/edge"
)

// Dead returns dead letters with ids above q.After, oldest first, at most
// q.Last of them. The hub may give fewer at a time: ask again after the last
// one until none come.
func (c *Client) Dead(ctx context.Context, q edge.Query) ([]edge.DeadLetter, error) {
	v := url.Values{}
	if q.Function != "" {
		v.Set("function", q.Function)
	}
	if q.Last > 0 {
		v.Set("last", strconv.Itoa(q.Last))
	}
	if q.After != 0 {
		v.Set("after", strconv.FormatInt(q.After, 10))
	}
	list, err := ask[struct {
		Dead []edge.DeadLetter `json:"dead"`
	}](ctx, c, call{path: path("dead"), query: v})
	return list.Dead, err
}

// Redrive sends dead letters round again and returns how many.
func (c *Client) Redrive(ctx context.Context, which edge.DeadChoice) (int, error) {
	return c.dead(ctx, "redrive", which)
}

// Discard deletes dead letters and returns how many.
func (c *Client) Discard(ctx context.Context, which edge.DeadChoice) (int, error) {
	return c.dead(ctx, "discard", which)
}

func (c *Client) dead(ctx context.Context, verb string, which edge.DeadChoice) (int, error) {
	done, err := ask[struct {
		Count int `json:"count"`
	}](ctx, c, call{method: http.MethodPost, path: path("dead", verb), body: which})
	return done.Count, err
}
