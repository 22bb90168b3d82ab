package store

import (
	"bytes"
	"testing"

	"github.com/sedge-iot/sedge/devices"
)

// What was stored may come back with flipped bits: it is an event or an error,
// and an event is stored again as what it is.
func FuzzStoredEvent(f *testing.F) {
	event, payload, err := encodeEvent(devices.Event{ID: "e", Source: devices.MQTT, Topic: "a/b", Payload: []byte{0, 255},
		Captures: []devices.Capture{{Name: "device", Value: "ä"}}, Hops: 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(event, payload)
	f.Add(`{"captures":[]}`, []byte{})
	f.Add(`{"id":1}`, []byte{})
	f.Add(`{"payload":"AAAA","qos":256}`, []byte("x"))
	f.Fuzz(func(t *testing.T, event string, payload []byte) {
		got, err := decodeEvent(event, payload)
		if err != nil {
			return
		}
		again, kept, err := encodeEvent(got)
		if err != nil {
			t.Fatalf("%+v was read and cannot be stored: %v", got, err)
		}
		same, err := decodeEvent(again, kept)
		if err != nil {
			t.Fatalf("%+v was stored and cannot be read: %v", got, err)
		}
		if text, _, err := encodeEvent(same); err != nil || text != again || !bytes.Equal(same.Payload, got.Payload) {
			t.Errorf("stored %s, %x; read and stored again %s, %x, %v", again, got.Payload, text, same.Payload, err)
		}
	})
}
