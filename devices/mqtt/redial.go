package mqtt

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	leastBackoff = 100 * time.Millisecond // ceiling of the first wait
	lasting      = 10 * time.Second       // a connection this old was a success
	suspicious   = 3                      // connections in a row that were none
)

// keep calls connect, again and again until ctx is done, with full jitter: after
// any wait up to a ceiling, which doubles until a connection has lasted. It
// notes in s how that goes.
func (c *Client) keep(ctx context.Context, name string, s *Link, connect func(ctx context.Context, up func()) error) {
	ceiling, short := leastBackoff, 0
	for ctx.Err() == nil {
		var began time.Time
		err := connect(ctx, func() {
			began = time.Now()
			c.connected(name, s)
		})
		if ctx.Err() != nil {
			err = nil // it was to end
		}
		c.disconnected(name, s, err)
		switch {
		case err == nil || !began.IsZero() && time.Since(began) >= lasting:
			ceiling, short = leastBackoff, 0
		case !began.IsZero():
			if short++; short == suspicious {
				c.config.Logger.Warn("connections to the broker end soon after they begin: does another client use the same id?", "link", name, "id", c.config.ClientID)
			}
		}
		select {
		case <-time.After(rand.N(ceiling)):
		case <-ctx.Done():
		}
		ceiling = min(2*ceiling, c.config.MaxBackoff)
	}
}
