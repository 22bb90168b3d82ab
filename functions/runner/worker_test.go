package runner

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

// An engine whose handlers are Go: what Run does is told by the payload.
type engine struct {
	prepared atomic.Int32 // contexts
}

func (e *engine) Load(_ context.Context, s Source) (Program, error) {
	if s.Code == "" {
		return nil, errors.New("there is no code")
	}
	return e, nil
}

func (e *engine) New() Context { return &place{engine: e, stop: make(chan *functions.Failure, 1)} }

// A place is a context of the engine.
type place struct {
	*engine
	made time.Time
	stop chan *functions.Failure // cap 1
}

func (c *place) Prepare() {
	if c.made.IsZero() {
		c.prepared.Add(1)
		c.made = time.Now()
	}
}

func (c *place) Interrupt(f *functions.Failure) {
	select {
	case c.stop <- f:
	default:
	}
}

func (c *place) Run(inv functions.Invocation, h Host) functions.Outcome {
	c.Prepare()
	what, arg, _ := strings.Cut(string(inv.Event.Payload), " ")
	switch what {
	case "panic":
		panic("the engine broke")
	case "get":
		v, err := h.Get(arg)
		if err != nil {
			return functions.Outcome{Err: &functions.Failure{Code: functions.CodeThrown, Message: err.Error()}}
		}
		return functions.Outcome{Returned: v}
	case "age":
		return functions.Outcome{Returned: []byte(`"` + time.Since(c.made).String() + `"`)}
	case "busy": // keeps its seat's thread, as a loop does
		return functions.Outcome{Err: <-c.stop}
	case "huge":
		return functions.Outcome{Returned: make([]byte, functions.MaxResult+1)}
	}
	return functions.Outcome{Returned: []byte(`"` + arg + `"`)}
}

// serve runs a worker for the length of a test and returns its agent's end,
// loaded.
func serve(t *testing.T, e *engine, concurrency int) *Link {
	t.Helper()
	ours, theirs := net.Pipe()
	l := NewLink(ours)
	ran, served := make(chan error, 1), make(chan error, 1)
	go func() { ran <- l.Run() }() // the cleanup waits for both
	go func() { served <- Main(context.Background(), theirs, map[string]Engine{"go": e}) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-ran; err != nil {
			t.Errorf("Run = %v", err)
		}
		l.End(died)
		if err := <-served; err != nil {
			t.Errorf("Main = %v", err)
		}
	})
	if err := l.Load(t.Context(), Source{Runtime: "go", Name: "f", Code: "x", Timeout: time.Minute, Concurrency: concurrency}); err != nil {
		t.Fatal(err)
	}
	return l
}

// invoke starts a run; its outcome comes to the recorder.
func invoke(l *Link, payload string, timeout time.Duration) *recorder {
	r := &recorder{}
	inv := within(timeout)
	inv.Event.Payload = []byte(payload)
	l.Invoke(inv, r)
	return r
}

// only returns what a run came to.
func only(t *testing.T, r *recorder) string {
	t.Helper()
	synctest.Wait()
	got := r.outcomes()
	if len(got) != 1 {
		t.Fatalf("%d outcomes", len(got))
	}
	if got[0].Err != nil {
		return string(got[0].Err.Code) + ": " + got[0].Err.Message
	}
	return string(got[0].Returned)
}

func TestAWorkerServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := serve(t, &engine{}, 2)
		for payload, want := range map[string]string{
			"echo a": `"a"`,
			"get k":  `"k"`,
			"panic":  "function.error: runtime: the engine broke",
			"huge":   "result.invalid: returned value and effects are over 1048576 bytes",
		} {
			if got := only(t, invoke(l, payload, time.Minute)); got != want {
				t.Errorf("%s: got %s, want %s", payload, got, want)
			}
		}
	})
}

func TestABusyHandlerDoesNotHoldUpTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := serve(t, &engine{}, 3)
		busy := []*recorder{invoke(l, "busy", time.Second), invoke(l, "busy", 2*time.Second)}
		quick := invoke(l, "get k", time.Minute)
		time.Sleep(4 * tick)
		if got := only(t, quick); got != `"k"` {
			t.Errorf("the quick one: %s", got)
		}
		time.Sleep(2*time.Second + 2*tick)
		for i, r := range busy {
			want := "function.timeout: handler did not end within " + []string{"1s", "2s"}[i]
			if got := only(t, r); got != want {
				t.Errorf("a busy one: got %s, want %s", got, want)
			}
		}
		if got := only(t, invoke(l, "echo after", time.Minute)); got != `"after"` {
			t.Errorf("after them: %s", got)
		}
	})
}

func TestAnEventWhileAnotherAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := serve(t, &engine{}, 2)
		asking := &recorder{gate: make(chan struct{})}
		inv := within(time.Minute)
		inv.Event.Payload = []byte("get k")
		l.Invoke(inv, asking)
		synctest.Wait()
		if got := only(t, invoke(l, "echo b", time.Minute)); got != `"b"` {
			t.Errorf("the other: %s", got)
		}
		if got := only(t, invoke(l, "get c", time.Minute)); got != `"c"` {
			t.Errorf("another that asks: %s", got)
		}
		close(asking.gate)
		if got := only(t, asking); got != `"k"` {
			t.Errorf("the one that asked: %s", got)
		}
	})
}

func TestAPreparedContextIsUsedOnceAndSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{}
		l := serve(t, e, 1)
		only(t, invoke(l, "age", time.Minute))
		time.Sleep(stale / 2)
		if got, want := only(t, invoke(l, "age", time.Minute)), `"`+(stale/2).String()+`"`; got != want {
			t.Errorf("the second context was prepared %s before, want %s", got, want)
		}
		if got := e.prepared.Load(); got != 3 {
			t.Errorf("%d contexts were prepared, want 3: one for each run, and the next", got)
		}
		time.Sleep(10 * stale)
		if got := only(t, invoke(l, "age", time.Minute)); got != `"0s"` {
			t.Errorf("after a while a context prepared %s before was used", got)
		}
	})
}

func TestAWorkerEndsWithItsAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := serve(t, &engine{}, 2)
		busy := invoke(l, "busy", time.Hour)
		asking := &recorder{gate: make(chan struct{})}
		inv := within(time.Hour)
		inv.Event.Payload = []byte("get k")
		l.Invoke(inv, asking)
		time.Sleep(4 * tick)
		l.Close() // the cleanup waits for Main, and the bubble for every goroutine
		close(asking.gate)
		_ = busy
	})
}

func TestCodeThatDoesNotLoadIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			src  Source
			want string
		}{
			{Source{Runtime: "go"}, "there is no code"},
			{Source{Runtime: "cobol", Code: "x"}, `this runner has no runtime "cobol"`},
		} {
			ours, theirs := net.Pipe()
			l := NewLink(ours)
			ran, served := make(chan error, 1), make(chan error, 1)
			go func() { ran <- l.Run() }()
			go func() { served <- Main(context.Background(), theirs, map[string]Engine{"go": &engine{}}) }()
			if err := l.Load(t.Context(), test.src); !errors.Is(err, functions.ErrUnfit) || err.Error() != test.want {
				t.Errorf("Load = %v, want %s", err, test.want)
			}
			l.Close()
			<-ran
			if err := <-served; err != nil {
				t.Errorf("Main = %v", err)
			}
		}
	})
}
