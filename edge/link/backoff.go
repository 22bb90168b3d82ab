package link

import (
	"math/rand/v2"
	"time"
)

const (
	firstWindow = 20 * time.Second // in which a fleet comes back after its hub has restarted
	lastWindow  = 2 * time.Minute  // see RATIONALE.md
	lasting     = time.Minute      // a session that ended sooner has mended nothing
	askedMax    = time.Hour        // of what a hub, or whatever answers for it, may ask a node to wait
)

// A Backoff says how long a node waits before it dials again: any time within a window
// of 20 seconds, twice, and then one that doubles up to two minutes. The zero Backoff is
// ready; it is not for several goroutines.
type Backoff struct {
	// Random returns a number in [0, 1), or is nil for math/rand.
	Random func() float64

	window time.Duration // of the last wait
	second bool          // there were two of the first window
}

// Next returns how long to wait after a session that lasted so long, 0 if there was none,
// if the hub has asked to be left alone for as long as asked (see [RetryAfter]), or 0.
// A session of a minute and more makes the windows start anew.
func (b *Backoff) Next(lasted, asked time.Duration) time.Duration {
	switch {
	case b.window == 0 || lasted >= lasting:
		b.window, b.second = firstWindow, false
	case !b.second: // what came while the hub was starting
		b.second = true
	default:
		b.window = min(2*b.window, lastWindow)
	}
	random := rand.Float64
	if b.Random != nil {
		random = b.Random
	}
	return min(max(asked, 0), askedMax) + time.Duration(random()*float64(b.window))
}
