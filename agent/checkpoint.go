package agent

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
)

// checkpoints stores each minute what the triggers remember, if it has changed:
// a crash costs at most one run too many for each device.
func (a *Agent) checkpoints(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.saveGates()
		}
	}
}

func (a *Agent) saveGates() {
	for _, f := range a.all() {
		f.saveGates()
	}
}

func (f *function) saveGates() {
	f.mu.Lock()
	memories := map[int]json.RawMessage{}
	f.unsaved = f.plan.snapshot() || f.unsaved
	changed := f.unsaved
	f.unsaved = false
	for i, t := range f.plan.triggers {
		if t.memory != nil {
			memories[i] = t.memory
		}
	}
	f.mu.Unlock()
	if !changed || f.removed.Load() {
		return
	}
	all, err := json.Marshal(memories)
	if err == nil {
		err = f.a.Store.SaveGate(f.name, all)
	}
	if err != nil {
		f.a.Logger.Warn("what triggers remember could not be stored", "fn", f.name, "err", err)
		f.mu.Lock()
		f.unsaved = true // the next checkpoint tries again
		f.mu.Unlock()
	}
}

// restoreGates lets the triggers remember what the last checkpoint held.
func (f *function) restoreGates() {
	all, err := f.a.Store.LoadGate(f.name)
	memories := map[int]json.RawMessage{}
	if err == nil && all != nil {
		err = json.Unmarshal(all, &memories)
	}
	for i := range f.plan.triggers {
		t := &f.plan.triggers[i]
		if t.gate == nil || memories[i] == nil || err != nil {
			continue
		}
		t.memory = memories[i]
		err = t.gate.Restore(t.memory)
	}
	if err != nil {
		f.a.Logger.Warn("triggers start as if new", "fn", f.name, "err", err)
	}
}

// armed tells the trigger of a recovered timer that it is still to come.
func (f *function) armed(key store.TimerKey) {
	index, device, ok := strings.Cut(key.Key, ":")
	i, err := strconv.Atoi(index)
	if !ok || err != nil || key.Kind != store.TimerHold || i >= len(f.plan.triggers) || f.plan.triggers[i].gate == nil {
		return
	}
	f.plan.triggers[i].gate.Armed(device)
}
