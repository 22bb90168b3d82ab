package functions

import (
	"encoding/json"
	"testing"
	"time"
)

func TestDurationsAreReadAndWritten(t *testing.T) {
	tests := []struct {
		text, again string
		want        time.Duration
	}{
		{"500ms", "500ms", 500 * time.Millisecond},
		{"5s", "5s", 5 * time.Second},
		{"1m30s", "1m30s", 90 * time.Second},
		{"90s", "1m30s", 90 * time.Second},
		{"2h", "2h", 2 * time.Hour},
		{"36h", "1d12h", 36 * time.Hour},
		{"7d", "7d", 7 * 24 * time.Hour},
		{"1d1h1m1s1ms", "1d1h1m1s1ms", 25*time.Hour + time.Minute + time.Second + time.Millisecond},
		{"0s", "0s", 0},
	}
	for _, tt := range tests {
		var d Duration
		if err := d.UnmarshalText([]byte(tt.text)); err != nil || time.Duration(d) != tt.want || d.String() != tt.again {
			t.Errorf("%q = %d, %v, written %s; want %d, %s", tt.text, d, err, d, tt.want, tt.again)
		}
	}
	for _, text := range []string{"", "5", "s", "5x", "1s1m", "1s1s", "-5s", "1.5h", " 5s", "5s ", "36501d", "99999999999999999999s", "5S"} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %v", text, d)
		}
	}
}

func TestSizesAreReadAndWritten(t *testing.T) {
	tests := []struct {
		text, again string
		want        Bytes
	}{
		{"0", "0", 0}, {"1", "1", 1}, {"1000", "1k", 1000}, {"1024", "1Ki", 1024}, {"64Ki", "64Ki", 64 << 10},
		{"1048576", "1Mi", 1 << 20}, {"500k", "500k", 500_000}, {"2M", "2M", 2_000_000}, {"3G", "3G", 3_000_000_000}, {"4Gi", "4Gi", 4 << 30},
	}
	for _, tt := range tests {
		var b Bytes
		if err := b.UnmarshalText([]byte(tt.text)); err != nil || b != tt.want || b.String() != tt.again {
			t.Errorf("%q = %d, %v, written %s; want %d, %s", tt.text, int64(b), err, b, int64(tt.want), tt.again)
		}
	}
	for _, text := range []string{"", "Mi", "1MB", "1K", "-1", "1.5Mi", "1 Mi", "9223372036854775808", "9223372036854775807k", "1Mi1"} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %v", text, b)
		}
	}
}

func TestSizeInJSONIsATextOrANumber(t *testing.T) {
	for text, want := range map[string]Bytes{`"1Mi"`: 1 << 20, `1048576`: 1 << 20, `null`: 7} {
		got := Bytes(7)
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{`-1`, `1.5`, `true`, `[]`, `""`} {
		var b Bytes
		if err := json.Unmarshal([]byte(text), &b); err == nil {
			t.Errorf("%s is read as %v", text, b)
		}
	}
}

func FuzzDuration(f *testing.F) {
	f.Add("1d2h3m4s5ms")
	f.Fuzz(func(t *testing.T, text string) {
		var d, again Duration
		if d.UnmarshalText([]byte(text)) != nil {
			return
		}
		written, err := d.MarshalText()
		if err != nil {
			t.Fatalf("%q is read as %d and cannot be written: %v", text, d, err)
		}
		if err := again.UnmarshalText(written); err != nil || again != d {
			t.Errorf("%q is read as %d, written %s, read again as %d, %v", text, d, written, again, err)
		}
	})
}

func FuzzBytes(f *testing.F) {
	f.Add("64Ki")
	f.Fuzz(func(t *testing.T, text string) {
		var b, again Bytes
		if b.UnmarshalText([]byte(text)) != nil {
			return
		}
		written, err := b.MarshalText()
		if err != nil {
			t.Fatalf("%q is read as %d and cannot be written: %v", text, b, err)
		}
		if err := again.UnmarshalText(written); err != nil || again != b {
			t.Errorf("%q is read as %d, written %s, read again as %d, %v", text, b, written, again, err)
		}
	})
}
