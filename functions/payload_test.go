package functions

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPayloadIsJSONOrElseText(t *testing.T) {
	tests := map[string]any{
		`{"a":1,"b":[true,null,"x"]}`:       map[string]any{"a": 1.0, "b": []any{true, nil, "x"}},
		" [ ]\n":                            []any{},
		`{}`:                                map[string]any{},
		`21.5e1`:                            215.0,
		`-0`:                                math.Copysign(0, -1),
		`"ON"`:                              "ON",
		`"a\"\\\/\b\f\n\r\t\u00e9😀\ud800x"`: "a\"\\/\b\f\n\r\té😀\ufffdx",
		`null`:                              nil,
		`true`:                              true,
		``:                                  "",
		`ON`:                                "ON",
		`NaN`:                               "NaN",
		`{"a":NaN}`:                         `{"a":NaN}`,
		`{"a":1`:                            `{"a":1`,
		`{"a":1}x`:                          `{"a":1}x`,
		`[1,]`:                              `[1,]`,
		`01`:                                `01`,
		`+1`:                                `+1`,
		`1.`:                                `1.`,
		`{a:1}`:                             `{a:1}`,
		"\"a\nb\"":                          "\"a\nb\"",
		"\xff\xfe":                          "\xff\xfe",
		"\"\xff\"":                          "\"\xff\"",
		`"\u12"`:                            `"\u12"`,
		`"\x"`:                              `"\x"`,
		`[[[[[[[[[["deep"`:                  `[[[[[[[[[["deep"`,
		"2026-11-23T22:30Z":                 "2026-11-23T22:30Z",
	}
	for payload, want := range tests {
		if got, err := ParsePayload([]byte(payload)); !reflect.DeepEqual(got, want) || err != nil {
			t.Errorf("ParsePayload(%q) = %#v, %v, want %#v", payload, got, err, want)
		}
	}
}

func TestPayloadOnWhichReadersDisagreeIsRefused(t *testing.T) {
	for name, payload := range map[string]string{
		"deep":         strings.Repeat("[", MaxPayloadDepth+1) + strings.Repeat("]", MaxPayloadDepth+1),
		"very deep":    strings.Repeat(`{"a":`, 1_000_000),
		"same key":     `{"a":1,"b":{"a":2,"a":3}}`,
		"same escaped": `{"a":1,"\u0061":2}`,
		"large number": `{"a":1e999}`,
	} {
		got, err := ParsePayload([]byte(payload))
		failure, ok := errors.AsType[*Failure](err)
		if !ok || failure.Code != CodePayload || !failure.Permanent() {
			t.Errorf("%s: ParsePayload = %v, %v, want a Failure with %s", name, got, err, CodePayload)
		}
	}
	deepest := strings.Repeat("[", MaxPayloadDepth) + strings.Repeat("]", MaxPayloadDepth)
	if _, err := ParsePayload([]byte(deepest)); err != nil {
		t.Errorf("ParsePayload = %v for the deepest that is taken", err)
	}
}

func BenchmarkParsePayload(b *testing.B) {
	payload := []byte(`{"occupancy":true,"illuminance":4,"linkquality":120,"battery":97}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParsePayload(payload); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzPayload holds ParsePayload to encoding/json.
func FuzzPayload(f *testing.F) {
	for _, payload := range []string{`{"a":[1,-2.5e3,"x\u00e9\ud83d\ude00",true,null]}`, `ON`, `{"a":1,"a":2}`, `[[[]]]`, `"\ud800"`} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := ParsePayload(payload)
		if err != nil {
			return
		}
		var want any
		if err := json.Unmarshal(payload, &want); err != nil || !utf8.Valid(payload) {
			want = string(payload)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("ParsePayload(%q) = %#v, want %#v", payload, got, want)
		}
	})
}
