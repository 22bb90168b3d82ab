package functions

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/netresearch/go-cron"
)

// A Schedule says when a [ScheduleTrigger] fires. It is immutable and reads no clock.
type Schedule struct {
	every time.Duration
	wall  cron.Schedule  // on a clock that knows no zone, written as UTC
	zone  *time.Location // nil for that of the time that is asked about
	hours bool           // fires in every hour
}

// Compile makes the schedule that t describes.
func (t ScheduleTrigger) Compile() (*Schedule, error) {
	if t.Every > 0 {
		return &Schedule{every: time.Duration(t.Every)}, nil
	}
	zone, err := loadZone(t.Timezone)
	if err != nil {
		return nil, fmt.Errorf("schedule: %w", err)
	}
	wall, err := parseCron(t.Cron)
	if err != nil {
		return nil, fmt.Errorf("schedule: %w", err)
	}
	const all = 1<<24 - 1
	return &Schedule{wall: wall, zone: zone, hours: wall.Hour&all == all}, nil
}

// loadZone returns the time zone of that name, or nil for "".
func loadZone(name string) (*time.Location, error) {
	if name == "" {
		return nil, nil
	}
	if name == "Local" {
		return nil, errors.New("time zone Local is not a place")
	}
	return time.LoadLocation(name)
}

// parseCron reads five fields or @daily and the like. As crontab(5) has it, a
// day is meant if the day of the month or the weekday fits, where both are given.
func parseCron(text string) (*cron.SpecSchedule, error) {
	const yearsAhead = 12 // 29 February comes every 8 years at worst
	fields := cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.DowOrDom
	switch {
	case strings.Contains(text, "TZ="):
		return nil, errors.New("names a zone, for which there is the field timezone")
	case strings.HasPrefix(text, "@every"):
		return nil, errors.New("names a period, for which there is the field every")
	case strings.HasPrefix(text, "@"): // a time in it would be a word of its own
	case len(strings.Fields(text)) != 5:
		return nil, fmt.Errorf("%s has not the five fields minute, hour, day, month and weekday", quote(text))
	}
	parser, err := cron.TryNewParser(fields)
	if err != nil {
		return nil, err
	}
	schedule, err := parser.WithMaxSearchYears(yearsAhead).Parse(text)
	if err != nil {
		return nil, err
	}
	spec, ok := schedule.(*cron.SpecSchedule)
	if !ok {
		return nil, fmt.Errorf("%s is no cron expression", quote(text))
	}
	spec.Location = time.UTC
	if spec.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("%s never comes", quote(text))
	}
	return spec, nil
}

// NextAfter returns the first time after t at which the schedule fires, in t's
// zone. A schedule without a zone of its own keeps to that of t.
//
// Every fires at multiples of its period since 1970 UTC, so that a restart does
// not shift it. Cron follows the clock on the wall: a time that is skipped
// when clocks go forward fires right after, once for all that were skipped; a
// time that comes twice when they go back fires the first time only, unless the
// schedule fires in every hour of the day: that one fires in both.
func (s *Schedule) NextAfter(t time.Time) time.Time {
	if s.every > 0 {
		return nextMultiple(t, s.every)
	}
	zone := s.zone
	if zone == nil {
		zone = t.Location()
	}
	next := s.nextPlanned
	if s.hours {
		next = s.nextShown
	}
	if at := next(t.In(zone)); !at.IsZero() {
		return at.In(t.Location())
	}
	return time.Time{}
}

// nextMultiple returns the first multiple of period after t.
func nextMultiple(t time.Time, period time.Duration) time.Time {
	past := time.Duration(t.UnixNano()) % period
	if past < 0 {
		past += period
	}
	return t.Round(0).Add(period - past)
}

// nextPlanned gives each time on the wall one instant, whatever the clock does.
func (s *Schedule) nextPlanned(t time.Time) time.Time {
	for wall := s.wall.Next(onWall(t)); !wall.IsZero(); wall = s.wall.Next(wall) {
		if at := instant(wall, t.Location()); at.After(t) {
			return at
		}
	}
	return time.Time{}
}

// nextShown fires whenever the clock on the wall shows a time that is meant: it
// goes from one change of the clock to the next.
func (s *Schedule) nextShown(t time.Time) time.Time {
	for from := onWall(t); ; from = onWall(t).Add(-time.Second) {
		wall := s.wall.Next(from)
		if wall.IsZero() {
			return time.Time{}
		}
		_, offset := t.Zone()
		at := wall.Add(-time.Duration(offset) * time.Second)
		_, end := t.ZoneBounds()
		if end.IsZero() || at.Before(end) {
			return at
		}
		t = end
	}
}

// onWall returns what the clock on the wall shows at t, written as UTC.
func onWall(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// instant returns when the clock on the wall first shows that time, or the
// instant at which it skips it.
func instant(wall time.Time, zone *time.Location) time.Time {
	near := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, zone)
	start, end := near.ZoneBounds()
	switch shown := onWall(near); {
	case shown.After(wall):
		return start
	case shown.Before(wall):
		return end
	case start.IsZero():
		return near
	}
	_, now := near.Zone()
	_, before := start.Add(-1).Zone()
	earlier := near.Add(time.Duration(now-before) * time.Second)
	if earlier.Before(start) && onWall(earlier).Equal(wall) {
		return earlier
	}
	return near
}
