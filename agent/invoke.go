package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge"
)

// admit lines up an event whose sender waits for the answer: a request's, an
// operator's. answered is called with how it ended. Such a delivery is tried
// once and never stored.
func (f *function) admit(ev devices.Event, answered func(answer)) *delivery {
	d := &delivery{
		seq: f.a.seq.Add(1), event: ev, size: len(ev.Topic) + len(ev.Payload), heard: time.Now(), answer: answered,
	}
	f.mu.Lock()
	if f.standbyLocked() != "" { // since it was asked whether it is ready
		f.mu.Unlock()
		answered(answer{failure: errHandedOver})
		return d
	}
	f.counts.Taken++
	f.admitLocked(d, laneID{f.loner(), f.plan.home == shared}, d.heard)
	f.mu.Unlock()
	f.pump()
	return d
}

// ask runs the function on ev and waits for the answer, or until ctx is done.
func (f *function) ask(ctx context.Context, ev devices.Event) (answer, error) {
	answered := make(chan answer, 1)
	d := f.admit(ev, func(a answer) {
		select {
		case answered <- a:
		default: // it was left to another node, and has ended all the same
		}
	})
	select {
	case a := <-answered:
		return a, nil
	case <-ctx.Done():
	}
	f.withdraw(d, "nobody waited for the answer any more")
	return answer{}, ctx.Err()
}

// unready returns why the function cannot run now, or nil.
func (f *function) unready() *edge.Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := &edge.Error{Code: edge.Unavailable}
	phase, why := f.phaseLocked()
	switch {
	case f.closing:
		e.Message = errClosing.Message
	case f.memory > maxMemory:
		e.Message, e.Hint = "too much waits for "+f.name, "try again later"
	case phase == edge.Disabled:
		e.Message, e.Hint = f.name+" is disabled", "enable it: sedge enable "+f.name
	case phase == edge.Paused:
		e.Message, e.Hint = f.name+" is paused: "+why, "when the cause is mended: sedge enable "+f.name
	case phase == edge.Standby:
		e.Message, e.Hint = f.name+" does not run on this node: "+why, "ask the node that runs it"
	case f.lacking != "":
		e.Message, e.Hint = f.name+" waits to be started: "+f.lacking, "it starts by itself then"
	case phase == edge.Failing && time.Now().Before(f.startAt): // afterwards it is tried again
		e.Message, e.Hint = f.name+" cannot be started: "+why, "mend it and deploy it again"
	default:
		return nil
	}
	return e
}

// Invoke runs a function once, by hand, and carries out its effects. A failure
// of the function is in the answer; the error, an *edge.Error, says that it
// could not be asked.
func (a *Agent) Invoke(ctx context.Context, name string, in edge.Invoke) (edge.Invoked, error) {
	f := a.function(name)
	if f == nil {
		return edge.Invoked{}, notFound(name)
	}
	if e := f.unready(); e != nil {
		return edge.Invoked{}, e
	}
	ev := devices.Event{ID: a.newID(), Source: devices.Invoke, Topic: in.Topic, Payload: in.Payload, Time: time.Now()}
	ev.Captures = f.captures(in.Topic)
	ans, err := f.ask(ctx, ev)
	if err != nil {
		return edge.Invoked{}, &edge.Error{
			Code: edge.Timeout, Message: fmt.Sprintf("%s did not answer: %v", name, err), Hint: "see what it does: sedge logs " + name,
		}
	}
	return edge.Invoked{
		Invocation: ans.invocation, Returned: string(ans.returned), Published: ans.published,
		Error: ans.failure, Took: ans.took.Seconds(),
	}, nil
}

// captures returns what the function's first trigger that matches topic catches.
func (f *function) captures(topic string) []devices.Capture {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.plan.triggers {
		if t.spec.MQTT == nil {
			continue
		}
		if captures, ok := t.filter.Match(topic); ok {
			return captures
		}
	}
	return nil
}
