package agent

import (
	"context"
	"iter"

	"github.com/sedge-iot/sedge/edge"
)

// Steps returns the trail: what became of events, and why. Past ones come
// first; with q.Follow it goes on until ctx is done.
func (a *Agent) Steps(ctx context.Context, q edge.Query) iter.Seq[edge.Step] {
	return a.trail.all(ctx, q.Last, q.Follow, func(s *edge.Step) bool {
		return q.Function == "" || s.Function == q.Function
	})
}

// Logs returns lines that functions wrote, as Steps does its steps.
func (a *Agent) Logs(ctx context.Context, q edge.Query) iter.Seq[edge.LogLine] {
	return a.logs.all(ctx, q.Last, q.Follow, func(l *edge.LogLine) bool {
		return q.Function == "" || l.Function == q.Function
	})
}
