package mqtt

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// dials runs keep for a while with connections that last as long as given, and
// returns when each was dialled, and how long each wait before one was.
func dials(t *testing.T, last, whole time.Duration) (waits []time.Duration) {
	c, err := New(Config{URL: "mqtt://broker", ClientID: "node"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), whole)
	defer cancel()
	ended := time.Now()
	c.keep(ctx, "inbound", &c.status.In, func(ctx context.Context, up func()) error {
		waits = append(waits, time.Since(ended))
		if last > 0 {
			up()
			time.Sleep(last)
		}
		ended = time.Now()
		return errors.New("broker away")
	})
	return waits
}

func most(waits []time.Duration) (longest time.Duration) {
	for _, w := range waits {
		longest = max(longest, w)
	}
	return longest
}

func TestRedialsSlowDownToHalfAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := dials(t, 0, 100*time.Hour)
		for i, w := range waits[1:] {
			ceiling := 30 * time.Second
			if i < 8 {
				ceiling = 100 * time.Millisecond << i
			}
			if w > ceiling {
				t.Errorf("wait %d is %v, want at most %v", i+1, w, ceiling)
			}
		}
		mean := 100 * time.Hour / time.Duration(len(waits))
		if mean < 12*time.Second || mean > 18*time.Second {
			t.Errorf("mean wait %v, want about 15s: full jitter below 30s", mean)
		}
	})
}

func TestOneSecondConnectionIsNoSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if got, want := most(dials(t, time.Second, time.Hour)), 20*time.Second; got < want {
			t.Errorf("longest wait %v, want more than %v: the ceiling goes on rising", got, want)
		}
	})
}

func TestLastingConnectionIsASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if got, want := most(dials(t, time.Minute, 24*time.Hour)), leastBackoff; got > want {
			t.Errorf("longest wait %v, want at most %v", got, want)
		}
	})
}

func TestASessionThatIsTakenAwayAgainAndAgainIsToldOnce(t *testing.T) {
	for last, want := range map[time.Duration]int{time.Second: 1, time.Minute: 0} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			c, err := New(Config{URL: "mqtt://broker", ClientID: "node", Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			c.keep(ctx, "inbound", &c.status.In, func(_ context.Context, up func()) error {
				up()
				time.Sleep(last)
				return errors.New("connection ended")
			})
			if got := strings.Count(log.String(), "does another client use the same id?"); got != want {
				t.Errorf("connections of %v: told %d times, want %d", last, got, want)
			}
		})
	}
}
