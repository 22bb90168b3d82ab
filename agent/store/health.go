package store

import "time"

const restockEvery = 5 * time.Second

// Healthy returns nil while changes are committed, and otherwise why they
// wait: the disk is full, read-only or failing. A disk that is full counts as
// such until there is room again for the reserve that sedge keeps on it, though
// changes are committed meanwhile: they are meant to be those that end what was
// begun.
func (s *Store) Healthy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing
}

// Health returns a channel that holds a token whenever what Healthy returns
// has changed from nil or to nil.
func (s *Store) Health() <-chan struct{} { return s.turned }

// suffer notes that the disk fails. It says so once.
func (s *Store) suffer(err error) {
	s.mu.Lock()
	first := s.failing == nil
	s.failing, s.stuck = err, err
	s.mu.Unlock()
	if first {
		s.lg.Warn("store cannot write: changes wait", "err", err)
		signal(s.turned)
	}
}

// recover notes that the disk was written to. It works again if there is room
// for the reserve.
func (s *Store) recover() {
	s.mu.Lock()
	was := s.failing
	s.stuck = nil
	if s.ballast.there {
		s.failing = nil
	}
	s.mu.Unlock()
	if s.ballast.there && was != nil {
		s.lg.Info("store writes again", "after", was)
		signal(s.turned)
	}
}

// restock tries, now and then, to have the reserve again that a full disk took.
// If the disk has no room for it, what the store itself can do without is given
// back.
func (s *Store) restock(now time.Time) {
	if s.ballast.there || now.Before(s.restockDue) {
		return
	}
	s.restockDue = now.Add(restockEvery)
	if s.ballast.make() == nil || s.db.Shrink(2*ballastSize) == nil && s.ballast.make() == nil {
		s.recover()
	}
}
