package runner

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// fullInvocation has something in every field.
func fullInvocation() functions.Invocation {
	return functions.Invocation{ID: "i-1", Attempt: 3, Timeout: 5 * time.Second, Event: devices.Event{
		ID: "e-1", Source: devices.MQTT, Topic: "a/grüße", Payload: []byte{0, 255, '"'},
		Time:     time.Date(2026, 11, 23, 8, 0, 0, 123456789, time.UTC),
		Captures: []devices.Capture{{Name: "device", Value: "a"}, {Name: "rest", Value: ""}},
		QoS:      2, Retained: true, Queued: true, Redriven: true, Hops: 15,
	}}
}

func fullOutcome() functions.Outcome {
	return functions.Outcome{
		Took: 1234567, Returned: []byte(`{"a":1}`),
		Effects: functions.Effects{
			Publish: []devices.Publication{{Topic: "a", Payload: []byte("x"), QoS: 1, Retain: true}, {Topic: "b", Payload: []byte{}}},
			State: []functions.StateWrite{
				{Op: functions.StateSet, Key: "k", Value: []byte(`null`), TTL: time.Hour},
				{Op: functions.StateDelete, Key: "k"},
				{Op: functions.StateIncr, Key: "n", By: -1.5},
			},
			Timers: []functions.TimerWrite{{Key: "t", After: time.Minute, Payload: []byte(`1`)}, {Key: "t", Cancel: true}},
		},
	}
}

func TestMessagesComeBackAsTheyWere(t *testing.T) {
	inv := fullInvocation()
	gotInv, err := decodeInvocation(body{b: appendInvocation(nil, &inv)})
	if err != nil || !reflect.DeepEqual(gotInv, inv) {
		t.Errorf("invocation: got %+v, %v", gotInv, err)
	}
	empty := functions.Invocation{Event: devices.Event{Time: time.Unix(0, 0).UTC()}}
	if got, err := decodeInvocation(body{b: appendInvocation(nil, &empty)}); err != nil || !reflect.DeepEqual(got, empty) {
		t.Errorf("empty invocation: got %+v, %v", got, err)
	}
	out := fullOutcome()
	if got, err := decodeOutcome(body{b: appendOutcome(nil, &out)}); err != nil || !reflect.DeepEqual(got, out) {
		t.Errorf("outcome: got %+v, %v", got, err)
	}
	failed := functions.Outcome{Took: 5, Err: &functions.Failure{Code: functions.CodeThrown, Message: "m", Stack: "s"}}
	if got, err := decodeOutcome(body{b: appendOutcome(nil, &failed)}); err != nil || !reflect.DeepEqual(got, failed) {
		t.Errorf("failure: got %+v, %v", got, err)
	}
	src := Source{Runtime: "javascript", Name: "n", Code: "c", Timeout: 1, Concurrency: 4, Memory: 1 << 25, Env: map[string]string{"a": "b"}, Secrets: map[string]string{"": "x", "t": ""}}
	var gotSrc Source
	if err := gotSrc.decode(body{b: src.append(nil)}); err != nil || !reflect.DeepEqual(gotSrc, src) {
		t.Errorf("source: got %+v, %v", gotSrc, err)
	}
}

func TestADecoderRefuses(t *testing.T) {
	good := fullOutcome()
	edit := func(f func(*functions.Outcome)) []byte {
		o := fullOutcome()
		f(&o)
		return appendOutcome(nil, &o)
	}
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"a rest":             append(appendOutcome(nil, &good), 0),
		"a cut":              appendOutcome(nil, &good)[:20],
		"no JSON":            edit(func(o *functions.Outcome) { o.Returned = []byte("{") }),
		"an empty topic":     edit(func(o *functions.Outcome) { o.Effects.Publish[0].Topic = "" }),
		"a long topic":       edit(func(o *functions.Outcome) { o.Effects.Publish[0].Topic = string(make([]byte, 513)) }),
		"qos 3":              edit(func(o *functions.Outcome) { o.Effects.Publish[0].QoS = 3 }),
		"a long key":         edit(func(o *functions.Outcome) { o.Effects.State[0].Key = string(make([]byte, 513)) }),
		"a long value":       edit(func(o *functions.Outcome) { o.Effects.State[0].Value = bytes.Repeat([]byte("1"), 64<<10+1) }),
		"no value":           edit(func(o *functions.Outcome) { o.Effects.State[0].Value = nil }),
		"an unknown change":  edit(func(o *functions.Outcome) { o.Effects.State[0].Op = 9 }),
		"a lifetime before":  edit(func(o *functions.Outcome) { o.Effects.State[0].TTL = -1 }),
		"a nameless timer":   edit(func(o *functions.Outcome) { o.Effects.Timers[0].Key = "" }),
		"a result too large": edit(func(o *functions.Outcome) { o.Returned = bytes.Repeat([]byte("1"), 4<<20) }),
		"a death it tells of itself": appendOutcome(nil, &functions.Outcome{
			Err: &functions.Failure{Code: functions.CodeClosed},
		}),
		"a long message": appendOutcome(nil, &functions.Outcome{
			Err: &functions.Failure{Code: functions.CodeThrown, Message: string(make([]byte, MaxMessage+1))},
		}),
	} {
		if o, err := decodeOutcome(body{b: b}); !errors.Is(err, errMalformed) {
			t.Errorf("%s: took %+v, %v", name, o, err)
		}
	}
}

