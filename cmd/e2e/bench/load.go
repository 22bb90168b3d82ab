package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// A Load says how devices are to speak: Rate events a second, or, with Rate 0,
// as many as the answers to the Window last ones allow.
type Load struct {
	Broker  string        // host:port
	In, Out string        // prefixes of the topics spoken and listened to; the device follows
	Devices int           // they speak in turn
	QoS     byte          // in and out
	Rate    int           // events a second, or 0
	Window  int           // events without an answer, at most
	Warm    time.Duration // before measuring
	For     time.Duration // measured
}

// A Result is what a load saw. Times are from before the event is published
// until its answer is in the load's hands.
type Result struct {
	Sent     int           `json:"sent"` // while measuring
	Answered int           `json:"answered"`
	Lost     int           `json:"lost"` // without an answer a while after the end
	Rate     float64       `json:"rate"` // answers a second
	P50      time.Duration `json:"p50"`
	P99      time.Duration `json:"p99"`
	Max      time.Duration `json:"max"`
}

// patience is how long an answer may take before it counts as lost.
const patience = 5 * time.Second

// speaker is a load under way.
type speaker struct {
	load  Load
	out   mqtt.Client
	begin time.Time     // what times in payloads count from
	room  chan struct{} // holds a token for each event in flight

	measuring atomic.Bool
	heard     atomic.Int64 // answers, also to the warm-up
	mu        sync.Mutex
	took      []time.Duration // of the events sent while measuring; guarded by mu
	first     time.Duration   // when measuring began, since begin; guarded by mu
}

// runLoad is "bench load": a Load as JSON comes in, a Result goes out.
func runLoad(ctx context.Context, in io.Reader, out io.Writer) error {
	var load Load
	if err := json.NewDecoder(in).Decode(&load); err != nil {
		return fmt.Errorf("read load: %w", err)
	}
	s := &speaker{load: load, begin: time.Now(), room: make(chan struct{}, load.Window)}
	listener, err := connect(load.Broker, "bench-listener", func(c mqtt.Client) error {
		return wait(c.Subscribe(load.Out+"/+", load.QoS, func(_ mqtt.Client, m mqtt.Message) { s.hear(m.Payload()) }))
	})
	if err != nil {
		return err
	}
	defer listener.Disconnect(100)
	if s.out, err = connect(load.Broker, "bench-speaker", nil); err != nil {
		return err
	}
	defer s.out.Disconnect(100)
	result, err := s.run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

func (s *speaker) run(ctx context.Context) (Result, error) {
	sent, err := s.speak(ctx, s.load.Warm)
	if err != nil {
		return Result{}, err
	}
	if s.load.Rate > 0 { // what came of warming up is not to be measured
		s.settle(ctx, sent)
	}
	s.mu.Lock()
	s.first = time.Since(s.begin)
	s.mu.Unlock()
	s.measuring.Store(true)
	before := s.heard.Load()
	measured, err := s.speak(ctx, s.load.For)
	if err != nil {
		return Result{}, err
	}
	answered, span := s.heard.Load()-before, time.Since(s.begin)-s.first
	s.settle(ctx, sent+measured)

	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.took) == 0 {
		return Result{}, errors.New("no event was answered")
	}
	slices.Sort(s.took)
	return Result{
		Sent:     measured,
		Answered: len(s.took),
		Lost:     measured - len(s.took),
		Rate:     float64(answered) / span.Seconds(),
		P50:      quantile(s.took, 0.50),
		P99:      quantile(s.took, 0.99),
		Max:      s.took[len(s.took)-1],
	}, nil
}

// speak publishes for d and returns how many events it was.
func (s *speaker) speak(ctx context.Context, d time.Duration) (sent int, err error) {
	begin := time.Now()
	for ; time.Since(begin) < d && ctx.Err() == nil; sent++ {
		if s.load.Rate > 0 {
			due := begin.Add(time.Duration(sent) * time.Second / time.Duration(s.load.Rate))
			time.Sleep(time.Until(due))
		}
		if !s.enter(ctx) {
			return sent, ctx.Err()
		}
		topic := s.load.In + "/d" + strconv.Itoa(sent%s.load.Devices)
		t := s.out.Publish(topic, s.load.QoS, false, s.payload())
		if t.Error() != nil {
			return sent, fmt.Errorf("publish: %w", t.Error())
		}
	}
	return sent, ctx.Err()
}

// enter waits for room for one more event in flight.
func (s *speaker) enter(ctx context.Context) bool {
	select {
	case s.room <- struct{}{}:
		return true
	default:
	}
	select {
	case s.room <- struct{}{}:
		return true
	case <-time.After(patience): // answers were lost: forget them
		s.forget()
		s.room <- struct{}{}
		return true
	case <-ctx.Done():
		return false
	}
}

// payload is a motion sensor's, with the time in it.
func (s *speaker) payload() []byte {
	b := make([]byte, 0, 128)
	b = append(b, `{"t":`...)
	b = strconv.AppendInt(b, time.Since(s.begin).Nanoseconds(), 10)
	return append(b, `,"occupancy":true,"illuminance":4,"battery":97,"linkquality":120,"voltage":2995}`...)
}

// hear takes an answer, which holds the time of its event.
func (s *speaker) hear(answer []byte) {
	now := time.Since(s.begin)
	select {
	case <-s.room:
	default: // was forgotten
	}
	s.heard.Add(1)
	if !s.measuring.Load() {
		return
	}
	_, rest, _ := bytes.Cut(answer, []byte(`"t":`))
	end := bytes.IndexAny(rest, ",}")
	ns, err := strconv.ParseInt(string(rest[:max(end, 0)]), 10, 64)
	if err != nil {
		return // no answer of ours
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := time.Duration(ns); at >= s.first {
		s.took = append(s.took, now-at)
	}
}

// forget makes room as if all events in flight had been answered.
func (s *speaker) forget() {
	for {
		select {
		case <-s.room:
		default:
			return
		}
	}
}

// settle waits until so many answers have come, or none has for a while.
func (s *speaker) settle(ctx context.Context, sent int) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	last, since := s.heard.Load(), time.Now()
	for s.heard.Load() < int64(sent) && time.Since(since) < patience/2 {
		if now := s.heard.Load(); now != last {
			last, since = now, time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// quantile returns the q-th quantile of sorted values.
func quantile[T any](sorted []T, q float64) T {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// connect dials the broker and lets ready use the connection before it returns.
func connect(broker, id string, ready func(mqtt.Client) error) (mqtt.Client, error) {
	c := mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker("tcp://" + broker).
		SetClientID(id).
		SetAutoReconnect(false).
		SetConnectTimeout(5 * time.Second))
	if err := wait(c.Connect()); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", broker, err)
	}
	if ready == nil {
		return c, nil
	}
	if err := ready(c); err != nil {
		c.Disconnect(0)
		return nil, fmt.Errorf("subscribe at %s: %w", broker, err)
	}
	return c, nil
}

func wait(t mqtt.Token) error {
	if !t.WaitTimeout(patience) {
		return errors.New("the broker did not answer")
	}
	return t.Error()
}
