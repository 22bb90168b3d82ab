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
		return edge.Running, ""
	case f.starting != nil:
		return edge.Starting, ""
	}
	return edge.Asleep, ""
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