func TestFramesAreCutFromAnyStream(t *testing.T) {
	var stream []byte
	want := [][]byte{{}, []byte("a"), bytes.Repeat([]byte("b"), smallBuffer), bytes.Repeat([]byte("c"), MaxFrame-headerSize), []byte("d")}
	for i, w := range want {
		b, begin := beginFrame(stream, kindDone, uint32(i))
		stream = endFrame(append(b, w...), begin)
	}
	for name, src := range map[string]io.Reader{
		"whole":  bytes.NewReader(stream),
		"halves": iotest.HalfReader(bytes.NewReader(stream)),
		"errors": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		r := newFrameReader(src)
		for i, w := range want {
			f, err := r.next()
			if err != nil || f.kind != kindDone || f.id != uint32(i) || !bytes.Equal(f.body, w) {
				t.Fatalf("%s: frame %d: kind %d, id %d, %d bytes, %v", name, i, f.kind, f.id, len(f.body), err)
			}
		}
		if _, err := r.next(); err != io.EOF {
			t.Errorf("%s: after the last: %v", name, err)
		}
		if len(r.buf) > smallBuffer {
			t.Errorf("%s: the buffer is still %d bytes", name, len(r.buf))
		}
	}
	for _, bad := range []string{"\x00\x00\x00\x00", "\x04\x00\x00\x00\x00\x00\x00\x00", "\xff\xff\xff\xff", "\x01\x00\x40\x00aaaaaaa"} {
		if _, err := newFrameReader(bytes.NewReader([]byte(bad))).next(); !errors.Is(err, errTooLong) {
			t.Errorf("%x: %v", bad, err)
		}
	}
	if _, err := newFrameReader(bytes.NewReader(stream[:3])).next(); err != io.ErrUnexpectedEOF {
		t.Errorf("a cut: %v", err)
	}
}

// FuzzFrames: whatever comes, the reader's buffer stays within the cap and
// follows what has come, and frames written again make the stream they came from.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x06\x00\x00\x00\x01\x00\x00\x00\x00x\x05\x00\x00\x00\x02\x01\x00\x00\x00"))
	f.Add([]byte("\xff\xff\x3f\x00\x01\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := newFrameReader(iotest.OneByteReader(bytes.NewReader(stream)))
		var again []byte
		for {
			fr, err := r.next()
			if len(r.buf) > max(smallBuffer, 2*len(stream)) {
				t.Fatalf("a buffer of %d for %d bytes", len(r.buf), len(stream))
			}
			if err != nil {
				break
			}
			b, begin := beginFrame(again, fr.kind, fr.id)
			again = endFrame(append(b, fr.body...), begin)
		}
		if !bytes.HasPrefix(stream, again) {
			t.Errorf("%x came back as %x", stream, again)
		}
	})
}

// FuzzOutcome: what is accepted is within every limit, and comes back the same
// when it is sent again.
func FuzzOutcome(f *testing.F) {
	o := fullOutcome()
	f.Add(appendOutcome(nil, &o))
	f.Add(appendOutcome(nil, &functions.Outcome{Err: &functions.Failure{Code: functions.CodeTimeout}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeOutcome(body{b: b})
		if err != nil {
			return
		}
		again, err := decodeOutcome(body{b: appendOutcome(nil, &got)})
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%+v came back as %+v, %v", got, again, err)
		}
		if n := Weigh(&got); n > len(b) {
			t.Errorf("%d bytes weigh %d", len(b), n)
		}
	})
}

// FuzzInvocation: what is accepted comes back the same when it is sent again.
func FuzzInvocation(f *testing.F) {
	inv := fullInvocation()
	f.Add(appendInvocation(nil, &inv))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeInvocation(body{b: b})
		if err != nil {
			return
		}
		again, err := decodeInvocation(body{b: appendInvocation(nil, &got)})
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%+v came back as %+v, %v", got, again, err)
		}
	})
}
