package main

import (
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// span writes a time in seconds as people read it: 0.8ms, 12ms, 3.4s, 5m2s.
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d <= 0:
		return "-"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", d.Seconds()*1000)
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// ago says how long a time lies back, roughly.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(time.Since(t), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return fmt.Sprintf("%dd ago", int(d.Hours()/24))
}

// size writes a number of bytes: 512 B, 1.5 KiB, 3.0 MiB.
func size(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// plural writes a count with its noun: 1 delivery, 2 deliveries.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// clock writes a moment of today's log.
func clock(t time.Time) string { return t.Local().Format("15:04:05.000") }

// day writes a moment of a history.
func day(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// seconds returns a manifest's duration in seconds.
func seconds(d functions.Duration) float64 { return time.Duration(d).Seconds() }

// from says where an event came from: its topic, or what else made it.
func from(topic string, source devices.Source) string {
	if topic != "" {
		return topic
	}
	return string(source)
}
