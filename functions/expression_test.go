package functions

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices"
)

func scope(t testing.TB, payload string) Scope {
	t.Helper()
	p, err := ParsePayload([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return Scope{Payload: p, Event: &devices.Event{
		ID: "e1", Source: devices.MQTT, Topic: "zigbee2mqtt/hall", Payload: []byte(payload), QoS: 1, Retained: true, Hops: 2,
		Time:     time.Date(2026, 11, 23, 22, 30, 5, 0, time.UTC),
		Captures: []devices.Capture{{Name: "device", Value: "hall"}},
	}}
}

func TestConditionsHoldOrDoNot(t *testing.T) {
	tests := []struct {
		when, payload string
		want          bool
	}{
		{`payload.occupancy == true && payload.illuminance < 20`, `{"occupancy":true,"illuminance":4}`, true},
		{`payload.occupancy == true && payload.illuminance < 20`, `{"occupancy":true,"illuminance":20}`, false},
		{`payload.occupancy == true && payload.illuminance < 20`, `{"occupancy":false}`, false},
		{`payload.occupancy`, `{"occupancy":true}`, true},
		{`payload.occupancy`, `{}`, false},
		{`payload.occupancy == true`, `{}`, false},
		{`payload.occupancy != true`, `{}`, true},
		{`payload.occupancy == nil`, `{}`, true},
		{`payload?.a?.b == nil`, `{}`, true},
		{`(payload.n ?? 5) > 4`, `{}`, true},
		{`payload == "ON"`, `ON`, true},
		{`payload == "ON"`, `"ON"`, true},
		{`payload > 20.5`, `21`, true},
		{`payload == 21`, `21.0`, true},
		{`payload.state in ["ON", "on"]`, `{"state":"on"}`, true},
		{`"x" in payload`, `{"x":null}`, true},
		{`payload.a.b[1] == 2`, `{"a":{"b":[1,2]}}`, true},
		{`payload["two words"] == 1`, `{"two words":1}`, true},
		{`payload.action matches "^(single|double)$"`, `{"action":"double"}`, true},
		{`topic startsWith "zigbee2mqtt/" && device == "hall"`, `{}`, true},
		{`event.device == "hall" && event.source == "mqtt" && event.id == "e1"`, `{}`, true},
		{`event.qos == 1 && event.retained && !event.queued && event.hops < 3`, `{}`, true},
		{`event.time.hour >= 22 && event.time.weekday == 1 && event.time.year == 2026`, `{}`, true},
		{`previous == nil`, `{}`, true},
		{`payload.ts > 1700000000000.0 && event.time.unix > 1700000000`, `{"ts":1700000000001}`, true},
		{`len(payload.list) == 2 && upper(payload.list[0]) == "A"`, `{"list":["a","b"]}`, true},
		{`payload.on ? true : false`, `{"on":true}`, true},
	}
	for _, tt := range tests {
		c, err := CompileCondition(tt.when, []string{"device"})
		if err != nil {
			t.Errorf("compile %s: %v", tt.when, err)
			continue
		}
		if got, err := c.Eval(scope(t, tt.payload)); got != tt.want || err != nil {
			t.Errorf("%s of %s = %v, %v, want %v", tt.when, tt.payload, got, err, tt.want)
		}
	}
}

func TestErrorOfAConditionNamesWhatIsMissing(t *testing.T) {
	tests := []struct{ when, payload, want string }{
		{`payload.illuminance < 20`, `{"occupancy":true}`, `payload.illuminance is missing`},
		{`payload.illuminance < 20`, `{"illuminance":null}`, `payload.illuminance is null`},
		{`payload.a == nil && payload.b.c < 20`, `{"b":{}}`, `payload.b.c is missing`},
		{`payload.b.c == 20`, `{}`, `payload.b is missing`},
		{`payload.b.c == 20`, `{"b":3}`, `payload.b is a number and has no field c`},
		{`payload.a == 1`, `ON`, `payload is the text "ON" and has no field a`},
		{`payload.t - previous.t > 2`, `{"t":3}`, `there is no previous payload`},
		{`!payload.on`, `{}`, `payload.on is missing`},
		{`payload.on and topic != ""`, `{}`, `payload.on is missing`},
		{`len(payload.list) > 1`, `{}`, `payload.list is missing`},
		{`payload.on`, `{"on":"yes"}`, `the text "yes", not true or false`},
		{`payload`, `3`, `a number, not true or false`},
		{`payload.n < 3`, `{"n":"x"}`, `<`},
	}
	for _, tt := range tests {
		c, err := CompileCondition(tt.when, nil)
		if err != nil {
			t.Errorf("compile %s: %v", tt.when, err)
			continue
		}
		got, err := c.Eval(scope(t, tt.payload))
		if err == nil || got || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s of %s = %v, %v, want an error that says %q", tt.when, tt.payload, got, err, tt.want)
		}
	}
}

func TestExpressionsThatCostTooMuchAreRefused(t *testing.T) {
	for name, source := range map[string]string{
		"long":     `topic == "` + strings.Repeat("x", MaxExpression) + `"`,
		"nodes":    `1` + strings.Repeat("+1", 200) + ` == 1`,
		"brackets": strings.Repeat("(", 2000) + "1" + strings.Repeat(")", 2000),
		"loop":     `any(payload, # > 1)`,
		"range":    `1 in 1..1000000000`,
		"repeat":   `repeat("x", 1000000000) == ""`,
		"regexp":   `payload matches "((a{100}){10}){10}"`,
		"trim":     `trim(payload, payload) == ""`,
		"variable": `let a = payload; a == a`,
		"clock":    `now() == nil`,
		"64 bits":  `payload.ts > 1700000000000`,
	} {
		if _, err := CompileCondition(source, nil); err == nil {
			t.Errorf("%s: compiles", name)
		}
	}
}

func TestHugePayloadsAreNotLookedInto(t *testing.T) {
	huge := `"` + strings.Repeat("x", MaxExpressionPayload) + `"`
	c, err := CompileCondition(`payload == "x" or true`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Eval(scope(t, huge)); err == nil {
		t.Errorf("condition of a huge payload = %v, want an error", got)
	}
	c, err = CompileCondition(`topic != ""`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Eval(scope(t, huge)); !got || err != nil {
		t.Errorf("condition on the topic of a huge payload = %v, %v, want true", got, err)
	}
}

func TestKeysAreTexts(t *testing.T) {
	for source, want := range map[string]string{
		`device`: "hall", `payload.n`: "1.5", `payload.i`: "7", `payload.on`: "true", `len(topic)`: "16",
		`[device, payload.i]`: `["hall",7]`, `payload.o`: `{"a":1,"b":2}`,
	} {
		x, err := CompileExpression(source, []string{"device"})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := x.Key(scope(t, `{"n":1.5,"i":7,"on":true,"o":{"b":2,"a":1}}`)); got != want || err != nil {
			t.Errorf("key %s = %q, %v, want %q", source, got, err, want)
		}
	}
	x, err := CompileExpression(`payload.none`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := x.Key(scope(t, `{}`)); err == nil {
		t.Errorf("key of nothing = %q, want an error", got)
	}
}

func TestUsesNamesWhatAnExpressionLooksAt(t *testing.T) {
	x, err := CompileExpression(`payload.a + previous.b`, []string{"device"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"payload": true, "previous": true, "topic": false, "a": false, "device": false} {
		if got := x.Uses(name); got != want {
			t.Errorf("Uses(%s) = %v, want %v", name, got, want)
		}
	}
}

func TestConditionServesManyAtOnce(t *testing.T) {
	c, err := CompileCondition(`payload.n == 1 && device == "hall" && event.qos == 1`, []string{"device"})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for n := range 8 {
		s := scope(t, []string{`{"n":1}`, `{"n":2}`}[n%2])
		wg.Go(func() {
			for range 500 {
				if got, err := c.Eval(s); got != (n%2 == 0) || err != nil {
					t.Errorf("Eval = %v, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkCondition(b *testing.B) {
	c, err := CompileCondition("payload.occupancy == true && payload.illuminance < 20", []string{"device"})
	if err != nil {
		b.Fatal(err)
	}
	s := scope(b, `{"occupancy":true,"illuminance":4,"linkquality":120,"battery":97}`)
	b.ReportAllocs()
	for b.Loop() {
		if ok, err := c.Eval(s); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

func FuzzExpression(f *testing.F) {
	f.Add(`payload.occupancy == true && payload.illuminance < 20`, `{"occupancy":true,"illuminance":4}`)
	f.Add(`payload.a ?? event.time.hour in [1,2] or device matches "a+"`, `ON`)
	f.Add(`split(payload, ",")[0] + upper(topic)`, `"a,b"`)
	f.Add(`-payload.a ** 2 % 3 / 0`, `{"a":1e308}`)
	f.Fuzz(func(t *testing.T, source, payload string) {
		x, err := CompileExpression(source, []string{"device"})
		if err != nil {
			return
		}
		value, err := ParsePayload([]byte(payload))
		if err != nil {
			return
		}
		s := Scope{Payload: value, Event: &devices.Event{Payload: []byte(payload)}}
		first, err1 := x.Key(s)
		second, err2 := x.Key(s)
		if first != second || (err1 == nil) != (err2 == nil) {
			t.Errorf("%s of %s is once %q, %v and once %q, %v", source, payload, first, err1, second, err2)
		}
	})
}
