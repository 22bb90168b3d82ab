package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/sedge-iot/sedge/edge"
)

// Nodes returns the nodes whose labels a selector fits, by name, after the one of the
// name after. The hub gives a page at a time: ask again with the last name until none
// come.
func (c *Client) Nodes(ctx context.Context, selector, after string) ([]edge.NodeDetail, error) {
	q := url.Values{}
	if selector != "" {
		q.Set("selector", selector)
	}
	if after != "" {
		q.Set("after", after)
	}
	list, err := ask[struct {
		Nodes []edge.NodeDetail `json:"nodes"`
	}](ctx, c, call{path: path("nodes"), query: q})
	return list.Nodes, err
}

// Node returns one node, by its name or id.
func (c *Client) Node(ctx context.Context, node string) (edge.NodeDetail, error) {
	return ask[edge.NodeDetail](ctx, c, call{path: path("nodes", node)})
}

// Diagnose asks a connected node what helps to find out what is wrong with it.
func (c *Client) Diagnose(ctx context.Context, node string) (edge.Diagnostics, error) {
	return ask[edge.Diagnostics](ctx, c, call{path: path("nodes", node, "diagnostics")})
}

// Approve makes a node that waits, or is fenced, a member of the fleet.
func (c *Client) Approve(ctx context.Context, node string) (edge.Node, error) {
	return c.steerNode(ctx, node, "approve")
}

// Cordon has a node keep what it runs and get nothing new; Uncordon ends that.
func (c *Client) Cordon(ctx context.Context, node string) (edge.Node, error) {
	return c.steerNode(ctx, node, "cordon")
}

// Uncordon takes Cordon back.
func (c *Client) Uncordon(ctx context.Context, node string) (edge.Node, error) {
	return c.steerNode(ctx, node, "uncordon")
}

// Revoke shuts a node out for ever, at once.
func (c *Client) Revoke(ctx context.Context, node string) (edge.Node, error) {
	return c.steerNode(ctx, node, "revoke")
}

// Label changes a node's labels. Confirmed says that it may take many functions away
// from it.
func (c *Client) Label(ctx context.Context, node string, change edge.Labels, confirmed bool) (edge.Node, error) {
	how := call{method: http.MethodPost, path: path("nodes", node, "labels"), body: change}
	if confirmed {
		how.query = url.Values{"confirmed": {"true"}}
	}
	return ask[edge.Node](ctx, c, how)
}

// RemoveNode takes a node out of the fleet; what it runs it goes on running. It may
// join again.
func (c *Client) RemoveNode(ctx context.Context, node string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: path("nodes", node)}, nil)
}

func (c *Client) steerNode(ctx context.Context, node, verb string) (edge.Node, error) {
	return ask[edge.Node](ctx, c, call{method: http.MethodPost, path: path("nodes", node, verb)})
}

// MakeToken makes a join token.
func (c *Client) MakeToken(ctx context.Context, want edge.TokenAsk) (edge.TokenMade, error) {
	return ask[edge.TokenMade](ctx, c, call{method: http.MethodPost, path: path("tokens"), body: want})
}

// Tokens returns the join tokens that can still be used.
func (c *Client) Tokens(ctx context.Context) ([]edge.Token, error) {
	list, err := ask[struct {
		Tokens []edge.Token `json:"tokens"`
	}](ctx, c, call{path: path("tokens")})
	return list.Tokens, err
}

// RevokeToken makes a join token useless.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: path("tokens", id)}, nil)
}

// MakeOperator lets somebody use the API.
func (c *Client) MakeOperator(ctx context.Context, want edge.Operator) (edge.OperatorMade, error) {
	return ask[edge.OperatorMade](ctx, c, call{method: http.MethodPost, path: path("operators"), body: want})
}

// Operators returns those who may use the API.
func (c *Client) Operators(ctx context.Context) ([]edge.Operator, error) {
	list, err := ask[struct {
		Operators []edge.Operator `json:"operators"`
	}](ctx, c, call{path: path("operators")})
	return list.Operators, err
}

// DeleteOperator shuts an operator out.
func (c *Client) DeleteOperator(ctx context.Context, name string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: path("operators", name)}, nil)
}

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

// Audit returns entries of the audit log with numbers below before (0: the newest),
// newest first; of one object, or "" for all.
func (c *Client) Audit(ctx context.Context, object string, before int64) ([]edge.AuditEntry, error) {
	q := url.Values{}
	if object != "" {
		q.Set("object", object)
	}
	if before != 0 {
		q.Set("before", strconv.FormatInt(before, 10))
	}
	list, err := ask[struct {
		Audit []edge.AuditEntry `json:"audit"`
	}](ctx, c, call{path: path("audit"), query: q})
	return list.Audit, err
}

// AcceptEpoch has the hub, restored from a backup, lead nodes back that are ahead of
// it. It returns the new position.
func (c *Client) AcceptEpoch(ctx context.Context) (edge.Position, error) {
	return ask[edge.Position](ctx, c, call{method: http.MethodPost, path: path("accept-epoch")})
}
