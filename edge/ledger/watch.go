package ledger

import (
	"context"
	"sync"
)

// watchers are those who want to know of commits.
type watchers struct {
	mu  sync.Mutex
	all map[chan struct{}]bool // guarded by mu
}

// Watch calls changed once, and then whenever a change has been committed, by this
// program or by another that has the ledger open: what raised the position or is in
// the audit log, not what [Ledger.SaveSeen] and the like write. Calls come one at a
// time, one for all that has gathered. Watch returns once ctx is done and no call is
// under way.
func (l *Ledger) Watch(ctx context.Context, changed func()) {
	news := make(chan struct{}, 1)
	l.watching.mu.Lock()
	if l.watching.all == nil {
		l.watching.all = map[chan struct{}]bool{}
	}
	l.watching.all[news] = true
	l.watching.mu.Unlock()
	defer func() {
		l.watching.mu.Lock()
		delete(l.watching.all, news)
		l.watching.mu.Unlock()
	}()

	var listening sync.WaitGroup
	defer listening.Wait()
	listening.Go(func() { l.store.Listen(ctx, func() { signal(news) }) })
	for {
		changed()
		select {
		case <-news:
		case <-ctx.Done():
			return
		}
	}
}

// tell wakes who watches.
func (l *Ledger) tell() {
	l.watching.mu.Lock()
	defer l.watching.mu.Unlock()
	for news := range l.watching.all {
		signal(news)
	}
}

// signal leaves a token in c unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
