package upgrade

// Leave lets go of the folder of versions, as the end of the process does.
func Leave(s *Slots) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock != nil {
		s.lock.Close()
		s.lock = nil
	}
}

// Next returns the slot that the next start is to become, or nil: the installed file.
func Next(s *Slots) *Slot { return s.state.Selected }
