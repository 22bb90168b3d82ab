// Package client is the hub's API in Go: one method for each of its verbs (see
// API.md beside package hub). It promises that every error it returns for an
// answer of the hub, and for a hub that cannot be reached, is an [*edge.Error],
// that no answer is read beyond a limit, and that nothing is sent twice. What
// to show a person, and when to try again, it leaves to its caller.
package client

import (
	"context"
	"iter"
	"net/http"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// A Client speaks to one hub. Its methods may be called from several goroutines.
type Client struct {
	User string // who asks, as the history shall name it; set before the first call

	url   string
	token string
	http  *http.Client
}

// New returns a client of the hub at url, like http://127.0.0.1:7780.
func New(url, token string) *Client { panic("soon") }

// Functions returns the functions that the hub holds, by name.
func (c *Client) Functions(ctx context.Context) ([]edge.FunctionStatus, error) { panic("soon") }

// Function returns one function, its code included.
func (c *Client) Function(ctx context.Context, name string) (edge.FunctionDetail, error) {
	panic("soon")
}

// DeployOptions change what Deploy does.
type DeployOptions struct {
	DryRun  bool               // validate and compare, change nothing
	IfMatch functions.Revision // if set, the current revision must be this one, else a Conflict names it
}

// Deploy makes f the current revision of its function.
func (c *Client) Deploy(ctx context.Context, f functions.Function, o DeployOptions) (edge.Change, error) {
	panic("soon")
}

// Delete removes a function; purge removes its state and dead letters too.
func (c *Client) Delete(ctx context.Context, name string, purge bool) (edge.Deleted, error) {
	panic("soon")
}

// Enable lets a function run again.
func (c *Client) Enable(ctx context.Context, name string) (edge.Change, error) { panic("soon") }

// Disable pauses a function: its deliveries wait.
func (c *Client) Disable(ctx context.Context, name string) (edge.Change, error) { panic("soon") }

// Rollback makes an earlier revision current: a number of the history or a
// revision, which may be shortened; "" for the one before.
func (c *Client) Rollback(ctx context.Context, name, to string) (edge.Change, error) { panic("soon") }

// History returns what was done to a function, newest first.
func (c *Client) History(ctx context.Context, name string) ([]edge.Revision, error) { panic("soon") }

// Revision returns a function as it was: a number of the history or a revision,
// which may be shortened.
func (c *Client) Revision(ctx context.Context, name, revision string) (functions.Function, error) {
	panic("soon")
}

// Invoke runs a function once. That it failed is in Invoked.Error, not in the
// error, which is about the asking.
func (c *Client) Invoke(ctx context.Context, name string, in edge.Invoke) (edge.Invoked, error) {
	panic("soon")
}

// Logs yields log lines until they end or ctx is done. After an error, which is
// nil if ctx ended, it yields nothing more.
func (c *Client) Logs(ctx context.Context, q edge.Query) iter.Seq2[edge.LogLine, error] {
	panic("soon")
}

// Events yields the trail, in the way of Logs.
func (c *Client) Events(ctx context.Context, q edge.Query) iter.Seq2[edge.Step, error] {
	panic("soon")
}

// Dead returns dead letters with ids above q.After, oldest first, at most
// q.Last of them (0: as many as the hub gives at a time).
func (c *Client) Dead(ctx context.Context, q edge.Query) ([]edge.DeadLetter, error) { panic("soon") }

// Redrive sends dead letters round again and returns how many.
func (c *Client) Redrive(ctx context.Context, which edge.DeadChoice) (int, error) { panic("soon") }

// Discard deletes dead letters and returns how many.
func (c *Client) Discard(ctx context.Context, which edge.DeadChoice) (int, error) { panic("soon") }

// State returns a function's keys that begin with prefix and come after the key
// after, in order, at most limit (0: as many as the hub gives at a time).
func (c *Client) State(ctx context.Context, function, prefix, after string, limit int) ([]edge.StateEntry, error) {
	panic("soon")
}

// StateGet returns one key.
func (c *Client) StateGet(ctx context.Context, function, key string) (edge.StateEntry, error) {
	panic("soon")
}

// StatePut sets e.Key to e.Value until e.Expires (zero: for ever). With
// ifVersion the key must have that version, 0 for not being there, else the
// error is a Conflict.
func (c *Client) StatePut(ctx context.Context, function string, e edge.StateEntry, ifVersion *int64) (edge.StateEntry, error) {
	panic("soon")
}

// StateDelete removes a key; ifVersion is as in StatePut.
func (c *Client) StateDelete(ctx context.Context, function, key string, ifVersion *int64) error {
	panic("soon")
}

// Version returns which program the hub is.
func (c *Client) Version(ctx context.Context) (edge.Version, error) { panic("soon") }

// Schema returns the JSON schema of manifests.
func (c *Client) Schema(ctx context.Context) ([]byte, error) { panic("soon") }

// Ready returns nil if the hub and its node are ready, else an Unavailable that
// says what is not.
func (c *Client) Ready(ctx context.Context) error { panic("soon") }
