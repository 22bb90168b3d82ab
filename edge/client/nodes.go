package client

import (
	"context"
	"net/http"
	"net/url"

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

// Label changes a node's labels: each to its value, nil removes it. Confirmed says that
// it may take many functions away from the node.
func (c *Client) Label(ctx context.Context, node string, change map[string]*string, confirmed bool) (edge.Node, error) {
	how := call{method: http.MethodPatch, path: path("nodes", node, "labels"), body: change}
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
