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

// PushRelease has the hub keep a program for nodes to become. What it is the signature
// says.
func (c *Client) PushRelease(ctx context.Context, program io.Reader, signature string) (edge.Release, error) {
	return ask[edge.Release](ctx, c, call{method: http.MethodPost, path: path("releases"), query: url.Values{"signature": {signature}}, raw: program})
}

// RemoveRelease has the hub forget a program.
func (c *Client) RemoveRelease(ctx context.Context, version, platform string) error {
	return c.do(ctx, call{method: http.MethodDelete, path: path(append([]string{"releases", version}, strings.Split(platform, "/")...)...)}, nil)
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
