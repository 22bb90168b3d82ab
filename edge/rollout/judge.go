package rollout

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

const (
	fewFailures = 3                     // that take a rollout back at the least: one or two may be chance
	enoughRuns  = 20                    // from which a share or a 95th percentile says something
	slack       = 50 * time.Millisecond // by which a run may take longer, whatever the ratio
	worstShare  = 0.5                   // of failed runs passes in no case, however bad it was before
)

// bad says what takes the rollout back, or "".
func (s *scene) bad() string {
	r := s.r
	for _, id := range r.Nodes {
		n, stale := s.node(id), r.Seen[id].Stale
		switch {
		case n.gaveUp(r.To) && !stale:
			return n.Name + " gave it up" + s.failed(id) + because(n.Report.Error)
		case n.unfit(r.To) && !stale:
			return n.Name + " cannot run it" + because(unfitText(n.Unfit))
		case n.runs(r.To) && n.Report.Phase == edge.Failing:
			return n.Name + " cannot start it" + because(n.Report.Reason)
		}
	}
	for _, ids := range [][]string{s.added(), r.Nodes} {
		if m := s.sum(ids); m.Failed >= int64(min(fewFailures, r.Gate.MinRuns)) && exceeds(m, max(r.Gate.MaxErrors, s.before())) {
			return s.failures(ids, m) + s.worst(ids)
		}
	}
	return ""
}

// exceeds reports whether clearly more than the share of the runs failed: by more than
// three times the deviation that chance brings, for the question is asked often.
func exceeds(m edge.RolloutMeasure, share float64) bool {
	expected := share * float64(m.Runs)
	return float64(m.Failed) > expected+3*math.Sqrt(expected)
}

// missing says what the stage lacks to pass, or "".
func (s *scene) missing(now time.Time) string {
	r := s.r
	added := s.added()
	if len(r.Nodes) == 0 {
		return "there is no node for it"
	}
	if why := s.unready(added); why != "" {
		return why
	}
	if len(added) == 0 { // nothing new to learn
		return ""
	}
	if m := s.sum(added); m.Runs < int64(r.Gate.MinRuns) {
		return fmt.Sprintf("%d of %d runs on %s so far", m.Runs, r.Gate.MinRuns, nodes(len(added)))
	}
	for _, ids := range [][]string{added, s.judged()} {
		if m := s.sum(ids); share(m) > max(r.Gate.MaxErrors, min(s.before(), worstShare)) {
			return s.failures(ids, m) + s.worst(ids)
		}
	}
	if why := s.slow(added); why != "" {
		return why
	}
	if end := r.Since.Add(r.Gate.Bake); now.Before(end) {
		return "bakes until " + end.UTC().Format(time.RFC3339)
	}
	return ""
}

// unready says which nodes keep the stage from being judged, or "". One that is away
// does not, as long as another of those that the stage added is there.
func (s *scene) unready(added []string) string {
	r := s.r
	present := 0
	for _, id := range added {
		if n := s.node(id); n.Online && (n.runs(r.To) || !n.held()) {
			present++
		}
	}
	if len(added) > 0 && present == 0 {
		return fmt.Sprintf("none of the %s that it added can be reached", nodes(len(added)))
	}
	var late []string // names, with what is known
	for _, id := range s.judged() {
		if why, waits := s.waits(s.node(id)); waits {
			late = append(late, s.node(id).Name+why)
		}
	}
	if len(late) == 0 {
		return ""
	}
	return fmt.Sprintf("waits for %d of %s to run it: %s", len(late), nodes(len(r.Nodes)), list(late))
}

// waits reports whether the node is there and not yet well on the new revision.
func (s *scene) waits(n Seen) (why string, waits bool) {
	r := s.r
	switch {
	case !n.Online:
		return "", false
	case !n.runs(r.To) && n.held():
		return "", false
	case !n.runs(r.To) && n.unfit(r.To):
		return aside(unfitText(n.Unfit)), true
	case !n.runs(r.To) && n.gaveUp(r.To):
		return aside("it gave it up before"), true
	case !n.runs(r.To) && n.Refusal != nil:
		return aside(n.Refusal.Why), true
	case !n.runs(r.To):
		return "", true
	}
	switch n.Report.Phase {
	case edge.Asleep, edge.Running, edge.Standby:
		return "", false
	}
	if n.Report.Reason == "" {
		return aside(string(n.Report.Phase)), true
	}
	return aside(string(n.Report.Phase) + ": " + n.Report.Reason), true
}

