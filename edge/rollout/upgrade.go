package rollout

import (
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// usualPatience is how long a stage of an upgrade may take: two trials of ten minutes, three
// starts, and 128 MiB over a thin line.
const usualPatience = time.Hour

// BeginUpgrade returns the rollout of a version of the nodes' program. Its gate asks for
// no runs: that a node has confirmed the version is what [OfProgram] makes of one that is
// well. The error is an [*edge.Error] that is Invalid.
func BeginUpgrade(ask edge.UpgradeAsk) (edge.UpgradeRollout, error) {
	gate := Usual() // for the checks of the rest
	gate.Bake, gate.Patience = ask.Bake, ask.Patience
	if gate.Patience == 0 {
		gate.Patience = usualPatience
	}
	r, err := Begin(edge.RolloutAsk{Selector: ask.Selector, Stages: ask.Stages, Gate: &gate}, "", "", functions.Revision(ask.Version), "", time.Time{})
	if err != nil {
		return edge.UpgradeRollout{}, err
	}
	r.Gate = edge.Gate{Bake: gate.Bake, Patience: gate.Patience}
	return edge.UpgradeRollout{Rollout: r, Downgrade: ask.Downgrade}, nil
}

// OfProgram returns a node, of whose program p is known, as [Step] judges it in the upgrade
// of that number: a version on trial is starting, one that was given up is bad, one
// that is refused is waited for. A node that has told nothing of its program is as one that is away.
func OfProgram(n Seen, p *edge.UpgradeReport, order int64) Seen {
	n.Report, n.Unfit, n.Refusal = nil, nil, nil
	if p == nil {
		n.Online = false
		return n
	}
	n.Report = &edge.FunctionReport{Revision: functions.Revision(p.Version), Phase: edge.Running}
	if p.Trial {
		n.Report.Phase, n.Report.Reason = edge.Starting, "on trial"
	}
	if f := p.Failed; f != nil && f.Order == order {
		if f.Doubt {
			n.Refusal = &edge.Refusal{Why: "it was left once, and is tried again: " + f.Why}
		} else {
			n.Report.Bad, n.Report.Error = functions.Revision(f.Version), f.Why
		}
	}
	if r := p.Refused; r != nil && r.Order == order {
		n.Refusal = &edge.Refusal{Why: r.Why}
		if r.Held {
			n.Refusal.Reason = edge.RefusedHeld
		}
	}
	if p.Fault != "" && n.Refusal == nil {
		n.Refusal = &edge.Refusal{Why: p.Fault}
	}
	return n
}
