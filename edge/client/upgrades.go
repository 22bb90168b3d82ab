package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/sedge-iot/sedge/edge"
)

// PushRelease has the hub keep a program for nodes to become. The rest of its release the
// hub finds out.
func (c *Client) PushRelease(ctx context.Context, is edge.Release, program io.Reader) (edge.Release, error) {
	where := path(append([]string{"releases", is.Version}, strings.Split(is.Platform, "/")...)...)
	return ask[edge.Release](ctx, c, call{method: http.MethodPut, path: where, query: url.Values{"signature": {is.Signature}}, raw: program})
}

// Releases returns the programs that nodes may become.
func (c *Client) Releases(ctx context.Context) ([]edge.Release, error) {
	list, err := ask[struct {
		Releases []edge.Release `json:"releases"`
	}](ctx, c, call{path: path("releases")})
	return list.Releases, err
}

// Upgrades returns the rollouts of versions, the newest first.
func (c *Client) Upgrades(ctx context.Context) ([]edge.UpgradeRollout, error) {
	list, err := ask[struct {
		Upgrades []edge.UpgradeRollout `json:"upgrades"`
	}](ctx, c, call{path: path("upgrades")})
	return list.Upgrades, err
}

// Upgrade starts the rollout of a version.
func (c *Client) Upgrade(ctx context.Context, how edge.UpgradeAsk) (edge.UpgradeRollout, error) {
	return ask[edge.UpgradeRollout](ctx, c, call{method: http.MethodPost, path: path("upgrades"), body: how})
}

// SteerUpgrade changes how an upgrade goes on: pause, resume, promote or abort.
func (c *Client) SteerUpgrade(ctx context.Context, id int64, verb string) (edge.UpgradeRollout, error) {
	return ask[edge.UpgradeRollout](ctx, c, call{method: http.MethodPost, path: path("upgrades", strconv.FormatInt(id, 10), verb)})
}
