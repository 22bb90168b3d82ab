package member

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge/keys"
)

// An Owner is what the one whose machine the node is lets the hub do. The zero value lets
// in all that the hub tells.
type Owner struct {
	Window  *Window  // when the hub may change what runs; nil: always
	Signers *Signers // whose signatures a function needs; nil: it needs none
}

// A Window is a time of the day, on some days of the week, in the local time zone.
type Window struct {
	text     string
	days     [7]bool // from Sunday on
	from, to int     // minutes of the day; from > to: past midnight
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// ParseWindow reads a window: "02:00-04:00", or with days before it "Sat,Sun 02:00-04:00",
// "Mon-Fri 22:00-05:00". The days are those on which it begins.
func ParseWindow(text string) (*Window, error) {
	w := &Window{text: text}
	hours := strings.Fields(text)
	if len(hours) == 2 {
		if err := w.setDays(hours[0]); err != nil {
			return nil, err
		}
		hours = hours[1:]
	} else {
		w.days = [7]bool{true, true, true, true, true, true, true}
	}
	if len(hours) != 1 {
		return nil, fmt.Errorf("%q is no window: write it like 02:00-04:00 or Mon-Fri 22:00-05:00", text)
	}
	from, to, _ := strings.Cut(hours[0], "-")
	for _, side := range []struct {
		text   string
		minute *int
	}{{from, &w.from}, {to, &w.to}} {
		t, err := time.Parse("15:04", side.text)
		if err != nil {
			return nil, fmt.Errorf("%q is no time of the day: write it like 02:00", side.text)
		}
		*side.minute = t.Hour()*60 + t.Minute()
	}
	if w.from == w.to {
		return nil, fmt.Errorf("the window %s never opens", hours[0])
	}
	return w, nil
}

// setDays reads days of the week: names and ranges, with commas between.
func (w *Window) setDays(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := weekday(first)
		if err != nil {
			return err
		}
		to := from
		if isRange {
			if to, err = weekday(last); err != nil {
				return err
			}
		}
		for day := from; ; day = (day + 1) % 7 {
			w.days[day] = true
			if day == to {
				break
			}
		}
	}
	return nil
}

func weekday(name string) (int, error) {
	for day, short := range weekdays {
		if strings.EqualFold(name, short) {
			return day, nil
		}
	}
	return 0, fmt.Errorf("%q is no day of the week: write it like Mon", name)
}

// Open reports whether the window is open at t.
func (w *Window) Open(t time.Time) bool {
	minute, day := t.Hour()*60+t.Minute(), int(t.Weekday())
	if w.from < w.to {
		return w.days[day] && w.from <= minute && minute < w.to
	}
	return w.days[day] && w.from <= minute || w.days[(day+6)%7] && minute < w.to
}

func (w *Window) String() string { return w.text }

// Hold keeps everything that the hub tells from the node of the home dir until Release,
// across restarts. It works while a Member runs, too.
func Hold(dir, why string) error {
	if why == "" {
		why = "the owner holds this node"
	}
	return keys.Write(filepath.Join(dir, heldFile), []byte(why))
}

// Release ends a Hold.
func Release(dir string) error {
	if err := os.Remove(filepath.Join(dir, heldFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// held says why the owner lets nothing in at that time, or "".
func (h *Home) held(o Owner, now time.Time) string {
	f, err := os.Open(h.path(heldFile))
	switch {
	case err == nil:
		defer f.Close()
		why, _ := io.ReadAll(io.LimitReader(f, 200)) // what it says is for people, and that it is there is enough
		return "held by the owner: " + strings.ToValidUTF8(string(why), "")
	case !errors.Is(err, fs.ErrNotExist):
		return "it cannot be seen whether the owner holds this node: " + err.Error()
	case o.Window != nil && !o.Window.Open(now):
		return "the owner lets changes in " + o.Window.String() + " only"
	}
	return ""
}
