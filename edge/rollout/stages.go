package rollout

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// Limits of what may be asked for.
const (
	MaxStages   = 20
	MaxBake     = 7 * 24 * time.Hour
	MaxPatience = 30 * 24 * time.Hour
	maxText     = 256
	maxCount    = 1_000_000
)

// Usual returns the gate of a rollout that asks for none. It is made for a home as for
// a fleet: ten runs tell a revision that fails always or often from one that does not;
// within five minutes most functions of a home have run; and one that runs twice a day
// pauses after half an hour and says that it cannot be judged, instead of passing unseen.
func Usual() edge.Gate {
	return edge.Gate{MinRuns: 10, MaxErrors: 0.01, MaxP95: 2, Bake: 5 * time.Minute, Patience: 30 * time.Minute}
}

// Stages reads stages such as "1,10%,50%": counts and shares of the nodes, each more
// than the one of its kind before it. The last stage is always all; it need not be
// written. The error is an [*edge.Error] that is Invalid.
func Stages(text string) ([]edge.Stage, error) {
	if len(text) > maxText {
		return nil, invalid(stagesHint, "stages: %d bytes, at most %d are taken", len(text), maxText)
	}
	var stages []edge.Stage
	for part := range strings.SplitSeq(text, ",") {
		stage, ok := parseStage(strings.TrimSpace(part))
		if !ok {
			return nil, invalid(stagesHint, "stages %q: %q is neither a number nor a share of the nodes", text, strings.TrimSpace(part))
		}
		stages = append(stages, stage)
	}
	if !stages[len(stages)-1].All() {
		stages = append(stages, edge.Stage{Percent: 100})
	}
	return stages, checkStages(stages)
}

const stagesHint = "write them like 1,10%,50%; all follow at the end"

func parseStage(text string) (edge.Stage, bool) {
	if text == "all" {
		return edge.Stage{Percent: 100}, true
	}
	if share, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.ParseFloat(share, 64)
		return edge.Stage{Percent: percent}, err == nil
	}
	count, err := strconv.Atoi(text)
	return edge.Stage{Count: count}, err == nil
}

// checkStages refuses stages that do not rise to all.
func checkStages(stages []edge.Stage) error {
	if len(stages) > MaxStages {
		return invalid("fewer stages, each for more nodes, tell as much", "%d stages, at most %d are taken", len(stages), MaxStages)
	}
	var count int
	var percent float64
	for i, s := range stages {
		switch {
		case s.Count != 0 && s.Percent != 0:
			return invalid(stagesHint, "stage %d is a number and a share of the nodes at once", i+1)
		case s.Percent != 0 && !(s.Percent > percent && s.Percent <= 100):
			return invalid(stagesHint, "stage %d is %v%% of the nodes: shares rise, from above 0%% to 100%%", i+1, s.Percent)
		case s.Percent == 0 && (s.Count <= count || s.Count > maxCount):
			return invalid(stagesHint, "stage %d is of %d nodes: numbers rise, from 1 to %d", i+1, s.Count, maxCount)
		case s.All() != (i == len(stages)-1):
			return invalid(stagesHint, "all nodes are the last stage and no other")
		}
		count, percent = max(count, s.Count), max(percent, s.Percent)
	}
	return nil
}

// CheckGate refuses a gate that lets everything pass, or nothing ever. The error is an
// [*edge.Error] that is Invalid.
func CheckGate(g edge.Gate) error {
	switch {
	case g.MinRuns < 1 || g.MinRuns > maxCount:
		return invalid("a stage can be ended by hand without its gate: sedge rollout promote", "gate: %d runs, from 1 to %d are taken", g.MinRuns, maxCount)
	case !(g.MaxErrors >= 0 && g.MaxErrors <= 1):
		return invalid("write 0.01 for one in a hundred", "gate: a share of %v of the runs may fail, from 0 to 1 is taken", g.MaxErrors)
	case g.MaxP95 != 0 && !(g.MaxP95 >= 1 && g.MaxP95 <= 1000):
		return invalid("write 2 for twice as long, 0 for any", "gate: %v times the duration, 0 or from 1 to 1000 is taken", g.MaxP95)
	case g.Bake < 0 || g.Bake > MaxBake:
		return invalid("", "gate: bakes for %v, from 0 to %v is taken", g.Bake, MaxBake)
	case g.Patience <= 0 || g.Patience > MaxPatience:
		return invalid("", "gate: patience of %v, up to %v is taken", g.Patience, MaxPatience)
	}
	return nil
}

func invalid(hint, format string, args ...any) error {
	return &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf(format, args...), Hint: hint}
}
