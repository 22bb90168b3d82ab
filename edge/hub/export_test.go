package hub

import (
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// SetBodyTime sets how long a body may take; before the hub serves.
func (h *Hub) SetBodyTime(d time.Duration) { h.bodyTime = d }

// Routes returns the API's routes as "METHOD path", and the role that each needs: "" for
// none, and no token.
func (h *Hub) Routes() map[string]edge.Role {
	roles := map[string]edge.Role{}
	for _, r := range h.routes() {
		roles[r.method+" "+r.path] = r.role
	}
	return roles
}
