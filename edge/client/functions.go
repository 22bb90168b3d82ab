package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// Functions returns the functions that the hub holds, by name.
func (c *Client) Functions(ctx context.Context) ([]edge.FunctionStatus, error) {
	list, err := ask[struct {
		Functions []edge.FunctionStatus `json:"functions"`
	}](ctx, c, call{path: path("functions")})
	return list.Functions, err
}

// Function returns one function, its code included.
func (c *Client) Function(ctx context.Context, name string) (edge.FunctionDetail, error) {
	return ask[edge.FunctionDetail](ctx, c, call{path: path("functions", name)})
}

// DeployOptions change what Deploy does.
type DeployOptions struct {
	DryRun  bool               // validate and compare, change nothing
	IfMatch functions.Revision // if set, the current revision must be this one, else a Conflict names it

	Rollout   *edge.RolloutAsk // as of [edge.Deploy]
	Signature string           // as of [edge.Deploy]
	Confirmed bool             // though it takes many functions away from nodes
}

// Deploy makes f the current revision of its function.
func (c *Client) Deploy(ctx context.Context, f functions.Function, o DeployOptions) (edge.Change, error) {
	body := edge.Deploy{Function: &f, Rollout: o.Rollout, Signature: o.Signature}
	how := call{method: http.MethodPut, path: path("functions", f.Name()), body: body, query: url.Values{}}
	if o.DryRun {
		how.query.Set("dryRun", "true")
	}
	if o.Confirmed {
		how.query.Set("confirmed", "true")
	}
	if o.IfMatch != "" {
		how.match = `"` + string(o.IfMatch) + `"`
	}
	return ask[edge.Change](ctx, c, how)
}

// DeleteOptions change what Delete does.
type DeleteOptions struct {
	Purge     bool // its state and dead letters go too
	Confirmed bool // though it takes many functions away from nodes
}

// Delete removes a function.
func (c *Client) Delete(ctx context.Context, name string, o DeleteOptions) (edge.Deleted, error) {
	how := call{method: http.MethodDelete, path: path("functions", name), query: url.Values{}}
	if o.Purge {
		how.query.Set("purge", "true")
	}
	if o.Confirmed {
		how.query.Set("confirmed", "true")
	}
	return ask[edge.Deleted](ctx, c, how)
}

// Enable lets a function run again.
func (c *Client) Enable(ctx context.Context, name string) (edge.Change, error) {
	return c.change(ctx, name, "enable", nil)
}

// Disable pauses a function: its deliveries wait.
func (c *Client) Disable(ctx context.Context, name string) (edge.Change, error) {
	return c.change(ctx, name, "disable", nil)
}

// Rollback makes an earlier revision current: a number of the history or a
// revision, which may be shortened; "" for the one before.
func (c *Client) Rollback(ctx context.Context, name, to string) (edge.Change, error) {
	return c.change(ctx, name, "rollback", edge.Rollback{To: to})
}

func (c *Client) change(ctx context.Context, name, verb string, body any) (edge.Change, error) {
	return ask[edge.Change](ctx, c, call{method: http.MethodPost, path: path("functions", name, verb), body: body})
}

// History returns what was done to a function, newest first.
func (c *Client) History(ctx context.Context, name string) ([]edge.Revision, error) {
	list, err := ask[struct {
		History []edge.Revision `json:"history"`
	}](ctx, c, call{path: path("functions", name, "history")})
	return list.History, err
}

// Revision returns a function as it was: a number of the history or a revision,
// which may be shortened.
func (c *Client) Revision(ctx context.Context, name, revision string) (functions.Function, error) {
	return ask[functions.Function](ctx, c, call{path: path("functions", name, "revisions", revision)})
}

// Invoke runs a function once. That it failed is in Invoked.Error, not in the
// error, which is about the asking.
func (c *Client) Invoke(ctx context.Context, name string, in edge.Invoke) (edge.Invoked, error) {
	return ask[edge.Invoked](ctx, c, call{method: http.MethodPost, path: path("functions", name, "invoke"), body: in})
}