// slow says by how much runs take longer than they did, or "".
func (s *scene) slow(ids []string) string {
	var runs, took, before float64 // seconds, by runs
	for _, id := range ids {
		seen := s.r.Seen[id]
		was := seen.Was
		if was.P95 == 0 || was.Runs < enoughRuns {
			was = s.was
		}
		if seen.Now.Runs < enoughRuns || seen.Now.P95 == 0 || was.Runs < enoughRuns || was.P95 == 0 {
			continue
		}
		n := float64(seen.Now.Runs)
		runs, took, before = runs+n, took+n*seen.Now.P95, before+n*was.P95
	}
	if limit := s.r.Gate.MaxP95; limit == 0 || runs == 0 || took <= limit*before || took-before <= slack.Seconds()*runs {
		return ""
	}
	return fmt.Sprintf("95 %% of the runs take up to %v, %.1f times the %v of before, more than %v times",
		duration(took/runs), took/before, duration(before/runs), s.r.Gate.MaxP95)
}

// added returns the nodes that the stage under way brought.
func (s *scene) added() (ids []string) {
	for _, id := range s.r.Nodes {
		if s.r.Seen[id].Stage == s.r.Stage {
			ids = append(ids, id)
		}
	}
	return ids
}

// judged returns the nodes but those of stages that an operator ended: what kept these
// from passing is not to keep others.
func (s *scene) judged() (ids []string) {
	for _, id := range s.r.Nodes {
		if !slices.Contains(s.r.Skipped, s.r.Seen[id].Stage) {
			ids = append(ids, id)
		}
	}
	return ids
}

// sum returns what the new revision did on the nodes.
func (s *scene) sum(ids []string) (m edge.RolloutMeasure) {
	for _, id := range ids {
		m = plus(m, total(s.r.Seen[id]))
	}
	return m
}

// before returns the share of runs of the old revision that failed, 0 if too few are known.
func (s *scene) before() float64 {
	if s.was.Runs < enoughRuns {
		return 0
	}
	return share(s.was)
}

func (s *scene) node(id string) Seen { return s.nodes[s.index[id]] }

// failed says how many runs failed on a node, if any did.
func (s *scene) failed(id string) string {
	m := total(s.r.Seen[id])
	if m.Failed == 0 {
		return ""
	}
	return fmt.Sprintf(", %d of %d runs failed", m.Failed, m.Runs)
}

// failures says how many runs failed, and how many may.
func (s *scene) failures(ids []string, m edge.RolloutMeasure) string {
	may := percent(s.r.Gate.MaxErrors) + " may"
	if before := s.before(); before > s.r.Gate.MaxErrors {
		may = percent(before) + " did before"
	}
	return fmt.Sprintf("%d of %d runs failed on %s (%s; %s)", m.Failed, m.Runs, nodes(len(ids)), percent(share(m)), may)
}

// worst names the node with the most failed runs.
func (s *scene) worst(ids []string) string {
	var name, text string
	var most edge.RolloutMeasure
	for _, id := range ids {
		if m := total(s.r.Seen[id]); m.Failed > most.Failed {
			n := s.node(id)
			name, most, text = n.Name, m, ""
			if n.runs(s.r.To) {
				text = n.Report.Error
			}
		}
	}
	return fmt.Sprintf(", most on %s: %d of %d", name, most.Failed, most.Runs) + because(text)
}

func total(seen edge.RolloutSeen) edge.RolloutMeasure { return plus(seen.Past, seen.Now) }

func share(m edge.RolloutMeasure) float64 { return float64(m.Failed) / float64(max(m.Runs, 1)) }
