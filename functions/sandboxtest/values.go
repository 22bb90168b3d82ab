package sandboxtest

import (
	"strings"
	"testing"

	"github.com/sedge-iot/sedge/functions"
)

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
	if o, _ := succeed(t, s, handler(``), `1`); o.Returned != nil {
		t.Errorf("returned %q, want nothing", o.Returned)
	}
}

func testBinaryEvent(t *testing.T, s functions.Sandbox) {
	code := handler(`return [event.payload, event.bytes.length, event.bytes[0], event.bytes[1]]`)
	for payload, want := range map[string]string{
		"ON":                           `["ON",2,79,78]`,
		"\xff\x00":                     `["�\u0000",2,255,0]`,
		`{"a":`:                        `["{\"a\":",5,123,34]`,
		`[1, 2.50]`:                    `[[1,2.5],9,91,49]`,
		`{"b":1, "a":{"__proto__":2}}`: `[{"b":1,"a":{"__proto__":2}},28,123,34]`,
	} {
		o, _ := succeed(t, s, code, payload)
		if got := string(o.Returned); got != want {
			t.Errorf("%q came as %s, want %s", payload, got, want)
		}
	}
}

func testRefusedPayload(t *testing.T, s functions.Sandbox) {
	for _, payload := range []string{`{"a":1,"a":2}`, strings.Repeat("[", 1e6) + strings.Repeat("]", 1e6), `1e999`} {
		o, h := run(t, s, handler(`console.log("called")`), payload)
		if o.Err == nil || o.Err.Code != functions.CodePayload || !o.Err.Permanent() {
			t.Errorf("%.20s: %s", payload, describe(o))
		}
		if got := h.lines(); len(got) > 0 {
			t.Errorf("%.20s: the handler was called: %q", payload, got)
		}
	}
}

func testHostileValues(t *testing.T, s functions.Sandbox) {
	f := function(t, `export default function (event, sedge) { return (0, eval)("(" + event.payload + ")")(sedge) }`)
	i := start(t, s, f)
	for _, test := range []struct{ code, want string }{
		{`() => NaN`, `null`},
		{`() => -0`, `0`},
		{`() => undefined`, ``},
		{`() => null`, `null`},
		{`() => Symbol("x")`, ``},
		{`() => () => 1`, ``},
		{`() => ({a: undefined, b: () => 1, c: Symbol("x"), d: new Date(NaN)})`, `{"d":null}`},
		{`() => "\u2028\ud800 <b>"`, `"\u2028� <b>"`},
		{`() => new Proxy({a: 1}, {})`, `{"a":1}`},
		{`() => 10n`, `result.invalid: returned value has no JSON`},
		{`() => ({a: 10n})`, `result.invalid: returned value has no JSON`},
		{`() => { let a = {}; a.a = a; return a }`, `result.invalid: returned value has no JSON`},
		{`() => ({get a() { throw new Error("ha") }})`, `result.invalid: returned value has no JSON: Error: ha`},
		{`() => ({toJSON() { throw 7 }})`, `result.invalid: returned value has no JSON: thrown: 7`},
		{`() => new Proxy({}, {get() { throw null }, ownKeys() { throw null }})`, `result.invalid: returned value has no JSON`},
		{`() => ({toJSON() { for (;;); }})`, `function.timeout: handler did not end within`},
		{`() => ({then(resolve) { resolve(8) }})`, `{}`},
		{`() => "x".repeat(2 << 20)`, `result.invalid`},
		{`() => { throw {toString() { throw 1 }} }`, `function.error: `},
		{`() => { throw undefined }`, `function.error: thrown: undefined`},
		{`() => { throw new Proxy({}, {get() { for (;;); }}) }`, `function.timeout: `},
		{`() => Promise.reject(Object.create(null))`, `function.error: thrown: {}`},
		{`(sedge) => sedge.publish("a/+", "")`, `function.error: TypeError: publish: topic "a/+": holds a wildcard`},
		{`(sedge) => sedge.publish("a")`, `function.error: TypeError: publish to "a": there is no payload`},
		{`(sedge) => sedge.publish("a", "", {qos: 2})`, `function.error: TypeError: publish to "a": qos is 0 or 1`},
		{`(sedge) => sedge.publish({toString() { return "a" }}, "")`, `function.error: TypeError: publish: the topic is no string`},
		{`(sedge) => sedge.publish("a", {toJSON() { for (;;); }})`, `function.timeout`},
		{`(sedge) => { for (;;) sedge.publish("a", "b") }`, `function.error: TypeError: more than 10000 effects`},
		{`(sedge) => { for (;;) sedge.publish("a", "b".repeat(1000)) }`, `function.error: TypeError: effects are over 1048576 bytes`},
		{`() => { JSON.stringify = JSON.parse = Object = Promise = Error = null; return {fine: 1} }`, `{"fine":1}`},
		{`() => { Object.prototype.toJSON = () => "mine"; return {} }`, `"mine"`},
	} {
		h := newHost()
		inv := invocation(f, test.code)
		inv.Timeout = timeFor(test.want)
		i.Invoke(inv, h)
		o := h.outcome(t)
		got := describe(o)
		if o.Err == nil && got != test.want || o.Err != nil && (test.want == "" || !strings.HasPrefix(got, test.want)) {
			t.Errorf("%s: got %q, want %q", test.code, got, test.want)
		}
	}
	again(t, i, f, `() => 1`, `1`)
}

func testBig(t *testing.T, s functions.Sandbox) {
	f := function(t, handler(`return event.payload`))
	i := start(t, s, f)
	fits := `"` + strings.Repeat("ä", (functions.MaxResult-2)/2) + `"`
	again(t, i, f, fits, fits)
	h := newHost()
	i.Invoke(invocation(f, `"`+strings.Repeat("a", functions.MaxResult)+`"`), h)
	if o := h.outcome(t); o.Err == nil || o.Err.Code != functions.CodeResult {
		t.Errorf("a result over the limit: %.100s", describe(o))
	}
	h = newHost()
	i.Invoke(invocation(f, strings.Repeat("a", 5<<20)), h)
	if o := h.outcome(t); o.Err == nil || o.Err.Code != functions.CodePayload {
		t.Errorf("an event over the limit: %.100s", describe(o))
	}
	again(t, i, f, `1`, `1`)
}
