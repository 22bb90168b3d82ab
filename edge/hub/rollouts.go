package hub

import (
	"math"
	"strconv"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/ledger"
)

func (h *Hub) listRollouts(r *request) (any, error) {
	p := r.params("function", "before", "last")
	q := ledger.RolloutQuery{
		Function: p.text("function", 63),
		Before:   p.number("before", 0, 0, math.MaxInt64),
		Limit:    int(min(p.number("last", onePage, 1, math.MaxInt64), mostPage)),
	}
	if p.err != nil {
		return nil, p.err
	}
	seen, list := h.sight(r), []edge.Rollout{}
	for len(list) < q.Limit {
		page, err := h.Ledger.Rollouts(r.Context(), q)
		if err != nil {
			return nil, err
		}
		for _, one := range page {
			if len(list) < q.Limit && seen(one.Function, one.Selector) {
				list = append(list, one)
			}
		}
		if len(page) < q.Limit {
			break
		}
		q.Before = page[len(page)-1].ID
	}
	return map[string][]edge.Rollout{"rollouts": list}, nil
}

func (h *Hub) getRollout(r *request) (any, error) {
	id, err := r.rollout()
	if err != nil {
		return nil, err
	}
	one, err := h.Fleet.Rollout(r.Context(), id)
	if err == nil && !h.sight(r)(one.Function, one.Selector) {
		err = ledger.ErrNotFound
	}
	if err != nil {
		return nil, refused(err, "rollout")
	}
	return one, nil
}

// steer returns a verb that changes how a rollout goes on.
func (h *Hub) steer(do func(id int64, who ledger.Who) (edge.Rollout, error)) func(*request) (any, error) {
	return func(r *request) (any, error) {
		id, err := r.rollout()
		if err != nil {
			return nil, err
		}
		who, err := r.who()
		if err != nil {
			return nil, err
		}
		was, err := h.Ledger.Rollout(r.Context(), id)
		if err != nil {
			return nil, refused(err, "rollout")
		}
		if _, _, err := h.mine(r, was.Function); err != nil {
			return nil, err
		}
		one, err := do(id, who)
		if err != nil {
			return nil, refused(err, "rollout")
		}
		return one, nil
	}
}

func (r *request) rollout() (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("rollout"), 10, 64)
	if err != nil || id < 1 {
		return 0, invalid("", "a rollout has a number, not %.40q", r.PathValue("rollout"))
	}
	return id, nil
}
