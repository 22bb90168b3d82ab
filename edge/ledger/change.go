package ledger

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// The actions of history. The strings are stored.
const (
	actionDeploy   = "deploy"
	actionRollback = "rollback"
	actionEnable   = "enable"
	actionDisable  = "disable"
	actionDelete   = "delete"
)

// An Intent says who changes something, how, and on what condition.
type Intent struct {
	By      string             // who, for history and audit
	Address string             // that they came from, for the audit; "" for nowhere outside
	Expect  functions.Revision // if set, the current revision must be this one, else the change is an ErrConflict
	Absent  bool               // there must be no function of that name yet, else the change is an ErrConflict
	DryRun  bool               // only tell what would change

	Selector  *string       // deploy: of nodes, Kubernetes syntax, "" for all; nil leaves it as it is
	Signature string        // deploy: an operator's, of name and revision; "" leaves it as it is
	Rollout   *edge.Rollout // deploy: a rollout that begins if the revision changes: its stages, gate and selector; nil for all nodes at once
	Purge     bool          // delete: state and dead letters go too
	Confirmed bool          // an operator knows how many functions this takes from nodes
}

func (in Intent) who() Who { return Who{in.By, in.Address} }

// A Result is what became of a function, and the position after that.
type Result struct {
	edge.Change
	At        edge.Position
	Signature string // an operator's, of the revision, or ""; also one that was given earlier
}

// Deploy makes f, which must be valid, the current revision of its function. A
// new function is enabled; an existing one stays as it is. While a rollout of the
// function is under way it is an [ErrConflict].
func (l *Ledger) Deploy(f functions.Function, in Intent) (Result, error) {
	return l.change("deploy", f.Name(), in, func(e *entry) error {
		body, err := json.Marshal(f)
		if err != nil {
			return err
		}
		_, err = e.t.Exec(`INSERT INTO revisions (name, revision, body, signature) VALUES ($1, $2, $3, $4)
			ON CONFLICT (name, revision) DO UPDATE SET signature = excluded.signature WHERE excluded.signature <> ''`,
			e.name, string(f.Revision), string(body), in.Signature)
		if err != nil {
			return err
		}
		next, err := e.to(f.Revision)
		if err != nil {
			return err
		}
		next.enabled = e.enabled || !e.exists
		if in.Selector != nil {
			next.selector = *in.Selector
		}
		return e.place(actionDeploy, next)
	})
}

// Rollback makes an earlier revision current: to is a number of the history or
// a revision, which may be shortened; "" for the one before. Its errors are
// [ErrNotFound], [ErrAmbiguous] and [ErrConflict], also while a rollout is under way.
func (l *Ledger) Rollback(name, to string, in Intent) (Result, error) {
	return l.change("roll back", name, in, func(e *entry) error {
		if !e.exists {
			return ErrNotFound
		}
		revision, err := e.earlier(to)
		if err != nil {
			return err
		}
		next, err := e.to(revision)
		if err != nil {
			return err
		}
		return e.place(actionRollback, next)
	})
}

// SetEnabled lets a function run, or pauses it. Its errors are [ErrNotFound]
// and [ErrConflict].
func (l *Ledger) SetEnabled(name string, enabled bool, in Intent) (Result, error) {
	verb, action := "enable", actionEnable
	if !enabled {
		verb, action = "disable", actionDisable
	}
	return l.change(verb, name, in, func(e *entry) error {
		if !e.exists {
			return ErrNotFound
		}
		next := e.current
		next.enabled = enabled
		return e.set(action, next)
	})
}

// Delete removes a function, and aborts its rollout; its history stays. Its errors
// are [ErrNotFound] and [ErrConflict].
func (l *Ledger) Delete(name string, in Intent) (Result, error) {
	return l.change("delete", name, in, func(e *entry) error {
		if !e.exists {
			return ErrNotFound
		}
		if err := e.endRollout(); err != nil {
			return err
		}
		return e.remove()
	})
}

func (l *Ledger) change(verb, name string, in Intent, fn func(*entry) error) (Result, error) {
	var e *entry
	err := l.update(func(t *tx) error {
		e = &entry{t: t, name: name, in: in}
		if err := e.load(); err != nil {
			return err
		}
		if in.Absent && e.exists || in.Expect != "" && in.Expect != e.revision {
			return e.conflict()
		}
		if err := fn(e); err != nil {
			return err
		}
		e.result.DryRun = in.DryRun
		if in.DryRun {
			e.result.At = t.was.at
			return errDryRun
		}
		e.result.At = t.at
		return nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return Result{}, fmt.Errorf("%s %s: %w", verb, name, err)
	}
	return e.result, nil
}

// errDryRun undoes a change that was only tried.
var errDryRun = errors.New("dry run")
