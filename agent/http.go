package agent

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
	"github.com/sedge-iot/sedge/functions"
)

// maxBody is the largest request that a function gets, bytes.
const maxBody = 1 << 20

// Trigger serves the functions' HTTP triggers. A request is answered with 200
// and what the handler returned, 204 if that was nothing, or the failure as a
// 5xx, without a retry. With "Prefer: respond-async" it is answered 202 as soon
// as it is stored, and then retried like any delivery; a function of which nothing
// may be stored on this node does not heed that.
func (a *Agent) Trigger() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.serve(w, r); err != nil {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(err.Code.Status())
			json.NewEncoder(w).Encode(map[string]any{"error": err})
		}
	})
}

func (a *Agent) serve(w http.ResponseWriter, r *http.Request) *edge.Error {
	f, methods := a.served(r.URL.Path, r.Method)
	switch {
	case len(methods) == 0:
		return &edge.Error{Code: edge.NotFound, Message: "no function has an http trigger with the path " + r.URL.Path}
	case f == nil:
		w.Header().Set("Allow", strings.Join(methods, ", "))
		return &edge.Error{Code: edge.Method, Message: r.URL.Path + " does not take " + r.Method}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return &edge.Error{Code: edge.TooLarge, Message: "the request is larger than " + functions.Bytes(tooLarge.Limit).String()}
		}
		return &edge.Error{Code: edge.Timeout, Message: "the request did not arrive: " + err.Error()}
	}
	if e := f.unready(); e != nil {
		return e
	}
	ev := devices.Event{ID: a.newID(), Source: devices.HTTP, Topic: r.URL.Path, Payload: body, Time: time.Now()}
	if wantsLater(r.Header) && f.stores() {
		return f.later(w, r, ev)
	}
	ans, err := f.ask(r.Context(), ev)
	if err != nil {
		return &edge.Error{Code: edge.Timeout, Message: "the request was given up: " + err.Error()}
	}
	return respond(w, ans)
}

// served returns the function that takes that method on that path, the first by
// name, or nil; and all methods that are taken there.
func (a *Agent) served(path, method string) (f *function, methods []string) {
	for _, g := range a.all() {
		takes := g.takes(path)
		methods = append(methods, takes...)
		if slices.Contains(takes, method) && (f == nil || g.name < f.name) {
			f = g
		}
	}
	slices.Sort(methods)
	return f, slices.Compact(methods)
}

// takes returns the methods of the function's HTTP trigger on path.
func (f *function) takes(path string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.plan.triggers {
		if t.spec.HTTP != nil && t.spec.HTTP.Path == path && !f.removed.Load() {
			return t.spec.HTTP.Methods
		}
	}
	return nil
}

// stores reports whether events of the function may wait on this node's disk.
func (f *function) stores() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.plan.home != shared
}

// wantsLater reports whether the request prefers to be answered once it is stored.
func wantsLater(h http.Header) bool {
	for _, line := range h.Values("Prefer") {
		for word := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(word), "respond-async") {
				return true
			}
		}
	}
	return false
}

// later stores ev and answers once it is safe.
func (f *function) later(w http.ResponseWriter, r *http.Request, ev devices.Event) *edge.Error {
	stored := make(chan struct{})
	d := &delivery{
		seq: f.a.seq.Add(1), event: ev, size: len(ev.Topic) + len(ev.Payload), heard: time.Now(),
		receipt: newReceipt(&f.a.own.load, 1, acknowledge(func() { close(stored) }), len(ev.Payload)),
	}
	f.mu.Lock()
	f.counts.Taken++
	l := f.laneLocked(laneID{key: f.loner()})
	f.appendLocked(l, d)
	f.storeLocked(l, d, "a request that is answered once it is stored")
	f.readyLocked(l, d.heard)
	f.mu.Unlock()
	f.pump()
	select {
	case <-stored:
		w.WriteHeader(http.StatusAccepted)
		return nil
	case <-r.Context().Done():
		return &edge.Error{Code: edge.Unavailable, Message: "the request could not be stored yet", Hint: "it may still run"}
	}
}

// respond writes an answer.
func respond(w http.ResponseWriter, ans answer) *edge.Error {
	if fail := ans.failure; fail != nil {
		e := &edge.Error{Code: edge.Internal, Message: string(fail.Code) + ": " + fail.Message}
		if fail.Code == functions.CodeTimeout || fail.Code == functions.CodeClosed {
			e.Code = edge.Unavailable
		}
		return e
	}
	if ans.returned == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(ans.returned)
	return nil
}
