package rollout

import (
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// usualPatience is how long a stage of an upgrade may take: a trial of ten minutes, after
// three starts, and 128 MiB over a thin line.
const usualPatience = time.Hour

// BeginUpgrade returns the rollout of a version of the nodes' program. Its gate asks for
// no runs: that a node has confirmed the version is what [OfProgram] makes of one that is
// well. The error is an [*edge.Error] that is Invalid.
func BeginUpgrade(ask edge.UpgradeAsk) (edge.UpgradeRollout, error) {
	usual := Usual() // for the checks of the rest
	usual.Bake, usual.Patience = ask.Bake, ask.Patience
	if usual.Patience == 0 {
		usual.Patience = usualPatience
	}
	r, err := Begin(edge.RolloutAsk{Selector: ask.Selector, Stages: ask.Stages, Gate: &usual}, "", "", functions.Revision(ask.Version), "", time.Time{})
	if err != nil {
		return edge.UpgradeRollout{}, err
	}
	r.Gate = edge.Gate{Bake: usual.Bake, Patience: usual.Patience}
	return edge.UpgradeRollout{Rollout: r, Downgrade: ask.Downgrade}, nil
}

// OfProgram has a node seen, of whose program p is known, as [Step] judges it: a version
// on trial is starting, one that was given up is bad, one that was refused is unfit.
func OfProgram(n Seen, p *edge.UpgradeReport) Seen {
	n.Report, n.Unfit, n.Refusal = nil, nil, nil
	if p == nil {
		return n
	}
	n.Report = &edge.FunctionReport{Revision: functions.Revision(p.Version), Phase: edge.Running}
	if p.Trial {
		n.Report.Phase, n.Report.Reason = edge.Starting, "on trial"
	}
	if p.Failed != nil {
		n.Report.Bad, n.Report.Error = functions.Revision(p.Failed.Version), p.Failed.Why
	}
	if r := p.Refused; r != nil {
		n.Unfit = &edge.Unfit{Revision: functions.Revision(r.Version), Error: &edge.Error{Code: edge.Conflict, Message: r.Why}}
	}
	return n
}
