package agent

import (
	"math/bits"
	"time"
)

// A histogram counts durations, in buckets that grow by a quarter of a power of
// two from 16 µs to 64 s: a quantile read from it is at most 19 % too high.
// Whoever owns it guards it.
type histogram struct {
	counts [histogramSteps]int64
	total  int64
	sum    time.Duration
}

const (
	histogramShift = 14 // the first bucket ends at 2^14 ns
	histogramSteps = 4*22 + 1
)

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
	h.sum += d
}

// bucket returns the index of the bucket for d.
func bucket(d time.Duration) int {
	n := uint64(max(d, 0))
	if n>>histogramShift == 0 {
		return 0
	}
	octave := bits.Len64(n) - 1 // n is in [2^octave, 2^(octave+1))
	quarter := n >> (octave - 2) & 3
	return min(1+4*(octave-histogramShift)+int(quarter), histogramSteps-1)
}

// bound returns where a bucket ends.
func bound(i int) time.Duration {
	octave, quarter := histogramShift+(i-1)/4, (i-1)%4
	if i == 0 {
		return 1 << histogramShift
	}
	return time.Duration(1) << octave / 4 * time.Duration(5+quarter)
}

// quantile returns the duration that the share q of all did not exceed, or 0 if
// there are none.
func (h *histogram) quantile(q float64) time.Duration {
	rank := int64(q * float64(h.total))
	var below int64
	for i, n := range h.counts {
		below += n
		if below > rank {
			return bound(i)
		}
	}
	return 0
}
