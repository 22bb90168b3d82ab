package member

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// An absence sums up what happens while the node has no hub. It is stored when it begins
// and when the agent ends; what a crash takes is what was counted since.
type absence struct {
	home  *Home
	agent books

	mu   sync.Mutex
	away *edge.Away // what was stored or counted before counted; nil while there is a hub; guarded by mu
	runs int64      // of the agent when counting began; guarded by mu
	dead int64      // the same; guarded by mu
}

// books tell what became of deliveries.
type books interface{ Functions() []edge.FunctionStatus }

// openAbsence goes on counting where the last start of the agent stopped.
func openAbsence(h *Home, a books) (*absence, error) {
	s := &absence{home: h, agent: a}
	var away edge.Away
	if err := h.read(awayFile, &away); errors.As(err, new(*damagedError)) {
		return s, h.remove(awayFile) // sums that nothing depends on
	} else if err != nil {
		return nil, fmt.Errorf("read what happened without the hub: %w", err)
	}
	if away.Since.IsZero() {
		return s, nil
	}
	away.Boots++
	s.away = &away
	return s, s.home.write(awayFile, away)
}

// begin begins to count.
func (s *absence) begin(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away != nil {
		return nil
	}
	s.away = &edge.Away{Since: now}
	s.runs, s.dead = s.ended()
	return s.home.write(awayFile, s.away)
}

// end returns what happened, once, or nil.
func (s *absence) end() (*edge.Away, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away == nil {
		return nil, nil
	}
	away := s.sumLocked()
	s.away = nil
	return &away, s.home.remove(awayFile)
}

// save stores what was counted.
func (s *absence) save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away == nil {
		return nil
	}
	return s.home.write(awayFile, s.sumLocked())
}

func (s *absence) sumLocked() edge.Away {
	away := *s.away
	runs, dead := s.ended()
	away.Runs += max(runs-s.runs, 0)
	away.Dead += max(dead-s.dead, 0)
	return away
}

// ended returns how many deliveries have run to an end since the agent started, and how many
// of them as dead letters.
func (s *absence) ended() (runs, dead int64) {
	for _, f := range s.agent.Functions() {
		runs += f.Counts.Done + f.Counts.Dead
		dead += f.Counts.Dead
	}
	return runs, dead
}
