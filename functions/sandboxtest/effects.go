package sandboxtest

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

func testEffects(t *testing.T, s functions.Sandbox) {
	o, _ := succeed(t, s, handler(`
		sedge.publish("a/set", {on: true});
		sedge.publish("b", "text", {qos: 0, retain: true});
		sedge.publish("c", new Uint8Array([1, 0, 255]).subarray(1));
		sedge.publish("d", new Uint8Array([7]).buffer);
		sedge.publish("e", "");
		sedge.publish("f", null);
		sedge.publish("g", 1.5);
	`), `{}`)
	want := []devices.Publication{
		{Topic: "a/set", Payload: []byte(`{"on":true}`), QoS: 1},
		{Topic: "b", Payload: []byte("text"), Retain: true},
		{Topic: "c", Payload: []byte{0, 255}, QoS: 1},
		{Topic: "d", Payload: []byte{7}, QoS: 1},
		{Topic: "e", Payload: []byte{}, QoS: 1},
		{Topic: "f", Payload: []byte("null"), QoS: 1},
		{Topic: "g", Payload: []byte("1.5"), QoS: 1},
	}
	if got := o.Effects.Publish; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func testThrow(t *testing.T, s functions.Sandbox) {
	o, h := run(t, s, handler("sedge.publish('a', 'b'); sedge.state.set('k', 1); sedge.after('1m', {});\nfunction inner() {\n  throw new TypeError('no lamp') }\n inner()"), `{}`)
	if o.Err == nil || o.Err.Code != functions.CodeThrown || o.Err.Message != "TypeError: no lamp" || o.Err.Permanent() {
		t.Fatalf("failed with %+v", o.Err)
	}
	if want := "tested.js:4:"; !strings.Contains(strings.SplitN(o.Err.Stack, "\n", 2)[0], want) {
		t.Errorf("the stack does not begin at %s: %q", want, o.Err.Stack)
	}
	if e := o.Effects; len(e.Publish)+len(e.State)+len(e.Timers) > 0 || o.Returned != nil || len(h.published) > 0 {
		t.Errorf("it has effects: %+v", o)
	}
}

func testPublishNow(t *testing.T, s functions.Sandbox) {
	o, h := run(t, s, handler(`sedge.publish("a", {x: 1}, {now: true, qos: 0}); throw new Error("later")`), `{}`)
	if o.Err == nil {
		t.Fatal("did not fail")
	}
	want := []devices.Publication{{Topic: "a", Payload: []byte(`{"x":1}`)}}
	if !reflect.DeepEqual(h.published, want) {
		t.Errorf("published %v, want %v", h.published, want)
	}
}

func testRefusal(t *testing.T, s functions.Sandbox) {
	for _, test := range []struct {
		code   string
		refuse error
		want   string
	}{
		{`sedge.publish("a", "", {now: true})`, &functions.Failure{Code: functions.CodeRefused, Message: "a is not permitted"}, "permission: a is not permitted"},
		{`sedge.publish("a", "", {now: true})`, errors.New("broker is away"), "function.error: broker is away"},
		{`try { sedge.publish("a", "", {now: true}) } catch (e) { return "caught " + e.message }`, errors.New("broker is away"), `"caught broker is away"`},
	} {
		f := function(t, handler(test.code))
		h := newHost()
		h.refuseWith(test.refuse)
		start(t, s, f).Invoke(invocation(f, `{}`), h)
		if got := describe(h.outcome(t)); got != test.want {
			t.Errorf("%s: got %q, want %q", test.code, got, test.want)
		}
	}
}

func testState(t *testing.T, s functions.Sandbox) {
	f := function(t, handler(`
		const st = sedge.state, seen = [st.get("a"), st.get("none")];
		st.set("a", {n: 2}, {ttl: "1h"});
		seen.push(st.get("a"));
		seen.push(st.incr("count"), st.incr("count", 2.5), st.get("count"));
		st.incr("count", -1);
		seen.push(st.get("count"), st.incr("fresh"));
		st.delete("a");
		seen.push(st.get("a") === undefined, st.incr("a", 5));
		return seen;
	`))
	h := newHost()
	h.state = map[string]string{"a": `{"n":1}`, "count": `40`}
	start(t, s, f).Invoke(invocation(f, `{}`), h)
	o := h.outcome(t)
	if got, want := describe(o), `[{"n":1},null,{"n":2},41,43.5,43.5,42.5,1,true,5]`; got != want {
		t.Errorf("saw  %s\nwant %s", got, want)
	}
	want := []functions.StateWrite{
		{Op: functions.StateSet, Key: "a", Value: []byte(`{"n":2}`), TTL: time.Hour},
		{Op: functions.StateIncr, Key: "count", By: 1},
		{Op: functions.StateIncr, Key: "count", By: 2.5},
		{Op: functions.StateIncr, Key: "count", By: -1},
		{Op: functions.StateIncr, Key: "fresh", By: 1},
		{Op: functions.StateDelete, Key: "a"},
		{Op: functions.StateIncr, Key: "a", By: 5},
	}
	if !reflect.DeepEqual(o.Effects.State, want) {
		t.Errorf("writes %v\nwant   %v", o.Effects.State, want)
	}
	if want := []string{"count", "count", "fresh"}; !slices.Equal(h.peeked, want) {
		t.Errorf("peeked %v, want %v", h.peeked, want)
	}
}

func testStateLimits(t *testing.T, s functions.Sandbox) {
	for code, want := range map[string]string{
		`sedge.state.set("", 1)`:                              "function.error: TypeError: state: the key is empty",
		`sedge.state.get("k".repeat(513))`:                    "function.error: TypeError: state: the key is over 512 bytes",
		`sedge.state.set("k", "v".repeat(65536))`:             `function.error: TypeError: state "k": 65538 bytes of JSON are over 65536`,
		`sedge.state.set("k", undefined)`:                     `function.error: TypeError: state "k": undefined is no value; use delete`,
		`sedge.state.set("k", () => 1)`:                       `function.error: TypeError: state "k": undefined is no value; use delete`,
		`sedge.state.incr("k", Infinity)`:                     "function.error: TypeError: state: incr needs a finite number",
		`sedge.state.set("k", "word"); sedge.state.incr("k")`: `function.error: TypeError: state "k" is no number: "word"`,
	} {
		o, _ := run(t, s, handler(code), `{}`)
		if got := describe(o); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", code, got, want)
		}
	}
}

