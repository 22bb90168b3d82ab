package functions

import (
	"slices"
	"testing"
	"time"
	_ "time/tzdata" // a machine that runs the tests may have none
)

func firing(t *testing.T, trigger ScheduleTrigger, after string, n int) []string {
	t.Helper()
	s, err := trigger.Compile()
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339, after)
	if err != nil {
		t.Fatal(err)
	}
	if trigger.Timezone != "" {
		zone, err := time.LoadLocation(trigger.Timezone)
		if err != nil {
			t.Fatal(err)
		}
		at = at.In(zone)
	}
	var times []string
	for range n {
		at = s.NextAfter(at)
		times = append(times, at.Format(time.RFC3339))
	}
	return times
}

func TestCronFires(t *testing.T) {
	const berlin = "Europe/Berlin" // forward on 2026-03-29 at 2:00, back on 2026-10-25 at 3:00
	tests := []struct {
		name, cron, zone, after string
		want                    []string
	}{
		{"every evening", "0 22 * * *", berlin, "2026-11-23T21:30:00+01:00",
			[]string{"2026-11-23T22:00:00+01:00", "2026-11-24T22:00:00+01:00"}},
		{"not again at its own time", "0 22 * * *", berlin, "2026-11-23T22:00:00+01:00",
			[]string{"2026-11-24T22:00:00+01:00"}},
		{"right after a time that is skipped", "30 2 * * *", berlin, "2026-03-28T12:00:00+01:00",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"}},
		{"once for all that are skipped", "*/20 2 * * *", berlin, "2026-03-28T12:00:00+01:00",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"}},
		{"once for the skipped and the real", "0 2,3 * * *", berlin, "2026-03-28T12:00:00+01:00",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"}},
		{"once at a time that comes twice", "30 2 * * *", berlin, "2026-10-24T12:00:00+02:00",
			[]string{"2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"}},
		{"not in the second of two hours", "30 2 * * *", berlin, "2026-10-25T02:10:00+01:00",
			[]string{"2026-10-26T02:30:00+01:00"}},
		{"each hour through the skipped one", "30 * * * *", berlin, "2026-03-29T01:00:00+01:00",
			[]string{"2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00", "2026-03-29T04:30:00+02:00"}},
		{"each hour through the doubled one", "30 * * * *", berlin, "2026-10-25T01:00:00+02:00",
			[]string{"2026-10-25T01:30:00+02:00", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"}},
		{"at the first instant after the change", "0 * * * *", berlin, "2026-10-25T02:30:00+02:00",
			[]string{"2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"}},
		{"where midnight does not exist", "0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00-03:00",
			[]string{"2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"}},
		{"where a whole day is skipped", "0 12 * * *", "Pacific/Apia", "2011-12-29T13:00:00-10:00",
			[]string{"2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"}},
		{"where the clock moves by half an hour", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00+10:30",
			[]string{"2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"}},
		{"on 29 February", "0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", []string{"2104-02-29T00:00:00Z"}},
		{"on the day of the month or the weekday", "0 0 13 * 5", "UTC", "2026-11-10T00:00:00Z",
			[]string{"2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z", "2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z", "2026-12-11T00:00:00Z", "2026-12-13T00:00:00Z"}},
		{"by a name", "@daily", "Asia/Kathmandu", "2026-11-23T22:00:00+05:45", []string{"2026-11-24T00:00:00+05:45"}},
		{"in the zone of the time asked about", "0 22 * * *", "", "2026-11-23T21:30:00+03:00", []string{"2026-11-23T22:00:00+03:00"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := firing(t, ScheduleTrigger{Cron: tt.cron, Timezone: tt.zone}, tt.after, len(tt.want))
			if !slices.Equal(got, tt.want) {
				t.Errorf("%s fires at %v, want %v", tt.cron, got, tt.want)
			}
		})
	}
}

func TestEveryKeepsToItsMultiplesWheneverItStarts(t *testing.T) {
	s, err := ScheduleTrigger{Every: Duration(90 * time.Second)}.Compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, start := range []time.Time{time.Unix(1, 1), time.Unix(89, 999_999_999), time.Unix(0, 0)} {
		if got, want := s.NextAfter(start), time.Unix(90, 0); !got.Equal(want) {
			t.Errorf("after %v comes %v, want %v", start, got, want)
		}
	}
	for start, want := range map[int64]int64{90: 180, 180: 270, -1: 0, -90: 0, -91: -90} {
		if got := s.NextAfter(time.Unix(start, 0)); got.Unix() != want {
			t.Errorf("after %d comes %d, want %d", start, got.Unix(), want)
		}
	}
}

// TestCronAlwaysGoesOn walks through two years of every kind of clock: the
// next time is later, and on the wall a time that is meant or one right after a
// skipped one.
func TestCronAlwaysGoesOn(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "UTC", "Africa/Casablanca"} {
		for _, cron := range []string{"*/30 * * * *", "15 2 * * *", "0 0 * * *", "0 */2 * * *", "59 23 * * 0"} {
			s, err := ScheduleTrigger{Cron: cron, Timezone: zone}.Compile()
			if err != nil {
				t.Fatal(err)
			}
			at := time.Date(2017, 1, 1, 0, 0, 0, 0, time.UTC)
			for end := at.AddDate(2, 0, 0); at.Before(end); {
				next := s.NextAfter(at)
				if !next.After(at) || next.Sub(at) > 8*24*time.Hour {
					t.Fatalf("%s in %s: after %v comes %v", cron, zone, at, next)
				}
				if between := s.NextAfter(next.Add(-time.Second)); !between.Equal(next) {
					t.Fatalf("%s in %s: after %v comes %v, but a second before that %v", cron, zone, at, next, between)
				}
				at = next
			}
		}
	}
}

func FuzzCron(f *testing.F) {
	f.Add("*/5 0-3 1,15 JAN-MAR MON", int64(1_800_000_000))
	f.Add("@weekly", int64(0))
	f.Fuzz(func(t *testing.T, cron string, unix int64) {
		s, err := ScheduleTrigger{Cron: cron, Timezone: "America/Sao_Paulo"}.Compile()
		if err != nil {
			return
		}
		at := time.Unix(unix%4_000_000_000, 0)
		if next := s.NextAfter(at); !next.IsZero() && !next.After(at) {
			t.Errorf("%q: after %v comes %v", cron, at, next)
		}
	})
}
