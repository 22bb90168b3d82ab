package store

import (
	"errors"
	"time"

	"github.com/sedge-iot/sedge/edge/sqlite"
)

// A batch is one transaction under way. What it makes of the numbers and values
// that the store keeps in memory stays in the batch until it is committed.
type batch struct {
	*sqlite.Tx
	s        *Store
	now      time.Time // ours
	sweepDue time.Time
	entries  map[entryKey]entry // of state
	used     map[string]Usage
	dead     map[string]DeadCount
	versions versions
	session  string
}

// A voidError is what is wrong with a single change, found before anything of
// it was written: the others in the batch go on.
type voidError struct{ error }

func (v voidError) Unwrap() error { return v.error }

// write commits a batch in one transaction. Afterwards each task has its err.
func (s *Store) write(tasks []*task) error {
	b := &batch{
		s:        s,
		now:      s.time.now(),
		sweepDue: s.sweepDue,
		entries:  map[entryKey]entry{},
		used:     map[string]Usage{},
		dead:     map[string]DeadCount{},
	}
	s.mu.Lock()
	b.versions, b.session = s.versions, s.session
	s.mu.Unlock()
	err := s.db.Update(func(tx *sqlite.Tx) error {
		b.Tx = tx
		for _, t := range tasks {
			if t.err = b.do(t); t.err == nil {
				continue
			}
			if _, void := errors.AsType[voidError](t.err); !void {
				return t.err
			}
			t.err = errors.Unwrap(t.err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.publish()
	return nil
}

func (b *batch) do(t *task) error {
	if t.write != nil {
		return t.write(b)
	}
	return b.apply(t.change)
}

// publish makes what was committed visible in memory.
func (b *batch) publish() {
	s := b.s
	s.cache.commit(b.entries)
	s.sweepDue = b.sweepDue
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions, s.session = b.versions, b.session
	for name, u := range b.used {
		s.used[name] = u
	}
	for name, n := range b.dead {
		s.dead[name] = n
	}
}

// apply writes one change, or none of it if it is void.
func (b *batch) apply(c *Change) error {
	if c.State != nil {
		if err := b.applyState(c.State); err != nil {
			return err
		}
	}
	for _, step := range []func() error{
		func() error { return all(c.Store, b.store) },
		func() error { return all(c.Dead, b.bury) },
		func() error { return all(c.Drop, b.drop) },
		func() error { return all(c.Undead, b.unbury) },
		func() error { return all(c.Done, b.remember) },
		func() error { return all(c.Timers, b.setTimer) },
		func() error { return all(c.Cancel, b.cancelTimer) },
		func() error { return all(c.Outbox, b.send) },
		func() error { return all(c.Sent, b.sent) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// all calls fn with each element until one fails.
func all[E any](list []E, fn func(*E) error) error {
	for i := range list {
		if err := fn(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

// run executes a statement for what it does.
func (b *batch) run(query string, args ...any) error {
	_, err := b.Exec(query, args...)
	return err
}
