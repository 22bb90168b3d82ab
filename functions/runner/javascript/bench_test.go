package javascript

import (
	"testing"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
)

// nobody is a Host that has nothing.
type nobody struct{}

func (nobody) Get(string) ([]byte, error)        { return nil, nil }
func (nobody) Peek(string) ([]byte, error)       { return nil, nil }
func (nobody) Publish(devices.Publication) error { return nil }
func (nobody) Log(functions.Level, string)       {}
func (nobody) Idle()                             {}

// BenchmarkInvocation measures a fresh context and a small handler; the part
// called "event" is what remains when the context was prepared ahead.
func BenchmarkInvocation(b *testing.B) {
	p, err := New().Load(b.Context(), runner.Source{Name: "lamp", Code: `export default function (event, sedge) {
	if (event.payload.occupancy && event.payload.illuminance < 20) {
		sedge.publish("zigbee2mqtt/hall_lamp/set", {state: "ON", brightness: 120});
	}
}`})
	if err != nil {
		b.Fatal(err)
	}
	inv := functions.Invocation{ID: "i", Attempt: 1, Timeout: 5 * time.Second, Event: devices.Event{
		ID: "e", Source: devices.MQTT, Topic: "zigbee2mqtt/hall_motion", QoS: 1, Time: time.Now(),
		Payload:  []byte(`{"occupancy":true,"illuminance":4,"battery":97,"linkquality":120}`),
		Captures: []devices.Capture{{Name: "device", Value: "hall_motion"}},
	}}
	b.ReportAllocs()
	var event time.Duration
	n := 0
	for b.Loop() {
		c := p.New()
		c.Prepare()
		began := time.Now()
		if o := c.Run(inv, nobody{}); o.Err != nil || len(o.Effects.Publish) != 1 {
			b.Fatal(o)
		}
		event += time.Since(began)
		n++
	}
	b.ReportMetric(float64(event.Nanoseconds())/float64(n), "event-ns/op")
}
