package member

import (
	"maps"
	"slices"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

const (
	glance    = 2 * time.Second  // how often it is looked how functions are
	youth     = 10 * time.Minute // of a revision: for so long its numbers are told as they change
	calm      = time.Minute      // between reports of numbers else
	maxText   = 200              // bytes of a reason or an error in a report
	perReport = 64               // functions
)

// A reporter decides what the hub is told of functions and faults, in one session: what
// has changed, at once if that is more than numbers, else now and then.
type reporter struct {
	sent   map[string]edge.FunctionReport
	checks map[string]edge.Check // those that were told as being amiss
	young  map[string]birth
	told   time.Time // when numbers were told last
}

type birth struct {
	revision functions.Revision
	at       time.Time
}

// next returns what is to be said now, in reports that each fit into a message: all there
// is when a session begins, and nothing when nothing has changed.
func (r *reporter) next(now time.Time, list []edge.FunctionReport, checks []edge.Check) (reports []*edge.Report) {
	first := r.sent == nil
	if first {
		r.sent, r.checks, r.young = map[string]edge.FunctionReport{}, map[string]edge.Check{}, map[string]birth{}
	}
	changed := r.changed(now, list)
	rest := edge.Report{Gone: r.gone(list), Faults: r.faults(checks)}
	for part := range slices.Chunk(changed, perReport) {
		reports = append(reports, &edge.Report{Functions: part})
	}
	if first || len(rest.Gone)+len(rest.Faults) > 0 {
		if len(reports) == 0 {
			reports = append(reports, &edge.Report{})
		}
		reports[0].Gone, reports[0].Faults = rest.Gone, rest.Faults
	}
	return reports
}

// changed are the functions of which something is to be told.
func (r *reporter) changed(now time.Time, list []edge.FunctionReport) (changed []edge.FunctionReport) {
	urgent := now.Sub(r.told) >= calm
	for i := range list {
		f := &list[i]
		f.Reason, f.Error = cut(f.Reason), cut(f.Error)
		was, known := r.sent[f.Name]
		if !known || *f == was {
			if known {
				continue
			}
			r.young[f.Name] = birth{f.Revision, now}
		}
		if b := r.young[f.Name]; b.revision != f.Revision {
			r.young[f.Name] = birth{f.Revision, now}
		}
		changed = append(changed, *f)
		calmly := known && was.Revision == f.Revision && was.Phase == f.Phase && was.Reason == f.Reason && was.Bad == f.Bad
		urgent = urgent || !calmly || now.Sub(r.young[f.Name].at) < youth
	}
	if !urgent {
		return nil
	}
	for _, f := range changed {
		r.sent[f.Name] = f
		r.told = now
	}
	return changed
}

// gone are the functions that are no more.
func (r *reporter) gone(list []edge.FunctionReport) (names []string) {
	left := maps.Clone(r.sent)
	for _, f := range list {
		delete(left, f.Name)
	}
	names = slices.Sorted(maps.Keys(left))
	for _, name := range names {
		delete(r.sent, name)
		delete(r.young, name)
	}
	return names
}

// faults are the checks that are amiss and were not, or otherwise; and those that are
// well again.
func (r *reporter) faults(checks []edge.Check) (list []edge.Check) {
	amiss := map[string]edge.Check{}
	for _, c := range checks {
		if c.Why = cut(c.Why); c.OK && c.Why == "" {
			continue
		}
		if amiss[c.Name] = c; r.checks[c.Name] != c {
			list = append(list, c)
		}
		delete(r.checks, c.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(r.checks)) {
		list = append(list, edge.Check{Name: name, OK: true})
	}
	r.checks = amiss
	return list
}

// cut shortens text to what a report holds.
func cut(text string) string {
	if len(text) <= maxText {
		return text
	}
	return text[:runeStart(text, maxText)] + "…"
}

// runeStart returns the end of the last whole character within n bytes.
func runeStart(text string, n int) int {
	for n > 0 && text[n]&0xC0 == 0x80 {
		n--
	}
	return n
}
