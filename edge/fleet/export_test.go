package fleet

import "context"

// Until waits until ok, which may ask the fleet, says true.
func (f *Fleet) Until(ctx context.Context, ok func() bool) error {
	f.mu.Lock()
	f.waiting++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.waiting--
	}()
	for {
		f.mu.Lock()
		stir := f.stir
		f.mu.Unlock()
		if ok() {
			return nil
		}
		select {
		case <-stir:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// PeerToken is what replicas with the fleet's key show each other.
func (f *Fleet) PeerToken() string { return f.peerToken() }
