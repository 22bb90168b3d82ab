package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/sedge-iot/sedge/edge"
)

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

// VerifyAudit has the hub follow its whole audit log. That the log is broken is no error:
// the verdict says it.
func (c *Client) VerifyAudit(ctx context.Context) (edge.AuditVerdict, error) {
	return ask[edge.AuditVerdict](ctx, c, call{path: path("audit", "verify")})
}
