package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// callTime is how long a node may take for an answer, unless who asks has less. A
// stream may last.
const callTime = 3 * time.Minute

// A Remote is a node that is asked over its link. Its methods may be called from
// several goroutines. Their errors are *[edge.Error]: Unavailable while the node is not
// connected, or if its session ends before it has answered.
type Remote struct {
	fleet *Fleet
	id    string
	name  string
}

// ID returns the node's id.
func (r *Remote) ID() string { return r.id }

// Name returns the node's name.
func (r *Remote) Name() string { return r.name }

// Here returns nil if the node is connected, else why it cannot be asked.
func (r *Remote) Here() error {
	_, _, err := r.way()
	return err
}

// Back waits until the node is connected. The error is that of ctx, or NotFound if it is no
// member of the fleet any more.
func (r *Remote) Back(ctx context.Context) error {
	return r.fleet.wait(ctx, func() (bool, error) {
		n := r.fleet.nodes[r.id]
		if n == nil || !n.member() {
			return false, &edge.Error{Code: edge.NotFound, Message: fmt.Sprintf("node %s is no member any more", r.name)}
		}
		return n.online(), nil
	})
}

// Try has the node load a function, with an operator's signature or "", without putting
// it into force. The error says why it does not load, or may not.
func (r *Remote) Try(ctx context.Context, f functions.Function, signature string) error {
	_, err := ask[json.RawMessage](ctx, r, edge.VerbTry, edge.Try{Function: f, Signature: signature})
	return err
}

// Invoke runs a function by hand.
func (r *Remote) Invoke(ctx context.Context, function string, in edge.Invoke) (edge.Invoked, error) {
	return ask[edge.Invoked](ctx, r, edge.VerbInvoke, edge.InvokeCall{Function: function, Invoke: in})
}

// Logs returns lines that functions wrote: the past first, then, if q says so, what
// comes, until ctx is done or an error ends it, which is yielded last: the session may end in
// the middle. Who cannot keep up misses some.
func (r *Remote) Logs(ctx context.Context, q edge.Query) iter.Seq2[edge.LogLine, error] {
	return stream[edge.LogLine](ctx, r, edge.VerbLogs, q)
}

// Steps returns the trail, as Logs does its lines.
func (r *Remote) Steps(ctx context.Context, q edge.Query) iter.Seq2[edge.Step, error] {
	return stream[edge.Step](ctx, r, edge.VerbEvents, q)
}

// Dead returns dead letters, oldest first.
func (r *Remote) Dead(ctx context.Context, q edge.Query) ([]edge.DeadLetter, error) {
	return list[edge.DeadLetter](ctx, r, edge.VerbDead, q)
}

// Redrive lets dead letters run again: those with the ids, or all of the function, or,
// with function "", all there are. It says how many.
func (r *Remote) Redrive(ctx context.Context, function string, ids []int64) (int, error) {
	return ask[int](ctx, r, edge.VerbRedrive, chosen(function, ids))
}

// Discard deletes dead letters, chosen as by Redrive, and says how many.
func (r *Remote) Discard(ctx context.Context, function string, ids []int64) (int, error) {
	return ask[int](ctx, r, edge.VerbDiscard, chosen(function, ids))
}

func chosen(function string, ids []int64) edge.DeadChoice {
	return edge.DeadChoice{Function: function, IDs: ids, All: function == "" && len(ids) == 0}
}

// State returns keys of a function's state: at most limit, those with the prefix, from
// behind after on.
func (r *Remote) State(ctx context.Context, function, prefix, after string, limit int) ([]edge.StateEntry, error) {
	return list[edge.StateEntry](ctx, r, edge.VerbState, edge.StateCall{Function: function, Prefix: prefix, After: after, Limit: limit})
}

// StateGet returns one key of a function's state.
func (r *Remote) StateGet(ctx context.Context, function, key string) (edge.StateEntry, error) {
	return ask[edge.StateEntry](ctx, r, edge.VerbStateGet, edge.StateCall{Function: function, Entry: &edge.StateEntry{Key: key}})
}

// StatePut sets a key. If ifVersion is not nil it must be the key's version, 0 for not
// being there, else the error is a Conflict.
func (r *Remote) StatePut(ctx context.Context, function string, e edge.StateEntry, ifVersion *int64) (edge.StateEntry, error) {
	return ask[edge.StateEntry](ctx, r, edge.VerbStatePut, edge.StateCall{Function: function, Entry: &e, IfVersion: ifVersion})
}

// StateDelete deletes a key; ifVersion is as for StatePut.
func (r *Remote) StateDelete(ctx context.Context, function, key string, ifVersion *int64) error {
	_, err := ask[json.RawMessage](ctx, r, edge.VerbStateDelete, edge.StateCall{Function: function, Entry: &edge.StateEntry{Key: key}, IfVersion: ifVersion})
	return err
}

// Status returns how the functions are on the node.
func (r *Remote) Status(ctx context.Context) ([]edge.FunctionStatus, error) {
	return list[edge.FunctionStatus](ctx, r, edge.VerbStatus, nil)
}

// Checks returns whether the node is ready.
func (r *Remote) Checks(ctx context.Context) ([]edge.Check, error) {
	return list[edge.Check](ctx, r, edge.VerbChecks, nil)
}

// Diagnostics returns what helps to find out what is wrong with the node.
func (r *Remote) Diagnostics(ctx context.Context) (edge.Diagnostics, error) {
	return ask[edge.Diagnostics](ctx, r, edge.VerbDiagnostics, nil)
}

// ask asks for one value.
func ask[T any](ctx context.Context, r *Remote, verb edge.Verb, in any) (v T, err error) {
	err = r.within(ctx, verb, in, func(part json.RawMessage) error { return json.Unmarshal(part, &v) })
	return v, err
}

