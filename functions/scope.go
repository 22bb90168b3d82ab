package functions

import (
	"reflect"
	"time"

	"github.com/sedge-iot/sedge/devices"
)

// A Scope is what an expression looks at.
type Scope struct {
	Event    *devices.Event
	Payload  any // the event's, as [ParsePayload] returns it; needed only if the expression uses it
	Previous any // the payload before, of the same device; nil if there is none
}

// eventVars is the variable event.
type eventVars struct {
	ID       string   `expr:"id"`
	Source   string   `expr:"source"`
	Topic    string   `expr:"topic"`
	Device   string   `expr:"device"`
	Time     timeVars `expr:"time"`
	QoS      int      `expr:"qos"`
	Retained bool     `expr:"retained"`
	Queued   bool     `expr:"queued"`
	Redriven bool     `expr:"redriven"`
	Hops     int      `expr:"hops"`
}

// timeVars is event.time, in the zone of the event's time.
type timeVars struct {
	Unix    int64 `expr:"unix"` // seconds
	Year    int   `expr:"year"`
	Month   int   `expr:"month"` // from 1
	Day     int   `expr:"day"`
	Weekday int   `expr:"weekday"` // 0 is Sunday
	Hour    int   `expr:"hour"`
	Minute  int   `expr:"minute"`
	Second  int   `expr:"second"`
}

func (v *eventVars) set(e *devices.Event) {
	*v = eventVars{
		ID: e.ID, Source: string(e.Source), Topic: e.Topic, Device: e.Device(), Time: timeVarsOf(e.Time),
		QoS: int(e.QoS), Retained: e.Retained, Queued: e.Queued, Redriven: e.Redriven, Hops: e.Hops,
	}
}

func timeVarsOf(t time.Time) timeVars {
	return timeVars{
		Unix: t.Unix(), Year: t.Year(), Month: int(t.Month()), Day: t.Day(), Weekday: int(t.Weekday()),
		Hour: t.Hour(), Minute: t.Minute(), Second: t.Second(),
	}
}

// variable returns the value of one variable; event is made in v.
func (s Scope) variable(name string, v *eventVars) any {
	switch name {
	case "payload":
		return s.Payload
	case "previous":
		return s.Previous
	}
	e := s.Event
	if e == nil {
		e = &devices.Event{}
	}
	switch name {
	case "topic":
		return e.Topic
	case "event":
		v.set(e)
		return v
	}
	return e.Capture(name)
}

// fieldTags returns the names by which expressions know the fields of t.
func fieldTags(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = t.Field(i).Tag.Get("expr")
	}
	return names
}
