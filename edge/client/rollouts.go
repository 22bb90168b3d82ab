package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/sedge-iot/sedge/edge"
)

// Rollouts returns rollouts, the newest first: of one function, or "" for all; and
// only older ones than before, unless that is 0.
func (c *Client) Rollouts(ctx context.Context, function string, before int64) ([]edge.Rollout, error) {
	q := url.Values{}
	if function != "" {
		q.Set("function", function)
	}
	if before != 0 {
		q.Set("before", strconv.FormatInt(before, 10))
	}
	list, err := ask[struct {
		Rollouts []edge.Rollout `json:"rollouts"`
	}](ctx, c, call{path: path("rollouts"), query: q})
	return list.Rollouts, err
}

// Rollout returns one rollout.
func (c *Client) Rollout(ctx context.Context, id int64) (edge.Rollout, error) {
	return ask[edge.Rollout](ctx, c, call{path: path("rollouts", strconv.FormatInt(id, 10))})
}

// Steer changes how a rollout goes on: pause, resume, promote or abort.
func (c *Client) Steer(ctx context.Context, id int64, verb string) (edge.Rollout, error) {
	return ask[edge.Rollout](ctx, c, call{method: http.MethodPost, path: path("rollouts", strconv.FormatInt(id, 10), verb)})
}

// AcceptEpoch has the hub, restored from a backup, lead nodes back that are ahead of
// it. It returns the new position.
func (c *Client) AcceptEpoch(ctx context.Context) (edge.Position, error) {
	return ask[edge.Position](ctx, c, call{method: http.MethodPost, path: path("accept-epoch")})
}
