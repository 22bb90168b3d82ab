package devices

import "time"

// A Source says what kind of thing an event came from.
type Source string

// The sources of events. The strings are stored and sent: they never change.
const (
	MQTT     Source = "mqtt"     // a device spoke
	Schedule Source = "schedule" // a time came
	HTTP     Source = "http"     // a request to the HTTP trigger
	Timer    Source = "timer"    // sedge.after
	Invoke   Source = "invoke"   // an operator's hand
	Outbox   Source = "outbox"   // a function: a publish of its that was given up
)

// An Event is one thing that was said or happened. It is a value: its slices
// are shared by all who hold it, and nobody writes to them.
type Event struct {
	ID       string    `json:"id"` // the same when a broker repeats a message of a session that it kept
	Source   Source    `json:"source"`
	Topic    string    `json:"topic,omitempty"`
	Payload  []byte    `json:"payload,omitempty"`
	Time     time.Time `json:"time"`
	Captures []Capture `json:"captures,omitempty"` // what the trigger's filter caught, in the filter's order
	QoS      byte      `json:"qos,omitempty"`
	Retained bool      `json:"retained,omitempty"`
	Queued   bool      `json:"queued,omitempty"`   // waited at the broker while this node was away
	Redriven bool      `json:"redriven,omitempty"` // came back from the dead letters
	Hops     int       `json:"hops,omitempty"`     // how many functions it has passed through within the loop window
}

// A Capture is what one named part of a filter matched.
type Capture struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Capture returns what the filter's part of that name matched, or "".
func (e Event) Capture(name string) string {
	for _, c := range e.Captures {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// Device returns the device that the event is about: the capture named
// "device" if the filter has one, else the topic.
func (e Event) Device() string {
	if d := e.Capture("device"); d != "" {
		return d
	}
	return e.Topic
}
