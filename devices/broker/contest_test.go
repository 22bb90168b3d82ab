package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestTwoDevicesWithOneClientIDAreTold(t *testing.T) {
	for name, h := range map[string]hello{"kept": {id: "lamp", keep: true}, "clean": {id: "lamp"}} {
		t.Run(name, func(t *testing.T) {
			b := run(t, Config{})
			dial(t, b.Addr(), hello{id: "switch"})
			for n := range 1 + contested {
				if st := b.Status(); len(st.Faults) > 0 || st.Takeovers != uint64(max(0, n-1)) {
					t.Errorf("after %d connections: %d takeovers, faults %q", n, st.Takeovers, st.Faults)
				}
				dial(t, b.Addr(), h)
			}
			st := b.Status()
			if st.Takeovers != contested || len(st.Faults) != 1 || !strings.HasSuffix(st.Faults[0], "same client id?: lamp") {
				t.Errorf("%d takeovers, faults %q; want %d and one about lamp", st.Takeovers, st.Faults, contested)
			}
		})
	}
}

func TestAContestIsToldOnceAMinuteAndForgottenWhenItIsOver(t *testing.T) {
	var c contests
	now, told := time.Unix(0, 0), 0
	for range 600 { // every second, for ten minutes
		if c.add(identity{client: "lamp"}, now) {
			told++
		}
		now = now.Add(time.Second)
	}
	if told != 10 {
		t.Errorf("told %d times, want 10", told)
	}
	if c.fault(now) == "" {
		t.Error("no fault while it goes on")
	}
	if f := c.fault(now.Add(2 * contestTime)); f != "" {
		t.Errorf("fault %q when it is over", f)
	}
	for n := range 10 * maxContested {
		c.add(identity{client: fmt.Sprint(n)}, now)
	}
	if len(c.lost) > maxContested {
		t.Errorf("%d clients are watched, want at most %d", len(c.lost), maxContested)
	}
}
