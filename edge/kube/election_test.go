package kube

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var leaseResource = schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}

// A shelf keeps one lease as the API server does: a version for each change.
type shelf struct {
	mu      sync.Mutex
	lease   *Lease
	version int
}

// A way is how one candidate reaches the shelf. A cut one answers nothing, or
// loses the answer to what it did. One with a rng is slow, now and then so slow that
// leases end meanwhile.
type way struct {
	*shelf
	cut atomic.Bool
	rng *rand.Rand // of delays, or nil; used by one goroutine
}

func (w *way) delay(ctx context.Context) error {
	if w.rng != nil {
		most := 300
		if w.rng.IntN(20) == 0 {
			most = 9000
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(w.rng.IntN(most)) * time.Millisecond):
		}
	}
	if w.cut.Load() {
		select {
		case <-ctx.Done():
		case <-time.After(RequestTimeout):
			return context.DeadlineExceeded
		}
	}
	return ctx.Err()
}

func (w *way) Get(ctx context.Context, name string) (*Lease, error) {
	if err := w.delay(ctx); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lease == nil {
		return nil, apierrors.NewNotFound(leaseResource, name)
	}
	l := *w.lease
	return &l, nil
}

func (w *way) Create(ctx context.Context, l *Lease) (*Lease, error) { return w.put(ctx, l, "") }

func (w *way) Update(ctx context.Context, l *Lease, _ string) (*Lease, error) {
	return w.put(ctx, l, l.Metadata.ResourceVersion)
}

func (w *way) put(ctx context.Context, l *Lease, was string) (*Lease, error) {
	if err := w.delay(ctx); err != nil {
		return nil, err
	}
	w.mu.Lock()
	old := ""
	if w.lease != nil {
		old = w.lease.Metadata.ResourceVersion
	}
	if old != was {
		w.mu.Unlock()
		return nil, apierrors.NewConflict(leaseResource, l.Metadata.Name, fmt.Errorf("it is %q, not %q", old, was))
	}
	w.version++
	made := *l
	made.Metadata.UID = "uid-of-the-lease"
	made.Metadata.ResourceVersion = strconv.Itoa(w.version)
	w.lease = &made
	w.mu.Unlock()
	if err := w.delay(ctx); err != nil { // the answer gets lost
		return nil, err
	}
	answer := made
	return &answer, nil
}

func candidate(w LeaseKeeper, name string) *Election {
	return NewElection(ElectionConfig{Leases: w, Name: "cluster", Me: name, Logger: slog.New(slog.DiscardHandler)})
}

// third is the time that nobody else gets the lease after a leader was told to end.
const third = 3 * time.Second

func TestAtMostOneLeads(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { atMostOne(t, seed) })
		})
	}
}

func atMostOne(t *testing.T, seed uint64) {
	s := &shelf{}
	var leaders, terms atomic.Int32
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for i := range 3 {
		w := &way{shelf: s, rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		e := candidate(w, fmt.Sprintf("pi-%d", i))
		luck := rand.New(rand.NewPCG(seed, uint64(10+i)))
		wg.Go(func() {
			err := e.Lead(ctx, func(ctx context.Context) {
				if n := leaders.Add(1); n > 1 {
					t.Errorf("%d lead at a time", n)
				}
				terms.Add(1)
				<-ctx.Done()
				time.Sleep(third - time.Millisecond)
				leaders.Add(-1)
			})
			if err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			for ctx.Err() == nil { // the way to the API server comes and goes
				time.Sleep(time.Duration(luck.IntN(20_000)) * time.Millisecond)
				w.cut.Store(luck.IntN(2) == 0)
			}
		})
	}
	time.Sleep(time.Hour)
	stop()
	wg.Wait()
	if n := terms.Load(); n < 20 {
		t.Errorf("there were only %d terms: the test shows nothing", n)
	}
}

func TestAHolderThatDiesIsFollowedWithinTwoDurations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		dies := &way{shelf: s}
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		stand := func(name string, w *way) chan struct{} {
			led := make(chan struct{}, 1)
			wg.Go(func() {
				if err := candidate(w, name).Lead(ctx, func(ctx context.Context) { led <- struct{}{}; <-ctx.Done() }); err != nil {
					t.Error(err)
				}
			})
			return led
		}
		<-stand("pi-1", dies)
		next := stand("pi-2", &way{shelf: s})
		time.Sleep(5 * time.Second)
		dies.cut.Store(true)
		since := time.Now()
		<-next
		if took := time.Since(since); took > 6*third {
			t.Errorf("it took %v, more than two durations", took)
		}
		stop()
		wg.Wait()
	})
}

func TestALeaderThatEndsGivesTheLeaseUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		var wg sync.WaitGroup
		ctx, end := context.WithCancel(t.Context())
		other, stop := context.WithCancel(t.Context())
		led := make(chan struct{}, 1)
		one, two := candidate(&way{shelf: s}, "pi-1"), candidate(&way{shelf: s}, "pi-2")
		wg.Go(func() {
			if err := one.Lead(ctx, func(ctx context.Context) { <-ctx.Done() }); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if err := two.Lead(other, func(ctx context.Context) { led <- struct{}{}; <-ctx.Done() }); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(10 * time.Second)
		if got := two.Holder(); got != "pi-1" {
			t.Errorf("holder is %q, want pi-1", got)
		}
		end()
		since := time.Now()
		<-led
		if took := time.Since(since); took > third {
			t.Errorf("it took %v, more than a third of the duration", took)
		}
		stop()
		wg.Wait()
	})
}
