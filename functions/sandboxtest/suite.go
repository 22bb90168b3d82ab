package sandboxtest

import (
	"testing"

	"github.com/sedge-iot/sedge/functions"
)

// Run runs the suite. Each test starts its functions in a sandbox that open
// returns; open ends it when its test ends.
func Run(t *testing.T, open func(t *testing.T) functions.Sandbox) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, functions.Sandbox)
	}{
		{"The handler is given the event and returns a value", testEcho},
		{"Effects are collected in order", testEffects},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func testEcho(t *testing.T, s functions.Sandbox) {
	o, _ := succeed(t, s, handler(`return event`), `{"on":true,"grüße":"世界 😀"}`)
	want := `{"id":"ev-1","source":"mqtt","topic":"test/lamp","device":"lamp","payload":{"on":true,"grüße":"世界 😀"},` +
		`"time":"2026-11-23T07:00:00.005Z","captures":{"device":"lamp"},"qos":1,"retained":false,"queued":false,"redriven":false,"hops":0,"attempt":1}`
	if got := string(o.Returned); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if o.Took <= 0 {
		t.Errorf("took %v", o.Took)
	}
}

func testEffects(t *testing.T, s functions.Sandbox) {
	o, _ := succeed(t, s, handler(`
		sedge.publish("a/set", {on: true});
		sedge.publish("b", "text", {qos: 0, retain: true});
		sedge.publish("c", new Uint8Array([0, 255]));
	`), `{}`)
	if got, want := describe(o), ""; got != want {
		t.Errorf("returned %q, want %q", got, want)
	}
	if got := len(o.Effects.Publish); got != 3 {
		t.Fatalf("%d publishes, want 3", got)
	}
	if p := o.Effects.Publish[0]; p.Topic != "a/set" || string(p.Payload) != `{"on":true}` || p.QoS != 1 || p.Retain {
		t.Errorf("first is %+v", p)
	}
	if p := o.Effects.Publish[1]; p.Topic != "b" || string(p.Payload) != `text` || p.QoS != 0 || !p.Retain {
		t.Errorf("second is %+v", p)
	}
	if p := o.Effects.Publish[2]; string(p.Payload) != "\x00\xff" {
		t.Errorf("third is %+v", p)
	}
}
