package ledger

import (
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A Who says who asks for a change and from where, for the audit.
type Who struct {
	By      string // an operator, or a node as node/NAME
	Address string // "" if it came from nowhere outside
}

// A tx is a change of the ledger under way.
type tx struct {
	Querier
	now       time.Time
	keepAudit int64
	meta      // as it will be
	was       meta
}

// update runs fn within a transaction, and tells who watches if something came
// of it.
func (l *Ledger) update(fn func(*tx) error) error {
	told := false
	err := l.store.Update(func(q Querier) (bool, error) {
		t := &tx{Querier: q, now: time.Now(), keepAudit: l.keepAudit}
		if err := t.begin(); err != nil {
			return false, fmt.Errorf("read meta: %w", err)
		}
		if err := fn(t); err != nil {
			return false, err
		}
		told = t.meta != t.was
		if err := t.save(q, t.was); err != nil {
			return false, fmt.Errorf("write meta: %w", err)
		}
		return told, nil
	})
	if err == nil && told {
		l.tell()
	}
	return err
}

func (t *tx) begin() error {
	rows, err := t.Query(readMeta)
	if err != nil {
		return err
	}
	if t.was, err = scanMeta(rows); err != nil {
		return err
	}
	t.meta = t.was
	if t.at.Epoch == "" {
		t.at.Epoch = rand.Text() // of a new ledger
	}
	return nil
}

// bump raises the position, once in a transaction, and returns it.
func (t *tx) bump() int64 {
	t.at.Revision = t.was.at.Revision + 1
	return t.at.Revision
}

// maxTogether is how many tasks share a transaction at most: over a network it is not to
// take long.
const maxTogether = 1_000

// A gathering is what several callers want committed at about the same time: it
// goes into one transaction, which costs one write to disk.
type gathering struct {
	mu    sync.Mutex
	tasks []*task    // guarded by mu
	turn  sync.Mutex // held by whoever commits
}

// A task is a change that may share its transaction. do is called again if another's
// fails.
type task struct {
	do   func(*tx) error
	err  error // once done
	done bool
}

// together commits what do does, with what others want together, and waits for it.
func (l *Ledger) together(do func(*tx) error) error {
	own := &task{do: do}
	g := &l.gathering
	g.mu.Lock()
	g.tasks = append(g.tasks, own)
	g.mu.Unlock()

	g.turn.Lock() // until those before have been committed; others gather meanwhile
	defer g.turn.Unlock()
	for !own.done {
		l.commit(g.take())
	}
	return own.err
}

// take returns the tasks that are next.
func (g *gathering) take() []*task {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.tasks), maxTogether)
	tasks := g.tasks[:n:n]
	g.tasks = g.tasks[n:]
	return tasks
}

// commit commits the tasks at once, without those that fail.
func (l *Ledger) commit(tasks []*task) {
	for len(tasks) > 0 {
		failed := -1
		err := l.update(func(t *tx) error {
			for i, task := range tasks {
				if err := task.do(t); err != nil {
					failed = i
					return err
				}
			}
			return nil
		})
		if failed < 0 {
			settle(tasks, err)
			return
		}
		settle(tasks[failed:failed+1], err)
		tasks = slices.Delete(tasks, failed, failed+1)
	}
}

func settle(tasks []*task, err error) {
	for _, task := range tasks {
		task.err, task.done = err, true
	}
}
