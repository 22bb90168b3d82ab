package sandboxtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/functions"
)

func testAsync(t *testing.T, s functions.Sandbox) {
	for code, want := range map[string]string{
		`export default async (event, sedge) => { await null; sedge.publish("a", "b"); return [event.payload] }`:                                                      `[1]`,
		`export async function handle(event) { await new Promise(r => setTimeout(r, 20)); return "slept" }`:                                                           `"slept"`,
		`export default () => new Promise((_, no) => setTimeout(() => no(new Error("late")), 5))`:                                                                     `function.error: Error: late`,
		`export default async () => { throw new RangeError("x") }`:                                                                                                    `function.error: RangeError: x`,
		`const base = await Promise.resolve(41); export default () => base + 1`:                                                                                       `42`,
		`export default () => Promise.all([1, Promise.resolve(2), new Promise(r => queueMicrotask(() => r(3)))])`:                                                     `[1,2,3]`,
		`export default async () => { let n = 0; await new Promise(r => { const i = setInterval(() => { if (++n == 3) { clearInterval(i); r() } }, 1) }); return n }`: `3`,
		`export default async () => { await new Promise(r => setTimeout(r, 60000)) }`:                                                                                 `function.timeout: handler did not end within 300ms`,
		`export default async () => { for (;;) await null }`:                                                                                                          `function.timeout: handler did not end within 300ms`,
	} {
		f := function(t, code, timeout(timeFor(want)))
		h := newHost()
		start(t, s, f).Invoke(invocation(f, `1`), h)
		if got := describe(h.outcome(t)); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", code, got, want)
		}
	}
}

