package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// A bus is a broker in memory. It confirms what is published, unless told to lose it.
type bus struct {
	mu       sync.Mutex
	hear     func(devices.Message)
	heard    chan struct{} // closed once hear is set; or nil
	filters  []string
	sent     []string // topic=payload, in order, all attempts
	lose     int      // so many publishes to come are lost
	silent   []func(error)
	isSilent bool // publishes are taken and not confirmed
	isAway   bool // there is no connection: publishes are not taken
	paused   bool
	packetID uint16
}

func (b *bus) Run(ctx context.Context, hear func(devices.Message)) error {
	b.mu.Lock()
	b.hear = hear
	b.mu.Unlock()
	if b.heard != nil {
		close(b.heard)
	}
	<-ctx.Done()
	return nil
}

func (b *bus) Subscribe(filters []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.filters = filters
}

func (b *bus) Line() any { return nil }

func (b *bus) PublishOn(_ any, p devices.Publication, done func(error)) {
	b.mu.Lock()
	if b.isAway {
		b.mu.Unlock()
		done(errors.New("no connection"))
		return
	}
	b.sent = append(b.sent, p.Topic+"="+string(p.Payload))
	switch {
	case b.lose > 0:
		b.lose--
		b.mu.Unlock()
		done(devices.ErrLost)
	case b.isSilent:
		b.silent = append(b.silent, done)
		b.mu.Unlock()
	default:
		b.mu.Unlock()
		done(nil)
	}
}

func (b *bus) setAway(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.isAway = away
}

func (b *bus) setSilent(silent bool) {
	b.mu.Lock()
	b.isSilent = silent
	waiting := b.silent
	b.silent = nil
	b.mu.Unlock()
	for _, done := range waiting {
		done(nil)
	}
}

func (b *bus) Pause()  { b.mu.Lock(); b.paused = true; b.mu.Unlock() }
func (b *bus) Resume() { b.mu.Lock(); b.paused = false; b.mu.Unlock() }

func (b *bus) isPaused() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.paused
}

func (b *bus) published() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.sent)
}

// spoken is a message that counts how often it was acknowledged.
type spoken struct {
	devices.Message
	acks atomic.Int32
}

func (p *spoken) Ack()        { p.acks.Add(1) }
func (p *spoken) acked() bool { return p.acks.Load() > 0 }

// say lets the bus hear a message at QoS 1.
func (b *bus) say(topic, payload string) *spoken {
	p := b.saying(topic, payload)
	b.hear(p.Message)
	return p
}

// saying returns such a message, not heard yet.
func (b *bus) saying(topic, payload string) *spoken {
	b.packetID++
	p := &spoken{Message: devices.Message{
		Topic: topic, Payload: []byte(payload), QoS: 1, PacketID: b.packetID, Session: "s", Time: time.Now(),
	}}
	p.Message.Ack = p
	return p
}

// repeat lets the bus hear a message again, as after a lost connection.
func (b *bus) repeat(p *spoken) *spoken {
	q := &spoken{Message: p.Message}
	q.Dup = true
	q.Message.Ack = q
	b.hear(q.Message)
	return q
}

// A handler is a function in Go.
type handler func(inv functions.Invocation, r functions.Run) functions.Outcome

// A sandbox runs handlers in this process.
type sandbox struct {
	mu       sync.Mutex
	handlers map[string]handler
	starts   int
	fail     error            // what Start returns, or nil
	unfit    map[string]error // the same, of single functions and revisions
	makers   map[string]func(functions.Function) handler
	live     []*instance
}

func (s *sandbox) set(name string, h handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[name] = h
}

// setMaker has a function run by what make returns for its revision.
func (s *sandbox) setMaker(name string, make func(functions.Function) handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.makers == nil {
		s.makers = map[string]func(functions.Function) handler{}
	}
	s.makers[name] = make
}

// refuse makes every start fail with err.
func (s *sandbox) refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// refuseOne makes every start of that function or revision fail with err.
func (s *sandbox) refuseOne(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unfit == nil {
		s.unfit = map[string]error{}
	}
	s.unfit[name] = err
}

// living returns the runners that have not ended.
func (s *sandbox) living() (list []*instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.live {
		select {
		case <-i.ended:
		default:
			list = append(list, i)
		}
	}
	return list
}

func (s *sandbox) Start(_ context.Context, f functions.Function) (functions.Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := cmp.Or(s.fail, s.unfit[f.Name()], s.unfit[string(f.Revision)]); err != nil {
		return nil, err
	}
	s.starts++
	handle := s.handlers[f.Name()]
	if make := s.makers[f.Name()]; make != nil {
		handle = make(f)
	}
	i := &instance{handle: handle, ended: make(chan struct{})}
	s.live = append(s.live, i)
	return i, nil
}

// die ends the runners, as if each had been killed.
func (s *sandbox) die(code functions.Code) {
	s.mu.Lock()
	live := s.live
	s.live = nil
	s.mu.Unlock()
	for _, i := range live {
		i.end(code)
	}
}

type instance struct {
	handle handler
	mu     sync.Mutex
	runs   map[functions.Run]bool
	ended  chan struct{}
	over   bool
}

func (i *instance) Invoke(inv functions.Invocation, r functions.Run) {
	i.mu.Lock()
	if i.over {
		i.mu.Unlock()
		go r.Done(functions.Outcome{Err: &functions.Failure{Code: functions.CodeDied, Message: "runner is gone"}})
		return
	}
	if i.runs == nil {
		i.runs = map[functions.Run]bool{}
	}
	i.runs[r] = true
	i.mu.Unlock()
	go func() {
		o := i.handle(inv, r)
		i.mu.Lock()
		mine := i.runs[r]
		delete(i.runs, r)
		i.mu.Unlock()
		if mine {
			r.Done(o)
		}
	}()
}

func (i *instance) end(code functions.Code) {
	i.mu.Lock()
	if i.over {
		i.mu.Unlock()
		return
	}
	i.over = true
	runs := i.runs
	i.runs = nil
	i.mu.Unlock()
	for r := range runs {
		r.Done(functions.Outcome{Err: &functions.Failure{Code: code, Message: string(code)}})
	}
	close(i.ended)
}

func (i *instance) Ended() <-chan struct{}          { return i.ended }
func (i *instance) Close() error                    { i.end(functions.CodeClosed); return nil }
func (i *instance) Describe() functions.Description { return functions.Description{Sandbox: "test"} }
