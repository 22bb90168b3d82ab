package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/sedge-iot/sedge/edge/sqlite"
)

// Commit hands in a change and returns at once. Changes are committed in the
// order in which they were handed in, as many as have gathered in one
// transaction. Then done, which may be nil, is told: nil once the change is on
// disk; [ErrConflict], [ErrQuota] or another of the errors of [StateChange] if
// the change is void; [ErrClosed] if Run has ended. done is called on Run's
// goroutine, in the order of the changes, and must not wait for the store.
//
// While the disk is full or failing a change waits, see [Store.Healthy].
// The change and what it points to must not be altered until done was called.
func (s *Store) Commit(c *Change, done func(error)) {
	if err := s.put(&task{change: c, done: done}); err != nil && done != nil {
		done(err)
	}
}

// do commits what write does and waits for it. Unlike a change it does not wait
// for a failing disk.
func (s *Store) do(write func(*batch) error) error {
	done := make(chan error, 1)
	if err := s.put(&task{write: write, done: func(err error) { done <- err }}); err != nil {
		return err
	}
	return <-done
}

func (s *Store) put(t *task) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return s.ended
	}
	if t.impatient() && s.stuck != nil {
		return s.stuck
	}
	s.queue.put(t, time.Now())
	signal(s.wake)
	return nil
}

// signal leaves a token in c unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run commits what is handed in until ctx is done, then what still waits, and
// returns nil. A full or failing disk is waited for; the error that Run returns
// is one that no waiting mends, such as a file found damaged: [Open] will set
// it aside. Run is called once.
func (s *Store) Run(ctx context.Context) error {
	err := s.run(ctx)
	if err != nil {
		err = fmt.Errorf("run store: %w", err)
	}
	s.end(errors.Join(ErrClosed, err))
	return err
}

func (s *Store) run(ctx context.Context) error {
	for {
		ending := ctx.Err() != nil
		s.restock(time.Now())
		s.mu.Lock()
		batch, wait := s.queue.take(time.Now(), ending)
		s.mu.Unlock()
		if len(batch) > 0 {
			if err := s.commit(ctx, batch); err != nil {
				return err
			}
			continue
		}
		if ending {
			return nil
		}
		s.rest(ctx, wait)
	}
}

// rest waits until there is something to do: at the latest for wait, if it is
// not 0.
func (s *Store) rest(ctx context.Context, wait time.Duration) {
	var lazy, restock <-chan time.Time
	if wait > 0 {
		lazy = time.After(wait)
	}
	if !s.ballast.there {
		restock = time.After(time.Until(s.restockDue))
	}
	select {
	case <-s.wake:
	case <-lazy:
	case <-restock:
	case <-ctx.Done():
	}
}

// end turns away what comes from now on, and what still waits.
func (s *Store) end(why error) {
	s.mu.Lock()
	if s.ended == nil {
		s.ended = why
	}
	left := s.queue.tasks
	s.queue = queue{}
	s.mu.Unlock()
	for _, t := range left {
		t.err = why
	}
	settle(left)
}

func settle(batch []*task) {
	for _, t := range batch {
		if t.done != nil {
			t.done(t.err)
		}
	}
}

// commit brings a batch to disk, however long that takes. It returns an error
// only for what waiting cannot mend, or if ctx ends while the disk fails; then
// the batch was told.
func (s *Store) commit(ctx context.Context, batch []*task) error {
	for try := 0; len(batch) > 0; try++ {
		err := s.write(batch)
		switch {
		case err == nil:
			settle(batch)
			s.recover()
			return nil
		case sqlite.Damaged(err):
			s.condemn()
			return s.giveUp(batch, err)
		case !sqlite.Waiting(err):
			return s.commitSingly(ctx, batch, err)
		}
		s.suffer(err)
		batch = s.dropImpatient(batch, err)
		if sqlite.Full(err) && s.ballast.release() {
			continue
		}
		if ctx.Err() != nil {
			return s.giveUp(batch, err)
		}
		pause(ctx, try)
	}
	return nil
}

// commitSingly finds the task that err comes from: it is the only one to suffer.
func (s *Store) commitSingly(ctx context.Context, batch []*task, err error) error {
	if len(batch) == 1 {
		batch[0].err = err
		settle(batch)
		return nil
	}
	for i := range batch {
		if err := s.commit(ctx, batch[i:i+1]); err != nil {
			return s.giveUp(batch[i+1:], err)
		}
	}
	return nil
}

// giveUp tells a batch that it will not be committed.
func (s *Store) giveUp(batch []*task, err error) error {
	for _, t := range batch {
		t.err = err
	}
	settle(batch)
	return err
}

// dropImpatient tells the tasks that do not wait for a failing disk, those in
// the queue too, and returns what is left of the batch.
func (s *Store) dropImpatient(batch []*task, err error) []*task {
	s.mu.Lock()
	all := slices.Concat(batch, s.queue.tasks)
	s.queue.remove((*task).impatient)
	s.mu.Unlock()
	for _, t := range all {
		if t.impatient() {
			t.err = err
			t.done(err)
		}
	}
	return slices.DeleteFunc(batch, (*task).impatient)
}

// condemn makes the next Open salvage the file whatever its checks say.
func (s *Store) condemn() {
	if err := os.WriteFile(s.suspect, nil, 0o600); err != nil {
		s.lg.Warn("store is damaged and cannot be marked so", "err", err)
	}
}

// pause waits before another try: from 50 ms, doubling up to 5 s, spread by half.
func pause(ctx context.Context, try int) {
	d := min(50*time.Millisecond<<min(try, 10), 5*time.Second)
	select {
	case <-time.After(d/2 + rand.N(d/2)):
	case <-ctx.Done():
	}
}
