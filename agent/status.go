package agent

import (
	"cmp"
	"slices"

	"github.com/sedge-iot/sedge/edge"
)

// Functions returns how the node's functions are, by name.
func (a *Agent) Functions() []edge.FunctionStatus {
	var list []edge.FunctionStatus
	for _, f := range a.all() {
		if !f.removed.Load() {
			list = append(list, f.status())
		}
	}
	slices.SortFunc(list, func(x, y edge.FunctionStatus) int { return cmp.Compare(x.Name, y.Name) })
	return list
}

// Reports returns how the revisions in force of the hub's functions do, by name. It
// costs little.
func (a *Agent) Reports() []edge.FunctionReport {
	var list []edge.FunctionReport
	for _, f := range a.all() {
		if r, ours := f.report(); ours {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(x, y edge.FunctionReport) int { return cmp.Compare(x.Name, y.Name) })
	return list
}

func (f *function) report() (r edge.FunctionReport, ours bool) {
	dead := f.a.Store.DeadCount(f.name).Letters
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.removed.Load() || f.def.Origin != "" {
		return r, false
	}
	t := &f.trial
	r = edge.FunctionReport{
		Name: f.name, Revision: f.def.Function.Revision, Runs: t.runs, Failed: t.failed, P95: t.took.quantile(0.95).Seconds(),
		Waiting: max(f.pending-f.running, 0), Dead: dead, Bad: f.def.Bad, Error: cmp.Or(t.err, f.def.Why),
	}
	r.Phase, r.Reason = f.phaseLocked()
	return r, true
}

func (f *function) status() edge.FunctionStatus {
	dead, state := f.a.Store.DeadCount(f.name).Letters, f.a.Store.Usage(f.name).Bytes
	f.mu.Lock()
	defer f.mu.Unlock()
	s := edge.FunctionStatus{
		Name: f.name, Revision: f.def.Function.Revision, Runtime: f.manifest().Spec.Runtime, Origin: f.def.Origin,
		Counts: f.booksLocked(), Waiting: max(f.pending-f.running, 0), Running: f.running, Dead: dead, State: state,
		LastRun: f.lastRun, LastErr: f.lastErr,
		P50: f.latency.quantile(0.5).Seconds(), P99: f.latency.quantile(0.99).Seconds(),
	}
	for _, t := range f.plan.triggers {
		s.Triggers = append(s.Triggers, t.words)
	}
	s.Phase, s.Reason = f.phaseLocked()
	if f.worker != nil {
		s.Instance = append(s.Instance, f.worker.instance.Describe())
	}
	return s
}

func (f *function) phaseLocked() (edge.Phase, string) {
	switch {
	case !f.def.Enabled:
		return edge.Disabled, ""
	case f.pausedBy != "":
		return edge.Paused, f.pausedBy
	case f.failing != "":
		return edge.Failing, f.failing
	}
	if why := f.standbyLocked(); why != "" {
		return edge.Standby, why
	}
	if f.lacking != "" {
		return edge.Starting, f.lacking
	}
	if why := f.deafLocked(); why != "" {
		return edge.Starting, why
	}
	switch {
	case f.worker != nil:
		return edge.Running, f.gaveUpLocked()
	case f.starting != nil:
		return edge.Starting, f.gaveUpLocked()
	}
	return edge.Asleep, f.gaveUpLocked()
}

// gaveUpLocked says which revision the node has given up for the one in force, or "".
func (f *function) gaveUpLocked() string {
	if f.def.Bad == "" {
		return ""
	}
	return "revision " + f.def.Bad.Short() + " was given up: " + f.def.Why
}

// deafLocked says why the function does not hear its devices yet, or "".
func (f *function) deafLocked() string {
	hears := slices.ContainsFunc(f.plan.triggers, func(t trigger) bool { return t.spec.MQTT != nil })
	connected := f.a.Connected
	if f.plan.home == shared {
		connected = f.a.Cluster.Connected
	}
	if !hears || connected == nil {
		return ""
	}
	ok, why := connected()
	if ok {
		return ""
	}
	return "waits for the broker: " + why
}
