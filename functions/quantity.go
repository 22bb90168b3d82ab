package functions

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Duration is written like 500ms, 5s, 1m30s, 2h, 7d: whole numbers with
// units, the largest first. It is never negative and no finer than 1ms.
type Duration time.Duration

const day = 24 * time.Hour

// maxDuration keeps sums with any time of this century within an int64.
const maxDuration = 36500 * day

type unit struct {
	name string
	size int64
}

// durationUnits go from the largest to the smallest.
func durationUnits() []unit {
	return []unit{
		{"d", int64(day)}, {"h", int64(time.Hour)}, {"m", int64(time.Minute)},
		{"s", int64(time.Second)}, {"ms", int64(time.Millisecond)},
	}
}

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	units, rest := durationUnits(), string(text)
	if rest == "" {
		return errors.New("is empty, not a duration such as 5s")
	}
	var sum int64
	for rest != "" {
		digits, name, tail := cutNumber(rest)
		if digits == "" || name == "" {
			return fmt.Errorf("%q is not a duration such as 500ms, 5s, 1m30s, 2h, 7d", text)
		}
		for len(units) > 0 && units[0].name != name {
			units = units[1:]
		}
		if len(units) == 0 {
			return fmt.Errorf("%q is not a duration: the units are d, h, m, s, ms, each once and the largest first", text)
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > (int64(maxDuration)-sum)/units[0].size {
			return fmt.Errorf("%q is over %v", text, Duration(maxDuration))
		}
		sum += n * units[0].size
		units, rest = units[1:], tail
	}
	*d = Duration(sum)
	return nil
}

// cutNumber splits 1m30s into 1, m, 30s.
func cutNumber(s string) (digits, unit, rest string) {
	number := func(r rune) bool { return r >= '0' && r <= '9' }
	n := strings.IndexFunc(s, func(r rune) bool { return !number(r) })
	if n < 0 {
		return s, "", ""
	}
	digits, s = s[:n], s[n:]
	if n = strings.IndexFunc(s, number); n < 0 {
		return digits, s, ""
	}
	return digits, s[:n], s[n:]
}

// String writes d so that it can be read again, if it is one that can be written.
func (d Duration) String() string {
	if d == 0 {
		return "0s"
	}
	if d < 0 || d%Duration(time.Millisecond) != 0 {
		return time.Duration(d).String()
	}
	var b strings.Builder
	for _, u := range durationUnits() {
		if n := int64(d) / u.size; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d -= Duration(n * u.size)
		}
	}
	return b.String()
}

// MarshalText writes d. It refuses what UnmarshalText would.
func (d Duration) MarshalText() ([]byte, error) {
	if d < 0 || d > Duration(maxDuration) || d%Duration(time.Millisecond) != 0 {
		return nil, fmt.Errorf("duration %v cannot be written", time.Duration(d))
	}
	return []byte(d.String()), nil
}

// Bytes is a size, written like 64Ki, 1Mi, 500k or a plain number.
type Bytes int64

// byteUnits go from the largest to the smallest.
func byteUnits() []unit {
	return []unit{{"Gi", 1 << 30}, {"G", 1e9}, {"Mi", 1 << 20}, {"M", 1e6}, {"Ki", 1 << 10}, {"k", 1e3}, {"", 1}}
}

// UnmarshalText reads a size.
func (b *Bytes) UnmarshalText(text []byte) error {
	digits, name, rest := cutNumber(string(text))
	for _, u := range byteUnits() {
		if name != u.name || digits == "" || rest != "" {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > math.MaxInt64/u.size {
			return fmt.Errorf("%q is too large", text)
		}
		*b = Bytes(n * u.size)
		return nil
	}
	return fmt.Errorf("%q is not a size such as 64Ki, 1Mi, 500k or a plain number of bytes", text)
}

// UnmarshalJSON reads a size that is a string or a plain number.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] != '"' {
		if string(data) == "null" {
			return nil
		}
		return b.UnmarshalText(data)
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	return b.UnmarshalText([]byte(s))
}

// String writes b with the largest unit that divides it.
func (b Bytes) String() string {
	for _, u := range byteUnits() {
		if b > 0 && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalText writes b. It refuses a negative size.
func (b Bytes) MarshalText() ([]byte, error) {
	if b < 0 {
		return nil, fmt.Errorf("size %d is negative", int64(b))
	}
	return []byte(b.String()), nil
}