func testUnsettled(t *testing.T, s functions.Sandbox) {
	o, _ := run(t, s, handler(`return new Promise(() => {})`), `{}`)
	if got, want := describe(o), "function.error: handler returned a promise that never settles"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func testFresh(t *testing.T, s functions.Sandbox) {
	f := function(t, `let n = 0; const list = [];
export default function () {
	n++; list.push(n); globalThis.left = (globalThis.left || 0) + 1;
	Array.prototype.extra = (Array.prototype.extra || 0) + 1;
	return [n, list.length, globalThis.left, [].extra];
}`)
	i := start(t, s, f)
	for range 5 {
		again(t, i, f, `{}`, `[1,1,1,1]`)
	}
}

func testUnfit(t *testing.T, s functions.Sandbox) {
	const endless = `for (;;); export default () => 1`
	for code, want := range map[string]string{
		endless:                     "did not end its first run",
		`export default function (`: "tested.js:1:",
		"let a = 1;\nlet b = = 2;\nexport default () => 1":          "tested.js:2:",
		"import x from 'lodash';\nexport default () => x":           "sedge deploy bundles what it imports",
		"export * from './other.js'":                                "sedge deploy bundles what it imports",
		"\nexport default async e => { for await (const x of e); }": "tested.js:2:33: Unexpected token await; for await and async generators are rewritten by sedge deploy",
		"async function* g() {}; export default async () => 1":      "tested.js:1:1: Async generators are not supported yet; for await and async generators are rewritten by sedge deploy",
		"export default {async *g() {}}":                            "rewritten by sedge deploy",
		`const x = 1`:                                               "there is no handler",
		`export const x = 1`:                                        "nothing is exported as the handler",
		`export default 5`:                                          "is no function",
		"\nthrow new Error('at load'); export default () => 1":      "Error: at load",
		`export default () => 1; }); (function () {`:                "tested.js:1:",
		`undefinedThing(); export default () => 1`:                  "ReferenceError: undefinedThing",
		`module.exports = {other: 1}`:                               "is no function",
	} {
		limit := patience
		if code == endless {
			limit = briefly
		}
		ctx, stop := context.WithTimeout(t.Context(), patience)
		i, err := s.Start(ctx, function(t, code, timeout(limit)))
		stop()
		if err == nil {
			i.Close()
			t.Errorf("%q was taken", code)
			continue
		}
		if !errors.Is(err, functions.ErrUnfit) {
			t.Errorf("%q: %v is not ErrUnfit", code, err)
		}
		if f, ok := errors.AsType[*functions.Failure](err); !ok || f.Code != functions.CodeLoad || !strings.Contains(f.Message, want) {
			t.Errorf("%q: got %v, want %q", code, err, want)
		}
	}
	for _, code := range []string{
		"export { h as default }; function h() { return 1 }",
		"var h = () => 1;\nexport { h as handle };",
		"export class Unused {}; export const handle = () => 1",
		"module.exports = () => 1",
		"exports.handle = () => 1",
		"module.exports = {default: () => 1}",
		"function handle() { return 1 }",
		"var handle = async () => 1",
		"export default (0, () => 1)",
		"export const handle = () => 2; export default () => 1",
		"export default function handle() { return 1 } // a comment at the end",
		"//# sourceMappingURL=/etc/passwd\nexport default () => 1",
	} {
		f := function(t, code)
		again(t, start(t, s, f), f, `{}`, `1`)
	}
}

func testTimeout(t *testing.T, s functions.Sandbox) {
	f := function(t, handler(`switch (event.payload) {
		case "loop": for (;;);
		case "catch": for (;;) { try { for (;;); } catch (e) { } finally { for (;;); } }
		case "sort": return Array.from({length: 1e5}, (_, i) => i).sort(() => { for (;;); });
		case "generator": return [...(function* () { for (;;) yield 1 })()].length;
	} return 1`), func(spec *functions.Spec) { spec.Resources.Memory = 256 << 20 })
	i := start(t, s, f)
	for _, how := range []string{"loop", "catch", "sort"} {
		h := newHost()
		began := time.Now()
		inv := invocation(f, how)
		inv.Timeout = briefly
		i.Invoke(inv, h)
		o := h.outcome(t)
		if took := time.Since(began); o.Err == nil || o.Err.Code != functions.CodeTimeout || took < briefly {
			t.Errorf("%s: %s after %v", how, describe(o), took)
		}
	}
	again(t, i, f, `{}`, `1`)
}

func testMemoryBomb(t *testing.T, s functions.Sandbox) {
	innocent := function(t, handler(`return "here"`))
	beside := start(t, s, innocent)
	for _, bomb := range []string{
		`let s = "x"; for (;;) s += s`,
		`const a = []; for (;;) a.push(new Array(1000).fill(a.length))`,
		`return "x".repeat(2 ** 29).length`,
		`return new Uint8Array(2 ** 31).fill(1).length`,
		`const m = new Map(); for (let i = 0;; i++) m.set(i, {i})`,
	} {
		f := function(t, handler(bomb), func(spec *functions.Spec) {
			spec.Resources.Memory = 32 << 20
			spec.Resources.Timeout = functions.Duration(10 * time.Second)
		})
		h := newHost()
		i := start(t, s, f)
		i.Invoke(invocation(f, `{}`), h)
		o := h.outcome(t)
		if o.Err == nil {
			t.Errorf("%s: returned %.40s", bomb, o.Returned)
			continue
		}
		if o.Err.Code == functions.CodeDied {
			if want := "killed: memory limit 32Mi"; o.Err.Message != want {
				t.Errorf("%s: died of %q, want %q", bomb, o.Err.Message, want)
			}
			select {
			case <-i.Ended():
			case <-time.After(patience):
				t.Errorf("%s: died, but did not end", bomb)
			}
		}
		i.Close()
	}
	again(t, beside, innocent, `{}`, `"here"`)
}

func testRecursion(t *testing.T, s functions.Sandbox) {
	f := function(t, handler(`switch (event.payload) {
		case "call": { const f = () => f() + 1; return f() }
		case "caught": { const f = () => { try { return f() } catch (e) { return 1 } }; return f() }
		case "parse": return JSON.parse("[".repeat(1e5) + "]".repeat(1e5)).length;
		case "stringify": { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return JSON.stringify(a).length }
		case "getter": { const o = {get a() { return this.a }}; return o.a }
	} return "fine"`), func(spec *functions.Spec) { spec.Resources.Memory = 256 << 20 })
	i := start(t, s, f)
	for _, how := range []string{"call", "getter"} {
		h := newHost()
		i.Invoke(invocation(f, how), h)
		if o := h.outcome(t); o.Err == nil || !strings.Contains(o.Err.Message, "nest too deep") {
			t.Errorf("%s: %s", how, describe(o))
		}
	}
	again(t, i, f, `{}`, `"fine"`)
	for _, how := range []string{"caught", "parse", "stringify"} { // natives may end the runner
		h := newHost()
		inv := invocation(f, how)
		inv.Timeout = briefly
		start(t, s, f).Invoke(inv, h)
		h.outcome(t)
	}
}

func testNothingOfTheHost(t *testing.T, s functions.Sandbox) {
	o, _ := succeed(t, s, `export default async function () {
		const found = ["require", "process", "global", "Deno", "Bun", "fetch", "XMLHttpRequest", "WebAssembly", "Go"].filter(n => n in globalThis);
		let dynamic = "";
		try { await import("fs") } catch (e) { dynamic = e.message }
		const outer = Function("return typeof this.constructor.constructor")();
		return [found, dynamic];
	}`, `{}`)
	if got, want := string(o.Returned), `[[],"import of \"fs\": a function is one file: sedge deploy bundles what it imports"]`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func testConcurrency(t *testing.T, s functions.Sandbox) {
	f := function(t, handler(`if (event.payload == "quick") return 1;
		for (;;) {
			const end = Date.now() + 20;
			while (Date.now() < end);
			try { sedge.publish("done?", "", {now: true}); return "slow" } catch (e) { }
		}`))
	i := start(t, s, f)
	slow := newHost()
	slow.refuseWith(errors.New("not yet"))
	i.Invoke(invocation(f, "slow"), slow)
	for range 3 {
		again(t, i, f, `"quick"`, `1`)
	}
	select {
	case o := <-slow.done:
		t.Errorf("the slow run ended before the quick ones: %s", describe(o))
	default:
	}
	slow.refuseWith(nil)
	if got := describe(slow.outcome(t)); got != `"slow"` {
		t.Errorf("the slow run: %s", got)
	}
}

func testThousand(t *testing.T, s functions.Sandbox) {
	f := function(t, handler(`sedge.publish("out", event.payload); return sedge.state.get("k") + event.payload`))
	i := start(t, s, f)
	check := func(n int) {
		h := newHost()
		h.state["k"] = "1"
		i.Invoke(invocation(f, fmt.Sprint(n)), h)
		if got, want := describe(h.outcome(t)), fmt.Sprint(n+1); got != want {
			t.Errorf("run %d returned %s", n, got)
		}
	}
	for n := range 1000 {
		check(n)
	}
	var wg sync.WaitGroup
	for lane := range 4 {
		wg.Go(func() {
			for n := range 250 {
				check(lane*1000 + n)
			}
		})
	}
	wg.Wait()
}

func testClose(t *testing.T, s functions.Sandbox) {
	f := function(t, handler(`if (event.payload == 1) return 1; for (;;);`), timeout(30*time.Second))
	i := start(t, s, f)
	again(t, i, f, `1`, `1`)
	hosts := make([]*host, 4)
	for n := range hosts {
		hosts[n] = newHost()
		i.Invoke(invocation(f, `2`), hosts[n])
	}
	if err := i.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	select {
	case <-i.Ended():
	default:
		t.Error("closed, but not ended")
	}
	for n, h := range hosts {
		select {
		case o := <-h.done:
			if o.Err == nil || o.Err.Code != functions.CodeClosed {
				t.Errorf("run %d: %s", n, describe(o))
			}
		default:
			t.Errorf("run %d was not done when Close returned", n)
		}
		if h.dones != 1 {
			t.Errorf("run %d was done %d times", n, h.dones)
		}
	}
}

func testClosed(t *testing.T, s functions.Sandbox) {
	f := function(t, handler(`return 1`))
	i := start(t, s, f)
	i.Close()
	h := newHost()
	i.Invoke(invocation(f, `1`), h)
	if o := h.outcome(t); o.Err == nil || o.Err.Code != functions.CodeClosed {
		t.Errorf("got %s", describe(o))
	}
	if err := i.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
	if d := i.Describe(); d.Sandbox == "" || d.Name == "" {
		t.Errorf("described as %+v", d)
	}
}

func testApart(t *testing.T, s functions.Sandbox) {
	one, two := function(t, handler(`return 1`)), function(t, handler(`return 2`))
	a, b := start(t, s, one), start(t, s, two)
	if a.Describe().Name == b.Describe().Name {
		t.Errorf("both run in %s", a.Describe().Name)
	}
	a.Close()
	again(t, b, two, `{}`, `2`)
}
