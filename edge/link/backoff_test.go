package link_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge/link"
)

const fleet = 10_000

// comeback simulates a fleet that loses its hub at the same moment. It returns how many
// nodes dial in each tenth of a second of the first ten minutes.
func comeback(asked time.Duration, tries int) []int {
	random := rand.New(rand.NewPCG(1, 2))
	per := make([]int, 10*60*10)
	for range fleet {
		b := link.Backoff{Random: random.Float64}
		lasted, at := time.Hour, time.Duration(0)
		for range tries {
			at += b.Next(lasted, asked)
			lasted = 0
			if slot := int(at / (100 * time.Millisecond)); slot < len(per) {
				per[slot]++
			}
		}
	}
	return per
}

// steep returns the peak of the counts against their mean.
func steep(per []int) float64 {
	peak, sum := 0, 0
	for _, n := range per {
		peak, sum = max(peak, n), sum+n
	}
	return float64(peak) * float64(len(per)) / float64(sum)
}

func TestAFleetThatComesBackAtOnceComesSpread(t *testing.T) {
	const second = 10 // tenths
	if got := steep(comeback(0, 1)[:20*second]); got >= 3 {
		t.Errorf("to a hub that has started again: peak/mean = %.2f, want below 3", got)
	}
	if got := steep(comeback(30*time.Second, 1)[30*second : 50*second]); got >= 3 {
		t.Errorf("when the hub has asked all to wait 30 s: peak/mean = %.2f, want below 3", got)
	}
	if first := comeback(30*time.Second, 1)[:30*second]; steep(append(first, 1)) != float64(len(first)+1) {
		t.Error("some came before the 30 s that the hub has asked for")
	}
	for from, away := 0, comeback(0, 50); from < len(away); from += 20 * second {
		if got := steep(away[from : from+20*second]); got >= 3 {
			t.Errorf("while the hub is away, from second %d on: peak/mean = %.2f, want below 3", from/second, got)
		}
	}
}

func TestWhoComesWhileTheHubIsStartingIsBackIn30Seconds(t *testing.T) {
	const down = 5 * time.Second
	random := rand.New(rand.NewPCG(3, 4))
	for range fleet {
		b := link.Backoff{Random: random.Float64}
		at := b.Next(time.Hour, 0)
		if at < down {
			at += b.Next(0, 0)
		}
		if at > 30*time.Second {
			t.Fatalf("a node is back %v after the hub went, which was away for %v", at, down)
		}
	}
}

func TestTheWindowComesTwiceAndThenDoublesUpToTwoMinutesAndBeginsAnewAfterAMinute(t *testing.T) {
	b := link.Backoff{Random: func() float64 { return 0.5 }}
	for i, step := range []struct {
		lasted, asked, want time.Duration // the window is twice that
	}{
		{0, 0, 10 * time.Second},
		{0, 0, 10 * time.Second}, // the hub was starting
		{0, 0, 20 * time.Second},
		{time.Second, 0, 40 * time.Second}, // has mended nothing
		{59 * time.Second, 0, time.Minute},
		{0, 0, time.Minute},
		{0, 30 * time.Second, 90 * time.Second},
		{0, 1000 * time.Hour, time.Hour + time.Minute},
		{0, -time.Hour, time.Minute},
		{time.Minute, 0, 10 * time.Second},
		{time.Second, 0, 10 * time.Second},
		{time.Second, 0, 20 * time.Second},
	} {
		if got := b.Next(step.lasted, step.asked); got != step.want {
			t.Errorf("step %d: Next(%v, %v) = %v, want %v", i, step.lasted, step.asked, got, step.want)
		}
	}
}
