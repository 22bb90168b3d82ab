package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/devices/sim"
)

// show tells on stdout how a home lives until ctx is done: on a terminal as a
// small picture that moves, else as a line a second.
func (sh *shell) show(ctx context.Context, h *home) error {
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
		if err := draw(time.Since(began), h); err != nil {
			return err
		}
	}
}

func (sh *shell) drawLine(since time.Duration, h *home) error {
	_, err := fmt.Fprintf(sh.out, "%4.0fs  %s\n", since.Seconds(), sum(h.world.Tally()))
	return err
}

// drawPicture returns a function that draws the latest reactions over those
// that it drew before.
func (sh *shell) drawPicture() func(time.Duration, *home) error {
	drawn := 0
	return func(_ time.Duration, h *home) error {
		var b strings.Builder
		if drawn > 0 {
			fmt.Fprintf(&b, "\x1b[%dA", drawn)
		}
		line := func(text string) { b.WriteString("\r\x1b[K" + text + "\n"); drawn++ }
		drawn = 0
		line("")
		latest := h.tape.reactions()
		for i := range maxLatest {
			if i < len(latest) {
				line(sh.reaction(latest[i]))
			} else {
				line("")
			}
		}
		line("")
		line("  " + sh.paint(sh.out, bold, sum(h.world.Tally())))
		_, err := fmt.Fprint(sh.out, b.String())
		return err
	}
}

func (sh *shell) reaction(r reaction) string {
	return fmt.Sprintf("  %s  somebody moves in the dark hall  →  hall_lamp %s  %s",
		sh.paint(sh.out, dim, clock(r.at)), oneLine(r.command), sh.paint(sh.out, green, span(r.took.Seconds())))
}

func sum(t sim.Tally) string {
	return fmt.Sprintf("%s, %s, p50 %s, p99 %s", plural(t.Events, "event", "events"),
		plural(t.Reactions, "reaction", "reactions"), span(t.P50.Seconds()), span(t.P99.Seconds()))
}
