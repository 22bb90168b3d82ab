package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// A peer is a runner that the test plays.
type peer struct {
	t    *testing.T
	conn net.Conn
	in   *frameReader
	link *Link
	ran  chan error // what Run returned
}

// newPeer returns a runner that has introduced itself.
func newPeer(t *testing.T) *peer {
	t.Helper()
	ours, theirs := net.Pipe()
	p := &peer{t: t, conn: theirs, in: newFrameReader(theirs), link: NewLink(ours), ran: make(chan error, 1)}
	go func() { p.ran <- p.link.Run() }() // close waits
	p.send(kindHello, 0, hello{protocol: Protocol, runtimes: []string{"javascript"}}.append(nil))
	if err := p.link.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *peer) send(k kind, id uint32, body []byte) {
	p.t.Helper()
	b, begin := beginFrame(nil, k, id)
	if _, err := p.conn.Write(endFrame(append(b, body...), begin)); err != nil {
		p.t.Fatal(err)
	}
}

// next returns the kind and id of the next frame.
func (p *peer) next() frame {
	p.t.Helper()
	f, err := p.in.next()
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

func (p *peer) done(id uint32, returned string) {
	p.t.Helper()
	p.send(kindDone, id, appendOutcome(nil, &functions.Outcome{Returned: []byte(returned)}))
}

// end closes the link and returns what Run returned.
func (p *peer) end(f *functions.Failure) error {
	p.conn.Close()
	err := <-p.ran
	p.link.End(f)
	return err
}

// A recorder is a Run that counts.
type recorder struct {
	mu   sync.Mutex
	got  []functions.Outcome // guarded by mu
	logs []string            // guarded by mu
	gate chan struct{}       // Get waits for it, unless nil
}

func (r *recorder) Get(key string) ([]byte, error) {
	if r.gate != nil {
		<-r.gate
	}
	return []byte(`"` + key + `"`), nil
}
func (r *recorder) Peek(string) ([]byte, error) { return nil, errors.New("no state today") }
func (r *recorder) Publish(devices.Publication) error {
	return fmt.Errorf("publish: %w", &functions.Failure{Code: functions.CodeRefused, Message: "not permitted"})
}
func (r *recorder) Log(l functions.Level, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logs = append(r.logs, string(l)+" "+text)
}
func (r *recorder) Done(o functions.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, o)
}

func (r *recorder) outcomes() []functions.Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got
}

// within returns an invocation with a timeout.
func within(timeout time.Duration) functions.Invocation {
	return functions.Invocation{ID: "i", Timeout: timeout}
}

var died = &functions.Failure{Code: functions.CodeDied, Message: "gone"}

func TestLateDoubleAndForeignOutcomesAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		var one, two recorder
		p.link.Invoke(within(time.Minute), &one)
		p.link.Invoke(within(time.Minute), &two)
		first, second := p.next().id, p.next().id
		p.done(second, "2")
		p.done(second, "3")
		p.done(77, "4")
		p.send(kindLog, 77, line{level: functions.LevelInfo, text: "x"}.append(nil))
		p.send(kindOp, 77, op{kind: opGet, key: "k"}.append(nil))
		p.done(first, "1")
		synctest.Wait()
		if err := p.end(died); err != nil {
			t.Errorf("Run = %v", err)
		}
		for i, r := range []*recorder{&one, &two} {
			if got := r.outcomes(); len(got) != 1 || string(got[0].Returned) != fmt.Sprint(i+1) {
				t.Errorf("run %d: %+v", i+1, got)
			}
		}
		if got := p.link.Ignored(); got != 4 {
			t.Errorf("%d frames were ignored, want 4", got)
		}
	})
}

func TestABrokenRuleEndsTheLink(t *testing.T) {
	outcome := fullOutcome()
	for name, play := range map[string]func(p *peer, id uint32){
		"an unknown frame":     func(p *peer, id uint32) { p.send(99, id, nil) },
		"a frame of the agent": func(p *peer, id uint32) { p.send(kindInvoke, id, nil) },
		"a second hello":       func(p *peer, id uint32) { p.send(kindHello, id, nil) },
		"a malformed outcome":  func(p *peer, id uint32) { p.send(kindDone, id, append(appendOutcome(nil, &outcome), 1)) },
		"a malformed op":       func(p *peer, id uint32) { p.send(kindOp, id, []byte{9}) },
		"a malformed line":     func(p *peer, id uint32) { p.send(kindLog, id, []byte{9, 0}) },
		"a frame over the cap": func(p *peer, id uint32) { p.conn.Write([]byte{255, 255, 255, 255}) },
		"a done while it asks": func(p *peer, id uint32) { p.send(kindOp, id, op{kind: opGet, key: "k"}.append(nil)); p.done(id, "1") },
		"two ops at a time": func(p *peer, id uint32) {
			for range 2 {
				p.send(kindOp, id, op{kind: opGet, key: "k"}.append(nil))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPeer(t)
				r := recorder{gate: make(chan struct{})}
				p.link.Invoke(within(time.Minute), &r)
				play(p, p.next().id)
				err := <-p.ran
				if !errors.Is(err, ErrProtocol) {
					t.Errorf("Run = %v", err)
				}
				close(r.gate)
				p.link.End(died)
				if got := r.outcomes(); len(got) != 1 || got[0].Err != died {
					t.Errorf("outcomes %+v", got)
				}
			})
		})
	}
}

func TestAnotherProtocolIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		p := &peer{t: t, conn: theirs, link: NewLink(ours), ran: make(chan error, 1)}
		go func() { p.ran <- p.link.Run() }() // waited for below
		p.send(kindHello, 0, hello{protocol: Protocol + 1}.append(nil))
		if err := <-p.ran; !errors.Is(err, ErrProtocol) {
			t.Errorf("Run = %v", err)
		}
		if err := p.link.Ready(t.Context()); err == nil {
			t.Error("it is ready")
		}
		if err := p.link.Load(t.Context(), Source{}); err == nil {
			t.Error("it loads")
		}
	})
}

func TestOpsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		var r recorder
		p.link.Invoke(within(time.Minute), &r)
		id := p.next().id
		for _, test := range []struct {
			op   op
			want string
		}{
			{op{kind: opGet, key: "k"}, `"k"`},
			{op{kind: opPeek, key: "k"}, "function.error: no state today"},
			{op{kind: opPublish, publish: devices.Publication{Topic: "a"}}, "permission: not permitted"},
		} {
			p.send(kindOp, id, test.op.append(nil))
			f := p.next()
			var a answer
			if err := a.decode(body{b: f.body}); err != nil || f.kind != kindAnswer || f.id != id {
				t.Fatalf("answered with %+v, %v", f, err)
			}
			got := string(a.value)
			if a.failure != nil {
				got = string(a.failure.Code) + ": " + a.failure.Message
			}
			if got != test.want {
				t.Errorf("op %d: got %s, want %s", test.op.kind, got, test.want)
			}
		}
		p.end(died)
	})
}

func TestAnOverdueRunEndsTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		var quick, late, innocent recorder
		began := time.Now()
		p.link.Invoke(within(time.Second), &quick)
		p.link.Invoke(within(3*time.Second), &late)
		p.link.Invoke(within(time.Hour), &innocent)
		p.done(p.next().id, "1")
		p.next()
		p.next()
		if err := <-p.ran; err != ErrOverdue {
			t.Errorf("Run = %v", err)
		}
		if took := time.Since(began); took != 3*time.Second+Grace {
			t.Errorf("it took %v", took)
		}
		p.link.End(died)
		if got := quick.outcomes(); len(got) != 1 || got[0].Err != nil {
			t.Errorf("the quick one: %+v", got)
		}
		if got := late.outcomes(); len(got) != 1 || got[0].Err.Code != functions.CodeTimeout {
			t.Errorf("the late one: %+v", got)
		}
		if got := innocent.outcomes(); len(got) != 1 || got[0].Err != died {
			t.Errorf("the innocent one: %+v", got)
		}
	})
}

func TestARunnerThatDoesNotReadBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		inv := within(time.Hour)
		inv.Event.Payload = make([]byte, 1<<20)
		runs := make([]recorder, 32)
		for i := range runs {
			p.link.Invoke(inv, &runs[i]) // would block the bubble for ever if it waited
		}
		synctest.Wait()
		refused := 0
		for i := range runs {
			if got := runs[i].outcomes(); len(got) == 1 && got[0].Err.Code == functions.CodeStart {
				refused++
			}
		}
		if waiting := len(runs) - refused; waiting < 2 || waiting > maxWaiting>>20+3 {
			t.Errorf("%d events wait for the runner", waiting)
		}
		p.end(died)
		for i := range runs {
			if got := runs[i].outcomes(); len(got) != 1 {
				t.Errorf("run %d has %d outcomes", i, len(got))
			}
		}
	})
}

func TestAFloodOfLinesIsThinnedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		var r recorder
		p.link.Invoke(within(time.Hour), &r)
		id := p.next().id
		const flood = 50_000
		for i := range flood {
			p.send(kindLog, id, line{level: functions.LevelWarn, text: fmt.Sprint("line ", i)}.append(nil))
		}
		time.Sleep(time.Second)
		p.send(kindLog, id, line{level: functions.LevelInfo, text: "\xff last"}.append(nil))
		synctest.Wait()
		if n := len(r.logs); n < linesAtOnce || n > linesAtOnce+2*linesPerSecond {
			t.Errorf("%d of %d lines came", n, flood)
		}
		if last := r.logs[len(r.logs)-1]; last != "info \uFFFD last" {
			t.Errorf("the last line is %q", last)
		}
		p.end(died)
	})
}

func TestLoadTellsWhatIsWrongWithTheCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		got := make(chan error, 1)
		go func() { got <- p.link.Load(t.Context(), Source{Name: "f", Code: "oops"}) }()
		var s Source
		if f := p.next(); f.kind != kindLoad || s.decode(body{b: f.body}) != nil || s.Code != "oops" {
			t.Fatalf("got %+v", f)
		}
		p.send(kindLoaded, 0, appendFailure(nil, &functions.Failure{Code: functions.CodeLoad, Message: "line 1", Stack: "at f"}))
		err := <-got
		f, ok := errors.AsType[*functions.Failure](err)
		if !errors.Is(err, functions.ErrUnfit) || !ok || f.Stack != "at f" || err.Error() != "line 1" {
			t.Errorf("Load = %v", err)
		}
		if err := p.link.Load(t.Context(), Source{Code: string(make([]byte, MaxFrame))}); !errors.Is(err, functions.ErrUnfit) {
			t.Errorf("Load of too much = %v", err)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		go newFrameReader(p.conn).next() // reads the load, and never answers; the bubble waits for it
		if err := p.link.Load(ctx, Source{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Load without an answer = %v", err)
		}
		p.end(died)
	})
}
