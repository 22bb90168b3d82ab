package hub

import (
	"context"
	"math"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/fleet"
)

const (
	onePage   = 100     // entries of a list, unless told
	mostPage  = 1000    // entries
	pageBytes = 4 << 20 // of payloads or values; the first entry comes whatever it weighs
	mostIDs   = 10000
)

func (h *Hub) listDead(r *request) (any, error) {
	p := r.params("function", "last", "after", "node")
	q := edge.Query{
		Function: p.text("function", 63),
		Last:     int(min(p.number("last", onePage, 1, math.MaxInt64), mostPage)),
		After:    p.number("after", 0, 0, math.MaxInt64),
	}
	on, err := h.target(r, p)
	if err != nil {
		return nil, err
	}
	list, err := on.Dead(r.Context(), q)
	if err != nil {
		return nil, err
	}
	list = page(list, func(d edge.DeadLetter) int { return len(d.Event.Payload) })
	for i := range list {
		list[i].Node = p.text("node", maxNode)
	}
	return map[string][]edge.DeadLetter{"dead": list}, nil
}

// page cuts a list where it becomes heavy. It is never nil, so that an empty
// one is [] in JSON.
func page[T any](list []T, weigh func(T) int) []T {
	total := 0
	for i, v := range list {
		if total += weigh(v); total > pageBytes && i > 0 {
			return list[:i]
		}
	}
	return append([]T{}, list...)
}

func (h *Hub) redrive(r *request) (any, error) { return h.count(r, (*fleet.Remote).Redrive) }

func (h *Hub) discard(r *request) (any, error) { return h.count(r, (*fleet.Remote).Discard) }

// count has do deal with the dead letters that the body names. All of every
// function must be asked for in words.
func (h *Hub) count(r *request, do func(*fleet.Remote, context.Context, string, []int64) (int, error)) (any, error) {
	var which edge.DeadChoice
	if err := r.decode(&which); err != nil {
		return nil, err
	}
	some := which.Function != "" || len(which.IDs) > 0
	switch {
	case which.All && some:
		return nil, invalid("", "all goes with neither function nor ids")
	case !which.All && !some:
		return nil, invalid(`{"all":true} means all of every function`, "function, ids or all must say which dead letters are meant")
	case len(which.IDs) > mostIDs:
		return nil, invalid("", "%d ids are given, at most %d are taken", len(which.IDs), mostIDs)
	}
	on, err := h.target(r, r.params("node"))
	if err != nil {
		return nil, err
	}
	ctx, stop := lasting(r.Context())
	defer stop()
	n, err := do(on, ctx, which.Function, which.IDs)
	if err != nil {
		return nil, err
	}
	return map[string]int{"count": n}, nil
}
