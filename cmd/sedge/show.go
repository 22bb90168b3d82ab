package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// show tells on stdout how a demo goes until ctx is done: on a terminal as a
// small picture that moves, else as a line a second.
func (sh *shell) show(ctx context.Context, t *tally) error {
	every, draw := time.Second, sh.drawLine
	if terminal(sh.out) {
		every, draw = 200*time.Millisecond, sh.drawPicture()
	}
	began := time.Now()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if err := draw(time.Since(began), t.count()); err != nil {
			return err
		}
	}
}

func (sh *shell) drawLine(since time.Duration, c count) error {
	_, err := fmt.Fprintf(sh.out, "%4.0fs  %s\n", since.Seconds(), sum(c))
	return err
}

// drawPicture returns a function that draws the latest reactions over those
// that it drew before.
func (sh *shell) drawPicture() func(time.Duration, count) error {
	drawn := 0
	return func(_ time.Duration, c count) error {
		var b strings.Builder
		if drawn > 0 {
			fmt.Fprintf(&b, "\x1b[%dA", drawn)
		}
		line := func(text string) { b.WriteString("\r\x1b[K" + text + "\n") }
		line("")
		for i := range maxLatest {
			if i >= len(c.latest) {
				line("")
				continue
			}
			r := c.latest[i]
			line(fmt.Sprintf("  %s  %-14s somebody moves  →  lamp on  %s", sh.paint(sh.out, dim, clock(r.at)), r.place, sh.paint(sh.out, green, ms(r.took)+" ms")))
		}
		line("")
		line("  " + sh.paint(sh.out, bold, sum(c)))
		drawn = maxLatest + 3
		_, err := fmt.Fprint(sh.out, b.String())
		return err
	}
}

func sum(c count) string {
	return fmt.Sprintf("%d events  %d reactions  p50 %s ms  p99 %s ms", c.events, c.reactions, ms(c.p50), ms(c.p99))
}