func testTimers(t *testing.T, s functions.Sandbox) {
	o, _ := succeed(t, s, handler(`
		const made = sedge.after("5m", {off: 1}, {key: "lamp"});
		sedge.after(1500);
		sedge.cancel("other");
		return made;
	`), `{}`)
	want := []functions.TimerWrite{
		{Key: "lamp", After: 5 * time.Minute, Payload: []byte(`{"off":1}`)},
		{Key: "ev-1#1", After: 1500 * time.Millisecond},
		{Key: "other", Cancel: true},
	}
	if !reflect.DeepEqual(o.Effects.Timers, want) {
		t.Errorf("got  %+v\nwant %+v", o.Effects.Timers, want)
	}
	if got := string(o.Returned); got != `"lamp"` {
		t.Errorf("after returned %s", got)
	}
	for _, bad := range []string{`"soon"`, `-1`, `undefined`, `"-5m"`, `Infinity`} {
		if o, _ := run(t, s, handler(`sedge.after(`+bad+`, {})`), `{}`); o.Err == nil {
			t.Errorf("after(%s) was taken", bad)
		}
	}
}

func testEnv(t *testing.T, s functions.Sandbox) {
	f := function(t, handler(`
		let frozen = false, missing = "";
		try { sedge.env.LEVEL = "1" } catch (e) { frozen = true }
		try { sedge.env.MORE = "1" } catch (e) { frozen = frozen && true }
		try { sedge.secret("nope") } catch (e) { missing = e.message }
		return [sedge.env, frozen, Object.isFrozen(sedge.env), missing];
	`), func(spec *functions.Spec) { spec.Env = map[string]string{"LEVEL": "80"} })
	again(t, start(t, s, f), f, `{}`, `[{"LEVEL":"80"},true,true,"secret \"nope\" is not among the secrets of the manifest, or has no value on this node"]`)
}

func testLogs(t *testing.T, s functions.Sandbox) {
	_, h := succeed(t, s, `console.log("loaded");
export default function (event, sedge) {
	console.debug("d", 1, true, null, undefined);
	console.log({a: [1, "x"]}, "text", [1]);
	console.warn("w\n2");
	sedge.log("plain");
	sedge.log.error("e");
	const cycle = {}; cycle.me = cycle;
	console.info(cycle, 10n, Symbol("s"), new Date(0), /x/g, function named() {});
	console.error(new Error("boom").message);
	console.log("x".repeat(10000));
}`, `{}`)
	got := h.lines()
	want := []string{
		"info loaded", "debug d 1 true null undefined", `info {"a":[1,"x"]} text [1]`, "warn w\n2", "info plain", "error e",
	}
	if len(got) != 9 || !slices.Equal(got[:6], want) {
		t.Fatalf("got %d lines: %.500q", len(got), got)
	}
	if !strings.HasPrefix(got[6], "info [object Object] 10 Symbol(s) ") {
		t.Errorf("odd values came as %q", got[6])
	}
	if got[7] != "error boom" || len(got[8]) != len("info ")+8<<10 {
		t.Errorf("got %q and a line of %d", got[7], len(got[8]))
	}
}

func testFlood(t *testing.T, s functions.Sandbox) {
	f := function(t, handler(`for (let i = 0; i < 100000; i++) console.log("line " + i); return "done"`))
	i := start(t, s, f)
	h := newHost()
	i.Invoke(invocation(f, `{}`), h)
	if got := describe(h.outcome(t)); got != `"done"` {
		t.Fatal(got)
	}
	if n := len(h.lines()); n < 100 || n > 10_000 {
		t.Errorf("%d lines of 100000 came", n)
	}
	// What was dropped is said with the next line that passes.
	deadline := time.Now().Add(patience)
	for told := false; !told; {
		if time.Now().After(deadline) {
			t.Fatal("nobody said that lines were dropped")
		}
		h := newHost()
		i.Invoke(invocation(function(t, handler(``)), `{}`), h)
		h.outcome(t)
		told = slices.ContainsFunc(h.lines(), func(l string) bool { return strings.Contains(l, "lines of log were dropped") })
	}
}

func testOpFlood(t *testing.T, s functions.Sandbox) {
	f := function(t, handler(`for (let i = 0;; i++) sedge.publish("a", "" + i, {now: true})`))
	h := newHost()
	i := start(t, s, f)
	i.Invoke(invocation(f, `{}`), h)
	o := h.outcome(t)
	if o.Err == nil || o.Err.Code != functions.CodeResult {
		t.Errorf("got %s", describe(o))
	}
	if n := len(h.published); n > 10_000 {
		t.Errorf("%d immediate publishes went out", n)
	}
}
