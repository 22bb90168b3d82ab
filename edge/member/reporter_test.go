package member

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// script plays reports to a reporter, every two seconds, and returns after how many
// seconds it has said something.
func (r *reporter) script(now *time.Time, seconds int, list func(at int) []edge.FunctionReport, checks ...edge.Check) (said []int) {
	for at := 0; at < seconds; at += 2 {
		if got := r.next(*now, list(at), checks); len(got) > 0 {
			said = append(said, at)
		}
		*now = now.Add(glance)
	}
	return said
}

func TestNumbersAreToldAtOnceWhileARevisionIsYoungAndSeldomLater(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	var r reporter
	busy := func(at int) []edge.FunctionReport {
		return []edge.FunctionReport{{Name: "a", Revision: "1", Runs: int64(at)}}
	}
	idle := func(int) []edge.FunctionReport { return []edge.FunctionReport{{Name: "a", Revision: "1"}} }
	if got := r.script(&now, 10, busy); !slices.Equal(got, []int{0, 2, 4, 6, 8}) {
		t.Errorf("a young one is told of after %v s", got)
	}
	r.script(&now, 600, busy)
	if got := r.script(&now, 180, busy); len(got) != 3 || got[1]-got[0] != 60 || got[2]-got[1] != 60 {
		t.Errorf("an old one is told of after %v s, want each minute", got)
	}
	r.script(&now, 120, idle)
	if got := r.script(&now, 600, idle); len(got) != 0 {
		t.Errorf("one that does not change is told of after %v s", got)
	}
	for name, f := range map[string]edge.FunctionReport{
		"phase":    {Name: "a", Revision: "1", Phase: edge.Failing},
		"bad":      {Name: "a", Revision: "1", Phase: edge.Failing, Bad: "2"},
		"revision": {Name: "a", Revision: "3"},
	} {
		got := r.script(&now, 4, func(int) []edge.FunctionReport { return []edge.FunctionReport{f} })
		if !slices.Equal(got, []int{0}) {
			t.Errorf("a changed %s is told after %v s, want at once and once", name, got)
		}
		r.script(&now, 700, func(int) []edge.FunctionReport { return []edge.FunctionReport{f} })
	}
}

func TestWhatIsGoneAndWhatIsAmissIsToldOnce(t *testing.T) {
	now := time.Now()
	var r reporter
	a, b := edge.FunctionReport{Name: "a"}, edge.FunctionReport{Name: "b"}
	bad := edge.Check{Name: "broker", Why: "it is away"}
	for i, c := range []struct {
		list   []edge.FunctionReport
		checks []edge.Check
		want   string
	}{
		{[]edge.FunctionReport{a, b}, []edge.Check{{Name: "store", OK: true}, bad}, "2 [] [{broker false it is away}]"},
		{[]edge.FunctionReport{a, b}, []edge.Check{{Name: "store", OK: true}, bad}, ""},
		{[]edge.FunctionReport{a}, []edge.Check{{Name: "store", OK: true}, bad}, "0 [b] []"},
		{[]edge.FunctionReport{a}, []edge.Check{{Name: "broker", OK: true}}, "0 [] [{broker true }]"},
		{[]edge.FunctionReport{a}, []edge.Check{bad}, "0 [] [{broker false it is away}]"},
		{[]edge.FunctionReport{a}, nil, "0 [] [{broker true }]"},
		{nil, nil, "0 [a] []"},
		{nil, nil, ""},
	} {
		got := ""
		for _, rep := range r.next(now, c.list, c.checks) {
			got += fmt.Sprint(len(rep.Functions), rep.Gone, rep.Faults)
		}
		if now = now.Add(glance); got != c.want {
			t.Errorf("%d: told %q, want %q", i, got, c.want)
		}
	}
}

func TestReportsFitIntoMessages(t *testing.T) {
	var r reporter
	var list []edge.FunctionReport
	long := string(make([]byte, 100<<10))
	for i := range edge.MaxFunctions {
		list = append(list, edge.FunctionReport{Name: fmt.Sprintf("%063d", i), Revision: "0123456789012345678901234567890123456789012345678901234567890123", Reason: long, Error: long})
	}
	n := 0
	for _, rep := range r.next(time.Now(), list, nil) {
		n += len(rep.Functions)
		if _, err := edge.Encode(rep); err != nil {
			t.Error(err)
		}
	}
	if n != edge.MaxFunctions {
		t.Errorf("%d functions are reported, want %d", n, edge.MaxFunctions)
	}
}
