package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// rawPatience is how long sending a program may take, as long as the hub allows.
const rawPatience = 10 * time.Minute

// A call is one request to be made.
type call struct {
	method string // "" for GET
	path   string
	query  url.Values
	body   any       // sent as JSON; nil for none
	raw    io.Reader // sent as it is, in place of body
	match  string
	absent bool // If-None-Match: *
}

// ask makes a call whose answer is a T in JSON.
func ask[T any](ctx context.Context, c *Client, how call) (T, error) {
	var answer T
	err := c.do(ctx, how, &answer)
	return answer, err
}

// do makes a call and reads its answer into into: JSON, or as it is if into is
// a *[]byte. A nil into drops the answer.
func (c *Client) do(ctx context.Context, how call, into any) error {
	allowed := patience
	if how.raw != nil {
		allowed = rawPatience
	}
	bounded, stop := context.WithTimeout(ctx, allowed)
	defer stop()
	resp, err := c.send(bounded, how)
	if err != nil {
		return c.explain(ctx, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return c.explain(ctx, err)
	case len(body) > maxAnswer:
		return &edge.Error{Code: edge.TooLarge, Message: fmt.Sprintf("the hub's answer is larger than %d MiB", maxAnswer>>20), Hint: "ask for less at a time"}
	}
	switch into := into.(type) {
	case nil:
		return nil
	case *[]byte:
		*into = body
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return c.stranger(resp)
	}
	return nil
}

// send makes a call and returns its answer if it is a good one, the body to be
// closed by the caller. Its error is an *edge.Error of the hub, or that of the
// connection.
func (c *Client) send(ctx context.Context, how call) (*http.Response, error) {
	req, err := c.request(ctx, how)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.refusal(resp)
}

func (c *Client) request(ctx context.Context, how call) (*http.Request, error) {
	target := c.url + how.path
	query := url.Values{}
	maps.Copy(query, how.query)
	if c.node != "" {
		query.Set("node", c.node)
	}
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	body := how.raw
	if how.body != nil {
		text, err := json.Marshal(how.body)
		if err != nil {
			return nil, &edge.Error{Code: edge.Invalid, Message: "encode request: " + err.Error()}
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, how.method, target, body)
	if err != nil || req.URL.Host == "" {
		return nil, &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("%q is not the address of a hub", c.url), Hint: "it looks like http://127.0.0.1:7780"}
	}
	for name, value := range map[string]string{"Sedge-User": c.User, "If-Match": how.match} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if how.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if how.absent {
		req.Header.Set("If-None-Match", "*")
	}
	return req, nil
}

// refusal reads what the hub answered instead of doing what it was asked.
func (c *Client) refusal(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	var told struct {
		Error *edge.Error `json:"error"`
	}
	if json.Unmarshal(text, &told) == nil && told.Error != nil && told.Error.Code != "" && told.Error.Message != "" {
		return told.Error
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))            // of no consequence if it is malformed
	if resp.StatusCode == http.StatusServiceUnavailable && kind == "text/plain" { // readyz
		return &edge.Error{Code: edge.Unavailable, Message: strings.TrimSpace(string(text))}
	}
	return c.stranger(resp)
}

// stranger is the error for an answer that no hub gives.
func (c *Client) stranger(resp *http.Response) error {
	return &edge.Error{
		Code:    edge.Unavailable,
		Message: fmt.Sprintf("what listens at %s does not answer like a sedge hub (%s)", c.url, resp.Status),
		Hint:    "see that the address is right and that the hub is of this version",
	}
}

// explain turns the error of a connection into what a person can act on.
func (c *Client) explain(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*edge.Error](err); ok {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("ask hub: %w", ctx.Err())
	case errors.Is(err, syscall.ECONNREFUSED):
		return &edge.Error{Code: edge.Unavailable, Message: "no sedge hub at " + c.url, Hint: "start one with: sedge up"}
	case errors.Is(err, context.DeadlineExceeded):
		return &edge.Error{Code: edge.Timeout, Message: fmt.Sprintf("the hub at %s did not answer within %v", c.url, patience)}
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the method and the address once more
	}
	return &edge.Error{Code: edge.Unavailable, Message: fmt.Sprintf("connection to the hub at %s: %v", c.url, err)}
}
