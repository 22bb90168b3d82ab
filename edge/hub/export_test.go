package hub

import "time"

// SetBodyTime sets how long a body may take; before the hub serves.
func (h *Hub) SetBodyTime(d time.Duration) { h.bodyTime = d }

// Routes returns the API's routes as "METHOD path", and whether each needs the token.
func (h *Hub) Routes() map[string]bool {
	guarded := map[string]bool{}
	for _, r := range h.routes() {
		guarded[r.method+" "+r.path] = r.role != anybody
	}
	return guarded
}
