package client

import (
	"context"
	"net/http"

	"github.com/sedge-iot/sedge/edge"
)

// Dead returns dead letters with ids above q.After, oldest first, at most
// q.Last of them. The hub may give fewer at a time: ask again after the last
// one until none come.
func (c *Client) Dead(ctx context.Context, q edge.Query) ([]edge.DeadLetter, error) {
	list, err := ask[struct {
		Dead []edge.DeadLetter `json:"dead"`
	}](ctx, c, call{path: path("dead"), query: query(q)})
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
