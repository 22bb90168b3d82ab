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
