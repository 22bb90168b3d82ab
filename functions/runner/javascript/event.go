package javascript

import (
	"slices"

	"github.com/grafana/sobek"

	"github.com/sedge-iot/sedge/functions"
)

// eventFields are the fields of an event, in the order in which they are shown.
var eventFields = []string{
	"id", "source", "topic", "device", "payload", "time", "captures",
	"qos", "retained", "queued", "redriven", "hops", "attempt",
}

// An event makes its fields when they are first read: a handler looks at one or
// two. To the handler it is an ordinary object.
type event struct {
	c    *place
	inv  *functions.Invocation
	keys []string // shared until written to
	made map[string]sobek.Value
}

// event returns the event as the handler sees it.
func (c *place) event(inv *functions.Invocation) (sobek.Value, error) {
	payload, err := c.payload(inv.Event.Payload)
	if err != nil {
		return nil, err
	}
	e := &event{c: c, inv: inv, keys: eventFields, made: map[string]sobek.Value{"payload": payload}}
	return c.vm.NewDynamicObject(e), nil
}

// Get returns a field, or nil. The bytes are not among the keys: that would
// show the payload twice.
func (e *event) Get(key string) sobek.Value {
	if v := e.made[key]; v != nil {
		return v
	}
	if !e.Has(key) {
		return nil
	}
	v := e.value(key)
	e.made[key] = v
	return v
}

func (e *event) value(key string) sobek.Value {
	vm, ev := e.c.vm, &e.inv.Event
	switch key {
	case "id":
		return vm.ToValue(ev.ID)
	case "source":
		return vm.ToValue(string(ev.Source))
	case "topic":
		return vm.ToValue(ev.Topic)
	case "device":
		return vm.ToValue(ev.Device())
	case "time":
		return vm.ToValue(ev.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
	case "captures":
		return e.captures()
	case "qos":
		return vm.ToValue(int64(ev.QoS))
	case "retained":
		return vm.ToValue(ev.Retained)
	case "queued":
		return vm.ToValue(ev.Queued)
	case "redriven":
		return vm.ToValue(ev.Redriven)
	case "hops":
		return vm.ToValue(ev.Hops)
	case "attempt":
		return vm.ToValue(e.inv.Attempt)
	case "bytes":
		return e.c.bytes(ev.Payload)
	}
	return sobek.Undefined()
}

func (e *event) captures() sobek.Value {
	o := e.c.vm.NewObject()
	for _, p := range e.inv.Event.Captures {
		if err := define(o, p.Name, e.c.vm.ToValue(p.Value)); err != nil {
			panic(err)
		}
	}
	return o
}

// Has reports whether there is such a field.
func (e *event) Has(key string) bool { return key == "bytes" || slices.Contains(e.keys, key) }

// Set gives a field a value.
func (e *event) Set(key string, v sobek.Value) bool {
	if !e.Has(key) {
		e.keys = append(slices.Clone(e.keys), key)
	}
	e.made[key] = v
	return true
}

// Delete takes a field away.
func (e *event) Delete(key string) bool {
	if i := slices.Index(e.keys, key); i >= 0 {
		e.keys = slices.Delete(slices.Clone(e.keys), i, i+1)
	}
	delete(e.made, key)
	return key != "bytes"
}

// Keys returns the names of the fields.
func (e *event) Keys() []string { return e.keys }

// define sets an own property, also one that is called __proto__.
func define(o *sobek.Object, name string, v sobek.Value) error {
	if name == "__proto__" {
		return o.DefineDataProperty(name, v, sobek.FLAG_TRUE, sobek.FLAG_TRUE, sobek.FLAG_TRUE)
	}
	return o.Set(name, v)
}

// parse reads JSON that sedge itself stored.
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
