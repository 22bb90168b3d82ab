package javascript

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
)

func load(t testing.TB, code string) runner.Program {
	t.Helper()
	p, err := New().Load(t.Context(), runner.Source{Name: "tested", Code: code, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func on(payload string) functions.Invocation {
	return functions.Invocation{Event: devices.Event{Payload: []byte(payload)}}
}

// A journal is a Host that remembers its log.
type journal struct {
	nobody
	lines []string
}

func (j *journal) Log(l functions.Level, text string) { j.lines = append(j.lines, string(l)+" "+text) }

func TestStackFramesNameTheLineOfTheSource(t *testing.T) {
	p := load(t, `// one
const f = () => {
	throw new Error("x");
};
export default async function handler() {
	await null;
	f();
}`)
	o := p.New().Run(on(`1`), nobody{})
	if o.Err == nil {
		t.Fatal("did not fail")
	}
	want := "at f (tested.js:3:8(3))\nat handler (tested.js:7:3"
	if !strings.HasPrefix(o.Err.Stack, want) {
		t.Errorf("got  %q\nwant %q", o.Err.Stack, want)
	}
}

func TestWhatTheModuleLogsComesWithTheFirstEvent(t *testing.T) {
	p := load(t, `for (let i = 0; i < 1000; i++) console.warn("early", i); export default () => console.log("run")`)
	c := p.New()
	c.Prepare()
	var j journal
	c.Run(on(`1`), &j)
	if n := len(j.lines); n != maxEarly+1 || j.lines[0] != "warn early 0" || j.lines[maxEarly] != "info run" {
		t.Errorf("%d lines, %q … %q", n, j.lines[0], j.lines[n-1])
	}
}

func TestAnInterruptCountsWhateverTheHandlerMakesOfIt(t *testing.T) {
	why := &functions.Failure{Code: functions.CodeTimeout, Message: "enough"}
	for name, code := range map[string]string{
		"before":     `export default () => 1`,
		"in a sleep": `export default () => new Promise(r => setTimeout(r, 3600000))`,
		"in finally": `export default () => { try { for (;;); } finally { for (;;); } }`,
		"in toJSON":  `export default () => ({toJSON() { for (;;); }})`,
	} {
		c := load(t, code).New()
		if name == "before" {
			c.Interrupt(why)
		} else {
			stop := time.AfterFunc(20*time.Millisecond, func() { c.Interrupt(why); c.Interrupt(why) })
			defer stop.Stop()
		}
		if o := c.Run(on(`1`), nobody{}); o.Err != why {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestACodeThatFailsOnlySometimesFailsItsRun(t *testing.T) {
	p := load(t, `if (globalThis.event) throw 1; export default () => 1`)
	c := p.New().(*place)
	c.vm.Set("event", 1)
	c.Prepare()
	if o := c.Run(on(`1`), nobody{}); o.Err == nil || o.Err.Message != "thrown: 1" {
		t.Errorf("got %+v", o)
	}
}

func TestAnEventIsLikeAnyObject(t *testing.T) {
	o := load(t, `export default function (event) {
		event.mine = 1; event.topic = "other"; delete event.qos;
		const {id, ...rest} = event;
		return ["qos" in event, event.qos === undefined, event.topic, Object.keys(rest).join(), event.captures["device"], event.captures.none === undefined, "bytes" in event];
	}`).New().Run(functions.Invocation{Event: devices.Event{Captures: []devices.Capture{{Name: "device", Value: "d"}, {Name: "__proto__", Value: "p"}}}}, nobody{})
	if got, want := string(o.Returned), `[false,true,"other","source,topic,device,payload,time,captures,retained,queued,redriven,hops,attempt,mine","d",true,true]`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestGlobalsCanBeReplaced(t *testing.T) {
	var j journal
	o := load(t, `export default function () {
		const before = [typeof console.log, typeof setTimeout, "console" in globalThis];
		globalThis.setTimeout = f => f();
		let ran = 0; setTimeout(() => ran++);
		globalThis.console = {log() {}};
		console.log("swallowed");
		return [...before, ran];
	}`).New().Run(on(`1`), &j)
	if got, want := string(o.Returned), `["function","function",true,1]`; got != want || len(j.lines) > 0 {
		t.Errorf("got %s %+v and %q, want %s", got, o.Err, j.lines, want)
	}
}

func TestTextAndBytes(t *testing.T) {
	o := load(t, `export default function () {
		const bytes = new TextEncoder().encode("grüße 😀");
		let bad = 0;
		for (const f of [() => btoa("€"), () => atob("a"), () => new TextDecoder("latin1"), () => new TextDecoder().decode(1)]) {
			try { f() } catch (e) { bad++ }
		}
		return [bytes.length, new TextDecoder().decode(bytes), new TextDecoder().decode(bytes.subarray(0, 2)), btoa("\xff\x00"), atob("/wA=") === "\xff\x00", bad];
	}`).New().Run(on(`1`), nobody{})
	if got, want := string(o.Returned), `[12,"grüße 😀","gr","/wA=",true,4]`; got != want {
		t.Errorf("got %s %+v, want %s", got, o.Err, want)
	}
}

func TestAPayloadIsReadAsTheAgentReadsIt(t *testing.T) {
	for _, payload := range []string{
		`{"a":[1,-0,1e3,0.5,-7,9007199254740993,1e400],"b":{"c":"\ud83d\ude00 \u00e4\n\/"},"":null}`, `[1e5,-12,0.1]`, `{"a":1,"a":1}`, `"\ud800"`, `01`, ` {} `, `{"a":}`, `[1,]`, `nul`, `true`,
		"\"\t\"", "\xff", `"\x"`, ``, ` `, strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat("[", 65) + strings.Repeat("]", 65),
	} {
		comparePayload(t, []byte(payload))
	}
}

// comparePayload holds payload to [functions.ParsePayload].
func comparePayload(t *testing.T, data []byte) {
	t.Helper()
	c := (&program{}).context()
	want, wantErr := functions.ParsePayload(data)
	got, err := c.payload(data)
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q: %v, want %v", data, err, wantErr)
	}
	if err != nil {
		if f, ok := errors.AsType[*functions.Failure](err); !ok || f.Code != functions.CodePayload {
			t.Errorf("%q: %v", data, err)
		}
		return
	}
	if exported := floats(got.Export()); !reflect.DeepEqual(exported, want) {
		t.Errorf("%q: got %#v, want %#v", data, exported, want)
	}
}

// floats turns the integers in v into float64.
func floats(v any) any {
	switch v := v.(type) {
	case int64:
		return float64(v)
	case float64:
		if v == 0 && math.Signbit(v) {
			return 0.0
		}
	case string:
		return v
	case []any:
		for i := range v {
			v[i] = floats(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = floats(v[k])
		}
	}
	return v
}

// FuzzPayload: the handler sees what the agent's filters saw, and what is JSON
// keeps its keys in order.
func FuzzPayload(f *testing.F) {
	f.Add([]byte(`{"a":[1,-0.5e3,true,null,"\ud83d\ude00"],"b":{}}`))
	f.Add([]byte(`{"b":1,"a":2,"__proto__":{"x":1}}`))
	f.Add([]byte(`ON`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "-0") {
			return // filters do not tell it from 0
		}
		comparePayload(t, data)
	})
}

// FuzzCode: whatever the code is, it loads or is told what is wrong, in time.
func FuzzCode(f *testing.F) {
	f.Add(`export default function (event, sedge) { sedge.publish("a", event) }`)
	f.Add(`export { x as default }; const x = async () => { await 1 }`)
	f.Add(`module.exports = class { #p = 1; static { this.x = /(?<y>a)/u } }`)
	f.Add("export const handle = async ({payload: {a = 1, ...b} = {}}) => `${a}` ?? b?.c")
	f.Fuzz(func(t *testing.T, code string) {
		stuck := time.AfterFunc(10*time.Second, func() { panic("stuck: " + code) })
		defer stuck.Stop()
		p, err := Engine{}.Load(t.Context(), runner.Source{Name: "f", Code: code, Timeout: 50 * time.Millisecond})
		if err != nil {
			if f, ok := errors.AsType[*functions.Failure](err); !ok || f.Message == "" {
				t.Errorf("%q: %v", code, err)
			}
			return
		}
		c := p.New()
		stop := time.AfterFunc(50*time.Millisecond, func() { c.Interrupt(&functions.Failure{Code: functions.CodeTimeout}) })
		defer stop.Stop()
		if o := c.Run(on(`{}`), nobody{}); o.Returned != nil && !json.Valid(o.Returned) {
			t.Errorf("%q returned %q", code, o.Returned)
		}
	})
}