// list asks for a list, which may come in parts.
func list[T any](ctx context.Context, r *Remote, verb edge.Verb, in any) (all []T, err error) {
	err = r.within(ctx, verb, in, func(part json.RawMessage) error {
		var some []T
		err := json.Unmarshal(part, &some)
		all = append(all, some...)
		return err
	})
	return all, err
}

// stream asks for lines. That one is not what it should be ends it with an error, too.
func stream[T any](ctx context.Context, r *Remote, verb edge.Verb, q edge.Query) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		err := r.each(ctx, verb, q, func(part json.RawMessage) error {
			var line T
			if err := json.Unmarshal(part, &line); err != nil {
				return err
			}
			if !yield(line, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) && ctx.Err() == nil {
			yield(*new(T), err)
		}
	}
}

// errEnough ends a call whose answer nobody wants any more.
var errEnough = errors.New("enough")

// within is each, for at most callTime.
func (r *Remote) within(ctx context.Context, verb edge.Verb, in any, take func(json.RawMessage) error) error {
	limited, stop := context.WithTimeout(ctx, callTime)
	defer stop()
	err := r.each(limited, verb, in, take)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return &edge.Error{Code: edge.Unavailable, Message: fmt.Sprintf("node %s has not answered for %v", r.name, callTime), Hint: "try again"}
	}
	return err
}

// each calls the node and hands take each part of the answer, until that returns an error.
func (r *Remote) each(ctx context.Context, verb edge.Verb, in any, take func(json.RawMessage) error) error {
	s, p, err := r.way()
	if err != nil {
		return err
	}
	checked := func(part json.RawMessage) error {
		err := take(part)
		if err != nil && !errors.Is(err, errEnough) {
			return &edge.Error{Code: edge.Internal, Message: fmt.Sprintf("node %s answered what is no answer to %s: %v", r.name, verb, err)}
		}
		return err
	}
	if s == nil {
		return p.each(ctx, r.fleet, r.id, verb, in, checked)
	}
	return s.each(ctx, verb, in, checked)
}

// each calls the node and hands take each part of the answer, until that returns an error.
// Of a stream parts may be lost, of another answer that is an error.
func (s *session) each(ctx context.Context, verb edge.Verb, in any, take func(json.RawMessage) error) error {
	if try, ok := in.(edge.Try); ok {
		sent, back, err := s.fleet.library.lend(s.id, try.Function)
		if err != nil {
			return err
		}
		defer back()
		try.Function = sent
		in = try
	}
	id, c, err := s.calls.begin(verb != edge.VerbLogs && verb != edge.VerbEvents)
	if err != nil {
		return err
	}
	defer func() {
		if s.calls.forget(id) {
			s.say(&edge.Cancel{ID: id}) // if that fails the session is over, and the call with it
		}
	}()
	if err := s.call(id, verb, in); err != nil {
		return err
	}
	for {
		parts, last, err := c.next(ctx)
		for _, part := range parts {
			if err := take(part); err != nil {
				return err
			}
		}
		if last {
			return err
		}
	}
}

// call sends a call.
func (s *session) call(id int64, verb edge.Verb, in any) error {
	m := &edge.Call{ID: id, Verb: verb}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode %s: %w", verb, err)
		}
		m.Body = body
	}
	data, err := edge.Encode(m)
	if err != nil {
		return &edge.Error{Code: edge.TooLarge, Message: fmt.Sprintf("ask the node to %s: %v", verb, err)}
	}
	s.fleet.counts.calls.Add(1)
	s.fleet.counts.said.Add(1)
	if err := s.conn.Send(data); err != nil {
		return &edge.Error{Code: edge.Unavailable, Message: fmt.Sprintf("ask the node to %s: %v", verb, err), Hint: "try again once it is back"}
	}
	return nil
}

// On returns the node with that id, or of that name, to ask. The error is an
// *[edge.Error]: NotFound, or Conflict if the node is none of the fleet.
func (f *Fleet) On(idOrName string) (*Remote, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.lookLocked(idOrName)
	if err != nil {
		return nil, err
	}
	if !n.member() {
		return nil, &edge.Error{Code: edge.Conflict, Message: fmt.Sprintf("node %s is %s", n.is.Name, n.is.Standing)}
	}
	return &Remote{f, n.is.ID, n.is.Name}, nil
}

// way returns how the node is asked: over its session, or by the replica that has that. The
// error says why it cannot be.
func (r *Remote) way() (*session, peer, error) {
	f := r.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[r.id]
	if n != nil && n.session != nil {
		return n.session, peer{}, nil
	}
	if n != nil && f.Peers != nil {
		if p, lives := f.replicas.peers[n.elsewhere]; lives {
			return nil, p, nil
		}
	}
	return nil, peer{}, f.goneLocked(n, r.name)
}

// goneLocked says that a node is not connected.
func (f *Fleet) goneLocked(n *node, name string) *edge.Error {
	if n != nil && n.elsewhere != "" {
		return &edge.Error{
			Code: edge.Unavailable, Message: fmt.Sprintf("node %s is connected to another replica of the hub", name),
			Hint: "ask that one: " + f.replicas.peers[n.elsewhere].URL,
		}
	}
	seen := "never seen"
	if n != nil && !n.is.Seen.IsZero() {
		seen = "last seen " + n.is.Seen.UTC().Format(time.RFC3339)
	}
	return &edge.Error{Code: edge.Unavailable, Message: fmt.Sprintf("node %s is not connected; %s", name, seen), Hint: "what it runs goes on; ask again once it is back"}
}
