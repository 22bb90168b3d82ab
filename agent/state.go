package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// State lists keys of a function's state that begin with prefix and come after
// the key after, in order. A missing function is an *edge.Error.
func (a *Agent) State(ctx context.Context, function, prefix, after string, limit int) ([]edge.StateEntry, error) {
	if a.function(function) == nil {
		return nil, notFound(function)
	}
	return a.Store.List(function, prefix, limit, after)
}

// StateGet returns one key, or an *edge.Error if there is none.
func (a *Agent) StateGet(ctx context.Context, function, key string) (edge.StateEntry, error) {
	if a.function(function) == nil {
		return edge.StateEntry{}, notFound(function)
	}
	list, err := a.Store.List(function, key, 1, "")
	switch {
	case err != nil:
		return edge.StateEntry{}, stateError(function, key, err)
	case len(list) == 0 || list[0].Key != key:
		return edge.StateEntry{}, &edge.Error{
			Code: edge.NotFound, Message: fmt.Sprintf("%s has no key %q in its state", function, key),
			Hint: "see what there is: sedge state ls " + function,
		}
	}
	return list[0], nil
}

// StatePut sets one key: whatever its version if ifVersion is nil, else only if
// it is that, 0 meaning that there is none. The errors are *edge.Errors:
// Conflict, NoRoom, Invalid, NotFound for the function.
func (a *Agent) StatePut(ctx context.Context, function string, e edge.StateEntry, ifVersion *int64) (edge.StateEntry, error) {
	if !json.Valid([]byte(e.Value)) {
		return e, &edge.Error{Code: edge.Invalid, Message: "the value is not JSON", Hint: `a text is written "like this", with its quotes`}
	}
	w := functions.StateWrite{Op: functions.StateSet, Key: e.Key, Value: []byte(e.Value)}
	if !e.Expires.IsZero() {
		if w.TTL = time.Until(e.Expires); w.TTL <= 0 {
			return e, &edge.Error{Code: edge.Invalid, Message: "the time of expiry is in the past"}
		}
	}
	if err := a.writeState(ctx, function, w, ifVersion); err != nil {
		return e, err
	}
	return a.StateGet(ctx, function, e.Key)
}

// StateDelete deletes one key, with ifVersion as in StatePut. A key that is not
// there is an *edge.Error, NotFound.
func (a *Agent) StateDelete(ctx context.Context, function, key string, ifVersion *int64) error {
	if ifVersion == nil {
		if _, err := a.StateGet(ctx, function, key); err != nil {
			return err
		}
	}
	return a.writeState(ctx, function, functions.StateWrite{Op: functions.StateDelete, Key: key}, ifVersion)
}

func (a *Agent) writeState(ctx context.Context, function string, w functions.StateWrite, ifVersion *int64) error {
	f := a.function(function)
	if f == nil {
		return notFound(function)
	}
	f.mu.Lock()
	quota, none := int64(f.manifest().Spec.State.MaxBytes), f.plan.home == shared
	f.mu.Unlock()
	if none {
		return &edge.Error{Code: edge.Conflict, Message: function + " has no state: it runs once for the cluster", Hint: "pin it to a node with placement.nodes to give it one"}
	}
	c := store.StateChange{Function: function, Quota: quota, Writes: []functions.StateWrite{w}}
	if ifVersion != nil {
		c.Reads = map[string]int64{w.Key: *ifVersion}
	}
	if err := a.Store.Write(ctx, c); err != nil {
		return stateError(function, w.Key, err)
	}
	return nil
}

// stateError says to people what is wrong with a change of state.
func stateError(function, key string, err error) error {
	e := &edge.Error{Message: fmt.Sprintf("state of %s, key %q: %v", function, short(key), err)}
	switch {
	case errors.Is(err, store.ErrConflict):
		e.Code, e.Hint = edge.Conflict, "read it again and decide anew"
	case errors.Is(err, store.ErrQuota):
		e.Code, e.Hint = edge.NoRoom, "delete keys, or raise state.maxBytes in the manifest"
	case errors.Is(err, store.ErrKey), errors.Is(err, store.ErrNumber):
		e.Code = edge.Invalid
	case errors.Is(err, store.ErrValue):
		e.Code = edge.TooLarge
	default:
		return fmt.Errorf("state of %s: %w", function, err)
	}
	return e
}

func short(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return strings.ToValidUTF8(s, "�")
}
