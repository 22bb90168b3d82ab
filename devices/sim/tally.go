package sim

import (
	"fmt"
	"math"
	"time"
)

// A Tally is how the story was answered.
type Tally struct {
	Events    int // times that the story was told
	Reactions int // commands that answered it, at most one each
	Surplus   int // commands that answered nothing
	P50, P99  time.Duration
}

// Lost returns how many times nobody reacted.
func (t Tally) Lost() int { return t.Events - t.Reactions }

// String gives the tally as the last line of a demo has it.
func (t Tally) String() string {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return fmt.Sprintf("events=%d reactions=%d lost=%d p50_ms=%.2f p99_ms=%.2f", t.Events, t.Reactions, t.Lost(), ms(t.P50), ms(t.P99))
}

// Tally returns how the story has been answered so far.
func (w *World) Tally() Tally {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.tally.Tally
	t.P50, t.P99 = w.tally.quantile(0.50), w.tally.quantile(0.99)
	return t
}

// Buckets of reaction times grow by 2 % each from a microsecond on, up to hours.
const (
	bucketGrowth = 1.02
	buckets      = 1200
)

// A tally matches the first command with the first telling that has none, since
// commands do not say what they answer.
type tally struct {
	Tally
	due   []time.Time
	times [buckets]int
}

func (t *tally) expect(now time.Time) {
	t.Events++
	t.due = append(t.due, now)
}

// react reports whether no reaction is due any more.
func (t *tally) react(now time.Time) bool {
	if len(t.due) == 0 {
		t.Surplus++
		return true
	}
	took := max(now.Sub(t.due[0]), time.Microsecond)
	t.due = t.due[1:]
	t.Reactions++
	i := int(math.Log(float64(took)/float64(time.Microsecond)) / math.Log(bucketGrowth))
	t.times[min(i, buckets-1)]++
	return len(t.due) == 0
}

func (t *tally) quantile(q float64) time.Duration {
	rank := int(math.Ceil(q * float64(t.Reactions)))
	for i, n := range t.times {
		if rank -= n; rank <= 0 && t.Reactions > 0 {
			return time.Duration(math.Pow(bucketGrowth, float64(i)+0.5) * float64(time.Microsecond))
		}
	}
	return 0
}
