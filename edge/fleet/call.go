package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/sedge-iot/sedge/edge"
)

// Limits of calls.
const (
	maxCalls  = 64      // under way in a session
	maxParts  = 2048    // of an answer that wait for who asked
	partBytes = 8 << 20 // of them, together
)

// calls are those under way in a session.
type calls struct {
	mu   sync.Mutex
	last int64           // id of the newest; guarded by mu
	open map[int64]*call // guarded by mu; nil if there was none yet
	over *edge.Error     // why the session has ended; guarded by mu
}

// begin makes a call. Of one whose answer is wanted as a whole no part may be lost.
func (c *calls) begin(whole bool) (int64, *call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.over != nil:
		return 0, nil, c.over
	case len(c.open) >= maxCalls:
		return 0, nil, &edge.Error{Code: edge.Unavailable, Message: "the node is asked too much at once", Hint: "try again"}
	case c.open == nil:
		c.open = map[int64]*call{}
	}
	c.last++
	made := &call{stir: make(chan struct{}, 1), whole: whole}
	c.open[c.last] = made
	return c.last, made, nil
}

// forget drops a call: what the node still answers is passed over. It reports
// whether the node may be at it yet.
func (c *calls) forget(id int64) (pending bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, pending = c.open[id]
	delete(c.open, id)
	return pending && c.over == nil
}

// answered hands an answer to who waits for it, if anybody does.
func (c *calls) answered(a *edge.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	open, ok := c.open[a.ID]
	if !ok {
		return
	}
	if !a.More {
		delete(c.open, a.ID)
	}
	open.add(a)
}

// end ends every call with why, also those to come.
func (c *calls) end(why *edge.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = why
	for _, open := range c.open {
		open.add(&edge.Answer{Error: why})
	}
	c.open = nil
}

// A call is what has come of an answer and was not taken yet.
type call struct {
	stir  chan struct{} // holds a token when something has come
	whole bool
	mu    sync.Mutex
	parts []json.RawMessage // guarded by mu
	bytes int               // of the parts; guarded by mu
	ended bool              // guarded by mu
	err   *edge.Error       // how it ended; guarded by mu
}

// add keeps a part, if there is room, and never waits.
func (c *call) add(a *edge.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended, c.err = !a.More, a.Error
	switch full := len(c.parts) >= maxParts || c.bytes+len(a.Body) > partBytes; {
	case len(a.Body) == 0:
	case !full:
		c.parts = append(c.parts, a.Body)
		c.bytes += len(a.Body)
	case c.whole:
		c.ended = true
		c.err = &edge.Error{Code: edge.TooLarge, Message: fmt.Sprintf("the node answers with more than %d MiB", partBytes>>20), Hint: "ask for less"}
	}
	signal(c.stir)
}

// next waits for more of the answer. It returns the parts that have come, whether
// these were the last, and then how the call ended: with an error of the node's, or
// that of ctx.
func (c *call) next(ctx context.Context) (parts []json.RawMessage, last bool, err error) {
	for {
		c.mu.Lock()
		parts, last = c.parts, c.ended
		if last && c.err != nil {
			err = c.err
		}
		c.parts, c.bytes = nil, 0
		c.mu.Unlock()
		if len(parts) > 0 || last {
			return parts, last, err
		}
		select {
		case <-c.stir:
		case <-ctx.Done():
			return nil, true, ctx.Err()
		}
	}
}
