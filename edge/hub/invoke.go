package hub

import (
	"fmt"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
)

// maxPayload is the most that an event may weigh, bytes.
const maxPayload = 1 << 20

func (h *Hub) invoke(r *request) (any, error) {
	var in edge.Invoke
	if err := r.decode(&in); err != nil {
		return nil, err
	}
	if in.Topic != "" {
		if err := devices.CheckTopic(in.Topic); err != nil {
			return nil, invalid("", "topic: %v", err)
		}
	}
	if len(in.Payload) > maxPayload {
		return nil, &edge.Error{Code: edge.TooLarge, Message: fmt.Sprintf("the payload is larger than %d MiB", maxPayload>>20)}
	}
	d, err := h.visible(r, r.PathValue("function"))
	if err != nil {
		return nil, err
	}
	on, err := h.target(r, r.params("node"))
	if err != nil {
		return nil, err
	}
	return on.Invoke(r.Context(), d.Function.Name(), in)
}
