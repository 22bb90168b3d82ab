package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/edge/fleet"
)

const (
	lineTime  = 30 * time.Second // that a listener may take for a line
	mostNodes = 200              // that are told of together
)

// A tell has a node tell what its functions wrote or what became of events: the past
// first, then, to follow, what comes until ctx is done. It does not wait for a slow
// listener.
type tell[T any] func(on *fleet.Remote, ctx context.Context, q edge.Query) iter.Seq[T]

// stream returns a handler that answers with one JSON value a line, as they come,
// until who asked has gone or the hub ends. Of several nodes the lines are named for
// theirs.
func stream[T any](h *Hub, tell tell[T], name func(T, string) (T, time.Time)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := h.body(w, r)
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		q, nodes, err := h.query(&request{r, body, w.Header()})
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		select {
		case h.streams <- struct{}{}:
			defer func() { <-h.streams }()
		default:
			h.refuse(w, r, &edge.Error{Code: edge.Unavailable, Message: "too many logs and trails are being followed", Hint: "end one"})
			return
		}
		ctx, stop := context.WithCancel(r.Context())
		defer stop()
		if serving, ok := ctx.Value(servingKey{}).(context.Context); ok {
			defer context.AfterFunc(serving, stop)()
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		if r.Method == http.MethodHead {
			return
		}
		if len(nodes) == 1 {
			send(w, tell(nodes[0], ctx, q))
			return
		}
		send(w, merge(ctx, nodes, q, tell, name))
	}
}

// fromNode names the node that a line is of, and returns when it was written.
func fromNode[T edge.LogLine | edge.Step](line T, node string) (T, time.Time) {
	switch l := any(&line).(type) {
	case *edge.LogLine:
		l.Node = node
		return line, l.Time
	case *edge.Step:
		l.Node = node
		return line, l.Time
	}
	return line, time.Time{}
}

// merge tells of several nodes. What is past comes by time; what is followed as it
// arrives.
func merge[T any](ctx context.Context, nodes []*fleet.Remote, q edge.Query, tell tell[T], name func(T, string) (T, time.Time)) iter.Seq[T] {
	return func(yield func(T) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		lines := make(chan T)
		var told sync.WaitGroup
		defer told.Wait()
		for _, on := range nodes {
			told.Go(func() {
				for line := range tell(on, ctx, q) {
					named, _ := name(line, on.Name())
					select {
					case lines <- named:
					case <-ctx.Done():
						return
					}
				}
			})
		}
		ended := make(chan struct{})
		go func() { told.Wait(); close(ended) }() // ends with the tellers, which are awaited above
		defer stop()
		var past []T
		for {
			select {
			case line := <-lines:
				if q.Follow {
					if !yield(line) {
						return
					}
					continue
				}
				past = append(past, line)
			case <-ended:
				inOrder(past, name, yield)
				return
			}
		}
	}
}

func inOrder[T any](lines []T, name func(T, string) (T, time.Time), yield func(T) bool) {
	when := func(line T) time.Time { _, at := name(line, ""); return at }
	slices.SortStableFunc(lines, func(x, y T) int { return cmp.Compare(when(x).UnixNano(), when(y).UnixNano()) })
	for _, line := range lines {
		if !yield(line) {
			return
		}
	}
}

// send writes the lines until one cannot be written.
func send[T any](w http.ResponseWriter, lines iter.Seq[T]) {
	rc := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	w.WriteHeader(http.StatusOK)
	if rc.Flush() != nil { // so that who asked knows that nothing that comes now is missed
		return
	}
	for line := range lines {
		rc.SetWriteDeadline(time.Now().Add(lineTime))
		if enc.Encode(line) != nil || rc.Flush() != nil {
			return
		}
	}
	rc.SetWriteDeadline(time.Now().Add(lineTime)) // for the end of the answer
}

// query reads which lines are wanted, and of which nodes: of the one that is named,
// else of all that are connected.
func (h *Hub) query(r *request) (edge.Query, []*fleet.Remote, error) {
	p := r.params("function", "last", "follow", "node")
	q := edge.Query{
		Function: p.text("function", 63),
		Last:     int(p.number("last", -1, -1, math.MaxInt32)),
		Follow:   p.flag("follow"),
	}
	node := p.text("node", maxNode)
	if p.err == nil && q.Function != "" {
		_, p.err = h.definition(r.Context(), q.Function)
	}
	if p.err != nil {
		return q, nil, p.err
	}
	if node != "" || len(h.members(r)) == 1 {
		on, err := h.on(r, node)
		if err == nil {
			err = on.Here()
		}
		return q, []*fleet.Remote{on}, err
	}
	nodes, err := h.connected(r)
	return q, nodes, err
}

// connected returns the nodes that can be asked.
func (h *Hub) connected(r *request) (list []*fleet.Remote, err error) {
	for _, n := range h.members(r) {
		if !n.Connected {
			continue
		}
		on, err := h.Fleet.On(n.ID)
		if err != nil {
			return nil, err
		}
		list = append(list, on)
	}
	switch {
	case len(list) > mostNodes:
		return nil, invalid("add --node NAME, as HTTP ?node=NAME", "%d nodes are connected, at most %d are told of together", len(list), mostNodes)
	case len(list) == 0:
		return nil, &edge.Error{Code: edge.Unavailable, Message: "no node is connected", Hint: fmt.Sprintf("see why: %s", "sedge node list")}
	}
	return list, nil
}
