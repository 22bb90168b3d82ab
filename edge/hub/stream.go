package hub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
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
	awayTime  = time.Second      // after which one of them that has gone away is asked again at the earliest
)

// A tell has a node tell what its functions wrote or what became of events: the past
// first, then, to follow, what comes until ctx is done. It does not wait for a slow
// listener.
type tell[T any] func(on *fleet.Remote, ctx context.Context, q edge.Query) iter.Seq2[T, error]

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
// arrives, from nodes that went away once they are back. It ends when all have ended, with
// the errors of those that did not tell all.
func merge[T any](ctx context.Context, nodes []*fleet.Remote, q edge.Query, tell tell[T], name func(T, string) (T, time.Time)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		lines, missed := make(chan T), make([]error, len(nodes))
		var told sync.WaitGroup
		defer told.Wait()
		defer stop()
		for i, on := range nodes {
			told.Go(func() { missed[i] = pour(ctx, lines, on, q, tell, name) })
		}
		go func() { told.Wait(); close(lines) }() // ends with the tellers, which are awaited above
		var past []T
		for line := range lines {
			if !q.Follow {
				past = append(past, line)
			} else if !yield(line, nil) {
				return
			}
		}
		slices.SortStableFunc(past, func(x, y T) int { return cmp.Compare(when(x, name), when(y, name)) })
		for _, line := range past {
			if !yield(line, nil) {
				return
			}
		}
		if err := together(missed); err != nil {
			yield(*new(T), err)
		}
	}
}

// pour sends what a node tells, under its name, until ctx is done. The error is the node's. One
// that is followed and goes away is waited for: links break, and who watches many nodes
// would not see which of them he no longer hears.
func pour[T any](ctx context.Context, to chan<- T, on *fleet.Remote, q edge.Query, tell tell[T], name func(T, string) (T, time.Time)) error {
	for {
		err := pourOnce(ctx, to, on, tell(on, ctx, q), name)
		if e, ok := errors.AsType[*edge.Error](err); !q.Follow || !ok || e.Code != edge.Unavailable {
			return err
		}
		select {
		case <-time.After(awayTime):
		case <-ctx.Done():
			return nil
		}
		if err := on.Back(ctx); err != nil {
			return err
		}
		q.Last = 0
	}
}

func pourOnce[T any](ctx context.Context, to chan<- T, on *fleet.Remote, told iter.Seq2[T, error], name func(T, string) (T, time.Time)) error {
	for line, err := range told {
		if err != nil {
			return err
		}
		named, _ := name(line, on.Name())
		select {
		case to <- named:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// together returns what is told of the errors, or nil.
func together(errs []error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	e := *told(errs[0])
	e.Message = fmt.Sprintf("%d nodes have not told all, the first: %s", len(errs), e.Message)
	return &e
}

func when[T any](line T, name func(T, string) (T, time.Time)) int64 {
	_, at := name(line, "")
	return at.UnixNano()
}

// send writes the lines until one cannot be written. An error that ends them is the last
// one.
func send[T any](w http.ResponseWriter, lines iter.Seq2[T, error]) {
	rc := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	w.WriteHeader(http.StatusOK)
	if rc.Flush() != nil { // so that who asked knows that nothing that comes now is missed
		return
	}
	for line, err := range lines {
		rc.SetWriteDeadline(time.Now().Add(lineTime))
		if err != nil {
			enc.Encode(failure{told(err)}) // who asked may have gone
			break
		}
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
		_, p.err = h.visible(r, q.Function)
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
