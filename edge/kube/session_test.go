package kube

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// leads lets the candidate lead for as long as do takes.
func leads(t *testing.T, w *way, name string, do func(*Election)) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	e := candidate(w, name)
	if err := e.Lead(ctx, func(context.Context) {
		do(e)
		stop()
	}); err != nil {
		t.Error(err)
	}
}

func TestLeadersShareTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		var client, first, second string
		held := map[string]bool{"in/+": true, "out": false}
		leads(t, &way{shelf: s}, "pi-1", func(e *Election) {
			if got := e.Held(); got != nil {
				t.Errorf("a session of which nothing is known holds %v", got)
			}
			client, first = e.Client(), e.Generation(false)
			e.Hold(held)
		})
		leads(t, &way{shelf: s}, "pi-2", func(e *Election) {
			if got := e.Client(); got != client || got == "" {
				t.Errorf("client id is %q, was %q", got, client)
			}
			if got := e.Held(); !maps.Equal(got, held) {
				t.Errorf("the session holds %v, want %v", got, held)
			}
			if got := e.Generation(true); got != first {
				t.Errorf("the session that was kept is %q, was %q", got, first)
			}
			second = e.Generation(false)
			if second == first {
				t.Errorf("another session is called %q, too", second)
			}
			if got := e.Generation(true); got != second {
				t.Errorf("the session is %q, was %q", got, second)
			}
		})
		leads(t, &way{shelf: s}, "pi-1", func(e *Election) {
			if got := e.Generation(true); got != second {
				t.Errorf("after a change of leaders the session is %q, was %q", got, second)
			}
		})
	})
}

// What a leader was told is written by then: it may die the next moment.
func TestTheSessionIsWrittenWhenItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		leads(t, &way{shelf: s}, "pi-1", func(e *Election) {
			for i := range 3 {
				name := e.Generation(false)
				if s.lease.Metadata.Annotations[generationAnnotation] != fmt.Sprint(i+1) || name != fmt.Sprintf("uid-%d", i+1) {
					t.Errorf("told %q, written %v", name, s.lease.Metadata.Annotations)
				}
				e.Hold(map[string]bool{fmt.Sprint(i): true})
				if got := s.lease.Metadata.Annotations[heldAnnotation]; got != fmt.Sprintf(`{"%d":true}`, i) {
					t.Errorf("told %d, written %q", i, got)
				}
			}
		})
	})
}

func TestWhatCannotBeWrittenIsNotToldAndNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ended := &shelf{}, make(chan struct{})
		w := &way{shelf: s}
		ctx, stop := context.WithCancel(t.Context())
		e := candidate(w, "pi-1")
		err := e.Lead(ctx, func(term context.Context) {
			defer close(ended)
			w.cut.Store(true)
			since := time.Now()
			if got := e.Generation(false); got != "" || time.Since(since) > third {
				t.Errorf("told %q after %v, want nothing within a third", got, time.Since(since))
			}
			<-term.Done()
			since = time.Now()
			if got := e.Generation(true); got != "" {
				t.Errorf("told %q, want nothing: it was never written", got)
			}
			e.Hold(map[string]bool{"late": true})
			if took := time.Since(since); took > 0 {
				t.Errorf("waited %v for a lease that is lost", took)
			}
			stop()
		})
		<-ended
		if err != nil {
			t.Error(err)
		}
		w.cut.Store(false)
		e.Hold(map[string]bool{"never": true})
		leads(t, w, "pi-1", func(e *Election) {
			if got := e.Held(); got != nil {
				t.Errorf("the session holds %v, which who did not lead said", got)
			}
		})
	})
}

func TestTooManyFiltersAreNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		leads(t, &way{shelf: s}, "pi-1", func(e *Election) {
			e.Hold(map[string]bool{"a": true})
			e.Hold(map[string]bool{strings.Repeat("a", maxHeld): true})
		})
		if n := len(s.lease.Metadata.Annotations[heldAnnotation]); n > maxHeld {
			t.Errorf("%d bytes are in the lease, want at most %d", n, maxHeld)
		}
		leads(t, &way{shelf: s}, "pi-2", func(e *Election) {
			if got := e.Held(); got != nil {
				t.Errorf("the session holds %v, want that it is not known", got)
			}
		})
	})
}
