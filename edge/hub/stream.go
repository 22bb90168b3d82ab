package hub

import (
	"context"
	"encoding/json"
	"iter"
	"math"
	"net/http"
	"time"

	"github.com/sedge-iot/sedge/edge"
)

// A teller tells what a node's functions wrote and what became of events: the
// past first, then, to follow, what comes until ctx is done. It does not wait
// for a slow listener.
type teller interface {
	Steps(ctx context.Context, q edge.Query) iter.Seq[edge.Step]
	Logs(ctx context.Context, q edge.Query) iter.Seq[edge.LogLine]
}

// lineTime is how long a listener may take for a line.
const lineTime = 30 * time.Second

// stream returns a handler that answers with one JSON value a line, as they
// come, until who asked has gone or the hub ends.
func stream[T any](h *Hub, tell func(context.Context, edge.Query) iter.Seq[T]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := h.body(w, r)
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		q, err := h.query(&request{r, body, w.Header()})
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
		send(w, tell(ctx, q))
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

// query reads which lines are wanted.
func (h *Hub) query(r *request) (edge.Query, error) {
	p := r.params("function", "last", "follow")
	q := edge.Query{
		Function: p.text("function", 63),
		Last:     int(p.number("last", -1, -1, math.MaxInt32)),
		Follow:   p.flag("follow"),
	}
	if p.err == nil && q.Function != "" {
		_, p.err = h.definition(r.Context(), q.Function)
	}
	return q, p.err
}
