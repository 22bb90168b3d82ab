package runner

import "time"

// The rate at which a runner may log.
const (
	linesPerSecond = 500
	linesAtOnce    = 2000
)

// A throttle lets lines pass at a limited rate and counts what it stops. One
// goroutine at a time uses it.
type throttle struct {
	tokens  float64
	last    time.Time
	dropped int
}

// allow reports whether a line may pass now, and how many were stopped since
// the last one that did, this one included.
func (t *throttle) allow(now time.Time) (dropped int, ok bool) {
	if t.last.IsZero() {
		t.tokens = linesAtOnce
	} else {
		t.tokens = min(linesAtOnce, t.tokens+now.Sub(t.last).Seconds()*linesPerSecond)
	}
	t.last = now
	if t.tokens < 1 {
		t.dropped++
		return t.dropped, false
	}
	t.tokens--
	dropped, t.dropped = t.dropped, 0
	return dropped, true
}
