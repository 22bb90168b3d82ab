package javascript

import (
	"github.com/grafana/sobek"

	"github.com/sedge-iot/sedge/functions"
)

// event returns the event as the handler sees it.
func (c *place) event(inv *functions.Invocation) (sobek.Value, error) {
	payload, err := c.payload(inv.Event.Payload)
	if err != nil {
		return nil, err
	}
	e := &inv.Event
	captures := c.vm.NewObject()
	for _, p := range e.Captures {
		if err := define(captures, p.Name, p.Value); err != nil {
			return nil, err
		}
	}
	o := c.vm.NewObject()
	for _, p := range []struct {
		name  string
		value any
	}{
		{"id", e.ID},
		{"source", string(e.Source)},
		{"topic", e.Topic},
		{"device", e.Device()},
		{"payload", payload},
		{"time", e.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00")},
		{"captures", captures},
		{"qos", int64(e.QoS)},
		{"retained", e.Retained},
		{"queued", e.Queued},
		{"redriven", e.Redriven},
		{"hops", e.Hops},
		{"attempt", inv.Attempt},
	} {
		if err := o.Set(p.name, p.value); err != nil {
			return nil, err
		}
	}
	bytes := func(sobek.FunctionCall) sobek.Value { return c.bytes(e.Payload) }
	err = o.DefineAccessorProperty("bytes", c.vm.ToValue(bytes), nil, sobek.FLAG_TRUE, sobek.FLAG_FALSE)
	return o, err
}

// define sets an own property, also one that is called __proto__.
func define(o *sobek.Object, name string, value any) error {
	if name == "__proto__" {
		return o.DefineDataProperty(name, sobek.Undefined(), sobek.FLAG_TRUE, sobek.FLAG_TRUE, sobek.FLAG_TRUE)
	}
	return o.Set(name, value)
}

// payload returns what the bytes say: the value of JSON, else a string.
func (c *place) payload(data []byte) (sobek.Value, error) {
	v, err := functions.ParsePayload(data)
	if err != nil {
		return nil, err
	}
	if s, ok := v.(string); ok {
		return c.vm.ToValue(s), nil
	}
	return c.parse(data)
}

// parse reads JSON as JSON.parse does.
func (c *place) parse(data []byte) (sobek.Value, error) {
	parse, _ := sobek.AssertFunction(c.vm.Get("JSON").ToObject(c.vm).Get("parse"))
	return parse(sobek.Undefined(), c.vm.ToValue(string(data)))
}

// bytes returns a Uint8Array of a copy of data.
func (c *place) bytes(data []byte) sobek.Value {
	buffer := c.vm.NewArrayBuffer(append([]byte(nil), data...))
	array, err := c.vm.New(c.vm.Get("Uint8Array"), c.vm.ToValue(buffer))
	if err != nil {
		panic(err)
	}
	return array
}
