package hub_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/edge"
)

// waitFollowing waits until so many follow the logs of the node.
func (h *house) waitFollowing(t testing.TB, want int) {
	t.Helper()
	until(t, "followers come and go", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.follow == want
	})
}

func TestLogsGiveThePastAndThenWhatComes(t *testing.T) {
	h := serve(t)
	h.deploy(t, "f", "1")
	for _, text := range []string{"one", "two <&>", "three"} {
		h.say("f", text)
	}
	h.say("g", "other")
	var got []string
	for line, err := range h.client.Logs(t.Context(), edge.Query{Function: "f", Last: 3, Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, line.Text)
		if len(got) == 2 {
			h.say("f", "four\nlines")
		}
		if len(got) == 3 {
			break
		}
	}
	if want := "two <&>|three|four\nlines"; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	h.waitFollowing(t, 0)

	got = nil
	for step, err := range h.client.Events(t.Context(), edge.Query{Last: -1}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, step.Why)
	}
	if len(got) != 5 {
		t.Errorf("events without following: %q, want all five and an end", got)
	}
	for line, err := range h.client.Logs(t.Context(), edge.Query{}) {
		t.Errorf("logs of the last 0: %v, %v, want none", line, err)
	}
}

func TestAStreamEndsWhenTheClientGoesAway(t *testing.T) {
	h := serve(t)
	before := runtime.NumGoroutine()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan int)
	for range 10 {
		go func() {
			n := 0
			for range h.client.Logs(ctx, edge.Query{Follow: true}) {
				n++
			}
			done <- n
		}()
	}
	h.waitFollowing(t, 10)
	stop()
	for range 10 {
		if n := <-done; n != 0 {
			t.Errorf("a stream that its reader ended gave %d lines or errors, want none", n)
		}
	}
	h.waitFollowing(t, 0)
	h.client.Close()
	until(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}

func TestStreamsEndWithTheHubAndSaySo(t *testing.T) {
	h := serve(t)
	errs := make(chan error, 1)
	go func() {
		var last error
		for _, err := range h.client.Logs(t.Context(), edge.Query{Follow: true}) {
			last = err
		}
		errs <- last
	}()
	h.waitFollowing(t, 1)
	if err := h.end(); err != nil {
		t.Errorf("Serve = %v, want nil", err)
	}
	if e := wantCode(t, "the stream's end", <-errs, edge.Unavailable); !strings.HasSuffix(e.Message, "has ended") {
		t.Errorf("the stream broke off: %s", e.Message)
	}
}

func TestTooManyStreamsAreRefused(t *testing.T) {
	h := serve(t)
	for range 64 {
		h.raw(t, "GET /v1/logs?follow=true HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer "+token+"\r\n\r\n")
	}
	h.waitFollowing(t, 64)
	for _, err := range h.client.Logs(t.Context(), edge.Query{}) {
		wantCode(t, "the 65th", err, edge.Unavailable)
	}
}

func TestAStreamWhoseNodesGoAwayEndsWithTheReason(t *testing.T) {
	h, hall, yard := pair(t)
	one, all := h.follows(t, "hall"), h.follows(t, "")
	until(t, "all are followed", func() bool { return hall.followers() == 2 && yard.followers() == 1 })
	hall.leave(t, h)
	if got := <-one; !strings.Contains(got, "hall ended before it answered") {
		t.Errorf("the stream of the hall ends with %q", got)
	}
	yard.say("f", "still here")
	if got := <-all; got != "still here" {
		t.Errorf("of the yard %q came, want its line", got)
	}
	hall.connect(t, h) // links break, and it is followed again
	until(t, "the hall is followed again", func() bool { return hall.followers() == 1 })
	hall.say("f", "back again")
	if got := <-all; got != "back again" {
		t.Errorf("of the hall %q came, want what it wrote after it was back, and that alone", got)
	}
	for _, m := range []*machine{hall, yard} {
		if _, err := h.client.Revoke(t.Context(), m.name); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-all; !strings.HasPrefix(got, "2 nodes have not told all, the first: ") {
		t.Errorf("the stream of both ends with %q", got)
	}
}

// follows returns what comes of following a node, or all, and last how that ends.
func (h *house) follows(t *testing.T, node string) <-chan string {
	heard := make(chan string)
	go func() { // ends with the stream
		defer close(heard)
		for line, err := range h.client.On(node).Logs(t.Context(), edge.Query{Follow: true}) {
			if e, ok := errors.AsType[*edge.Error](err); ok {
				line.Text = e.Message
			}
			heard <- line.Text
		}
	}()
	return heard
}
