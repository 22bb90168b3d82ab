package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/agent/store"
	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// open opens a store in dir, runs it, and closes it when the test ends or
// close is called.
func open(t testing.TB, dir string) (s *store.Store, close func()) {
	t.Helper()
	s, err := store.Open(dir, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }() // waited for by close
	closed := false
	close = func() {
		if closed {
			return
		}
		closed = true
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil once the context is done", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	t.Cleanup(close)
	return s, close
}

// commit commits c and waits for it.
func commit(s *store.Store, c store.Change) error {
	done := make(chan error, 1)
	s.Commit(&c, func(err error) { done <- err })
	return <-done
}

func mustCommit(t testing.TB, s *store.Store, c store.Change) {
	t.Helper()
	if err := commit(s, c); err != nil {
		t.Fatal(err)
	}
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.Local)

func anEvent(n int) devices.Event {
	return devices.Event{
		ID: fmt.Sprintf("e%d", n), Source: devices.MQTT, Topic: "zigbee2mqtt/hall", Payload: []byte{'{', 0, '}', 0xff},
		Time: noon.UTC(), Captures: []devices.Capture{{Name: "device", Value: "hall"}}, QoS: 1, Hops: 2,
	}
}

func TestWhatWasCommittedIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s, closeStore := open(t, dir)
	id := store.Identity{Session: "s1", PacketID: 65535, Digest: 1<<64 - 1}
	first := store.Delivery{Seq: 7, Function: "f", Lane: "hall", Attempt: 2, Due: noon, Reason: "threw", Identity: id,
		Key: "k", Event: anEvent(1), Size: 20}
	second := store.Delivery{Seq: 8, Function: "f", Lane: "hall"}
	out := store.Outgoing{Seq: 3, Function: "f", Lane: "hall", Hops: 1,
		Publication: devices.Publication{Topic: "a/set", Payload: []byte("on"), QoS: 1, Retain: true}}
	timer := store.Timer{TimerKey: store.TimerKey{Function: "f", Kind: store.TimerAfter, Key: "off"}, Lane: "hall",
		Due: noon, Boot: "b", BootDue: time.Hour, Left: time.Minute, Event: anEvent(2)}
	dead := store.DeadLetter{Function: "f", Revision: "r", Lane: "hall", Seq: 11, Attempts: 5, Time: noon,
		Failure: functions.Failure{Code: functions.CodeThrown, Message: "no"}, Event: anEvent(3)}
	until := time.Now().Add(time.Hour)
	mustCommit(t, s, store.Change{
		Store:  []store.Delivery{first, second, {Seq: 9}},
		Drop:   []int64{9},
		Dead:   []store.DeadLetter{dead},
		Done:   []store.Done{{Function: "f", Identity: id, Key: "dk", Until: until}},
		Timers: []store.Timer{timer, {TimerKey: store.TimerKey{Function: "f", Kind: store.TimerHold, Key: "off"}}},
		Cancel: []store.TimerEnd{{TimerKey: store.TimerKey{Function: "f", Kind: store.TimerHold, Key: "off"}}},
		Outbox: []store.Outgoing{out, {Seq: 4}},
		Sent:   []int64{4},
	})
	closeStore()

	s, _ = open(t, dir)
	got, err := s.Recover()
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Done) == 1 && got.Done[0].Until.Sub(until).Abs() < 10*time.Second {
		got.Done[0].Until = until // the time between two processes is told by another clock
	}
	light := first
	light.Event = devices.Event{}
	want := store.Recovered{
		Inbox: []store.Delivery{light, second}, Outbox: []store.Outgoing{out}, Timers: []store.Timer{timer},
		Done: []store.Done{{Function: "f", Key: "dk", Until: until}}, NextSeq: 12, NextSent: 4,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Recover = %+v\nwant %+v", got, want)
	}
	if got, err := s.Event(7); err != nil || !reflect.DeepEqual(got, first.Event) {
		t.Errorf("Event(7) = %+v, %v, want %+v", got, err, first.Event)
	}
	if got, err := s.WasDone("f", id); err != nil || !got {
		t.Errorf("WasDone = %v, %v, want true", got, err)
	}
	letters, err := s.DeadLetters("f", 0, 10)
	dead.ID = 1
	if err != nil || !reflect.DeepEqual(letters, []store.DeadLetter{dead}) {
		t.Errorf("DeadLetters = %+v, %v\nwant %+v", letters, err, dead)
	}
}
