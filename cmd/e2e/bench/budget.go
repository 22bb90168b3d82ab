package main

import (
	"fmt"
	"strings"
	"time"
)

// A Budget is what a figure may be at most, or must be at least.
type Budget struct {
	What    string
	Allowed string
	Got     string
	Kept    bool
}

// budgets compares the report with what was promised.
func (r *Report) budgets() []Budget {
	at1000, full := r.Tuned[1], r.Tuned[2]
	var all []Budget
	most := func(what string, limit, got float64, format string) {
		all = append(all, Budget{what, "≤ " + fmt.Sprintf(format, limit), fmt.Sprintf(format, got), got <= limit})
	}
	least := func(what string, limit, got float64) {
		all = append(all, Budget{what, fmt.Sprintf("≥ %.1f×", limit), fmt.Sprintf("%.2f×", got), got >= limit})
	}
	most("event → publish, QoS 1, 1,000/s, p50, against the bare echo", 1.25, ratio(at1000.P50(outside), at1000.P50(bare)), "%.2f×")
	most("the same, p99", 2, ratio(at1000.P99(outside), at1000.P99(bare)), "%.2f×")
	least("sustained, QoS 1 in and out, 64 in flight, against the bare echo", 1, ratio(full.Rate(outside), full.Rate(bare)))
	least("the same with the embedded broker, against the same echo", 2, ratio(full.Rate(embedded), full.Rate(bare)))
	most("first event of a sleeping function, p50", 5, ms(quantile(r.Waking.Took, 0.5)), "%.1f ms")
	most("resident memory of an idle sedge-agent", 20, mb(r.Agent.Node.RSS), "%.1f MB")
	most("of that anonymous", 8, mb(r.Agent.Node.Anonymous), "%.1f MB")
	most("an idle runner's own memory (PSS)", 8, mb(r.Agent.Runner.PSS), "%.1f MB")
	for _, b := range r.Binaries {
		if b.Name == "sedge-agent-linux-arm64" {
			most("sedge-agent for arm64, stripped", 25, mb(b.Size), "%.1f MB")
		}
	}
	if !r.Flash.Counted {
		return append(all, Budget{"bytes to storage", "0", "not counted by this file system", false})
	}
	most("bytes to storage for a stateless event", 0, r.Flash.Stateless, "%.0f")
	most("bytes to storage for the first event of a sleeping function", 0, r.Waking.Bytes, "%.0f")
	most("bytes to storage by an idle node a day", 1<<20, r.Flash.Idle, "%.0f")
	return all
}

// missed reports whether a budget whose name has the word was not kept.
func (r *Report) missed(words ...string) bool {
	for _, b := range r.budgets() {
		for _, w := range words {
			if !b.Kept && strings.Contains(b.What, w) {
				return true
			}
		}
	}
	return false
}

func ratio[T float64 | time.Duration](a, b T) float64 { return float64(a) / float64(b) }
func ms(d time.Duration) float64                      { return d.Seconds() * 1000 }
func mb(n int64) float64                              { return float64(n) / 1e6 }
