package member

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sedge-iot/sedge/edge"
)

// Limits of calls.
const (
	maxCalls    = 64              // under way, as many as the hub has of a node
	callTime    = 5 * time.Minute // of one that is no stream
	streamRate  = 256 << 10       // bytes a second of all streams: what the link takes without being slow
	streamBurst = 512 << 10
)

// calls are those under way in a session.
type calls struct {
	node   *Member
	send   func(edge.Message)
	stream *rate.Limiter
	work   sync.WaitGroup
	desks  desks

	mu   sync.Mutex
	open map[int64]context.CancelFunc // guarded by mu
}

func newCalls(m *Member, send func(edge.Message)) *calls {
	return &calls{
		node: m, send: send, open: map[int64]context.CancelFunc{},
		stream: rate.NewLimiter(streamRate, streamBurst),
	}
}

// begin answers a call, in a goroutine that [calls.wait] waits for. It ends with ctx.
func (c *calls) begin(ctx context.Context, call *edge.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, twice := c.open[call.ID]; twice {
		return // an answer to it is on its way
	}
	if len(c.open) >= maxCalls {
		c.send(&edge.Answer{ID: call.ID, Error: &edge.Error{Code: edge.Unavailable, Message: "the node is asked too much at once", Hint: "try again"}})
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	c.open[call.ID] = cancel
	c.work.Go(func() {
		defer c.cancel(call.ID)
		c.answer(ctx, call)
	})
}

// cancel ends a call, if it is under way.
func (c *calls) cancel(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.open[id]; cancel != nil {
		cancel()
		delete(c.open, id)
	}
}

// wait waits until all calls have ended. Their contexts must be done.
func (c *calls) wait() { c.work.Wait() }

// answer does what a call asks for and says how that went, unless nobody waits any more.
func (c *calls) answer(ctx context.Context, call *edge.Call) {
	a := &edge.Answer{ID: call.ID}
	var body any
	var err error
	if stream := streams[call.Verb]; stream != nil {
		err = stream(ctx, c, call)
	} else {
		ctx, stop := context.WithTimeout(ctx, callTime)
		body, err = c.verb(ctx, call)
		stop()
	}
	if ctx.Err() != nil {
		return
	}
	if err == nil && body != nil {
		a.Body, err = json.Marshal(body)
	}
	if err != nil {
		a.Error = c.told(call.Verb, err)
	}
	if n := len(a.Body); n > edge.MaxMessage-envelope {
		a.Body, a.Error = nil, &edge.Error{
			Code: edge.TooLarge, Message: fmt.Sprintf("the answer weighs %d bytes, at most %d are sent", n, edge.MaxMessage-envelope),
			Hint: "ask for less: --last, --prefix",
		}
	}
	c.send(a)
}

// envelope is what an answer weighs at most beside its body, bytes.
const envelope = 256

// verb does what a call asks for.
func (c *calls) verb(ctx context.Context, call *edge.Call) (any, error) {
	do := verbs[call.Verb]
	if do == nil && call.Verb != edge.VerbTry {
		return nil, &edge.Error{Code: edge.Invalid, Message: fmt.Sprintf("this node does not know the verb %.40q", call.Verb), Hint: "update sedge-agent there"}
	}
	if call.Verb != edge.VerbTry {
		return do(ctx, c.node, call.Body)
	}
	var try edge.Try
	if err := decode(call.Body, &try); err != nil {
		return nil, err
	}
	f, err := c.whole(ctx, try.Function)
	if err != nil {
		return nil, err
	}
	return nil, c.node.try(ctx, f, try.Signature)
}

// told returns what the hub is told of an error: what is not meant for people stays in
// the node's log.
func (c *calls) told(verb edge.Verb, err error) *edge.Error {
	if e, ok := errors.AsType[*edge.Error](err); ok {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &edge.Error{Code: edge.Timeout, Message: fmt.Sprintf("it took longer than %v", callTime)}
	}
	c.node.Logger.Error("call of the hub failed", "verb", string(verb), "err", err)
	return &edge.Error{Code: edge.Internal, Message: "the node could not do it; its log says why"}
}

// A doer does what a verb asks for.
type doer func(ctx context.Context, m *Member, body json.RawMessage) (any, error)

// asked makes a doer of a function that takes a decoded body.
func asked[T any](do func(ctx context.Context, m *Member, in T) (any, error)) doer {
	return func(ctx context.Context, m *Member, body json.RawMessage) (any, error) {
		var in T
		if err := decode(body, &in); err != nil {
			return nil, err
		}
		return do(ctx, m, in)
	}
}

func decode(body json.RawMessage, into any) error {
	if len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return &edge.Error{Code: edge.Invalid, Message: "the call is not as it should be: " + err.Error()}
	}
	return nil
}

// streams are the verbs that answer line by line.
var streams = map[edge.Verb]func(context.Context, *calls, *edge.Call) error{
	edge.VerbLogs: func(ctx context.Context, c *calls, call *edge.Call) error {
		return stream(ctx, c, call, c.node.Agent.Logs)
	},
	edge.VerbEvents: func(ctx context.Context, c *calls, call *edge.Call) error {
		return stream(ctx, c, call, c.node.Agent.Steps)
	},
}

// stream sends each line that a query gives, no faster than the link takes them.
func stream[T any](ctx context.Context, c *calls, call *edge.Call, query func(context.Context, edge.Query) iter.Seq[T]) error {
	var q edge.Query
	if err := decode(call.Body, &q); err != nil {
		return err
	}
	for line := range query(ctx, q) {
		body, err := json.Marshal(line)
		if err != nil {
			return err
		}
		if err := c.stream.WaitN(ctx, min(len(body)+envelope, streamBurst)); err != nil {
			return err
		}
		c.send(&edge.Answer{ID: call.ID, Body: body, More: true})
	}
	return nil
}
