package agent

import (
	"context"
	"iter"
	"sync"
)

// A ring keeps the last few of many things, in memory, and lets people watch
// what is added. It may be used from several goroutines.
type ring[T any] struct {
	mu       sync.Mutex
	kept     []T
	added    int64         // how many were ever
	grown    chan struct{} // closed when something is added, if someone watches
	watchers int
}

func newRing[T any](size int) *ring[T] {
	return &ring[T]{kept: make([]T, size), grown: make(chan struct{})}
}

// add keeps v in the place of the oldest.
func (r *ring[T]) add(v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept[r.added%int64(len(r.kept))] = v
	r.added++
	if r.watchers > 0 {
		close(r.grown)
		r.grown = make(chan struct{})
	}
}

// since returns what was added from position at on, as far as it is kept, the
// position after it, and a channel that is closed when there is more.
func (r *ring[T]) since(at int64) ([]T, int64, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at = max(at, r.added-int64(len(r.kept)), 0)
	vs := make([]T, 0, r.added-at)
	for ; at < r.added; at++ {
		vs = append(vs, r.kept[at%int64(len(r.kept))])
	}
	return vs, at, r.grown
}

// watch changes the number of those who want to be told.
func (r *ring[T]) watch(by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers += by
}

// all returns the last of what is kept and match accepts (a negative number
// means all of it), oldest first, and with follow goes on with what is added
// until ctx is done. Who cannot keep up misses some.
func (r *ring[T]) all(ctx context.Context, last int, follow bool, match func(*T) bool) iter.Seq[T] {
	return func(yield func(T) bool) {
		if follow {
			r.watch(1)
			defer r.watch(-1)
		}
		vs, at, grown := r.since(0)
		vs = tail(vs, last, match)
		for {
			for i := range vs {
				if match(&vs[i]) && !yield(vs[i]) {
					return
				}
			}
			if !follow {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-grown:
			}
			vs, at, grown = r.since(at)
		}
	}
}

// tail returns the last n of vs that match, and what lies between them.
func tail[T any](vs []T, n int, match func(*T) bool) []T {
	if n < 0 {
		return vs
	}
	for i := len(vs) - 1; i >= 0 && n > 0; i-- {
		if match(&vs[i]) {
			n--
			if n == 0 {
				return vs[i:]
			}
		}
	}
	if n > 0 {
		return vs
	}
	return nil
}
