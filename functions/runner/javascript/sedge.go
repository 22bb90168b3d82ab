package javascript

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/grafana/sobek"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

var (
	sedgeFields = []string{"publish", "state", "log", "secret", "env", "after", "cancel"}
	stateFields = []string{"get", "set", "delete", "incr"}
)

// sedge returns the object through which the handler acts.
func (c *place) sedge(inv *functions.Invocation) *sobek.Object {
	return c.lazy(sedgeFields, func(name string) sobek.Value {
		switch name {
		case "publish":
			return c.function(c.publish)
		case "state":
			return c.lazy(stateFields, c.stateField)
		case "log":
			return c.logFunction()
		case "secret":
			return c.function(c.secret)
		case "env":
			return c.envObject()
		case "after":
			return c.function(func(call sobek.FunctionCall) (sobek.Value, error) { return c.after(inv, call) })
		}
		return c.function(c.cancel)
	})
}

func (c *place) publish(call sobek.FunctionCall) (sobek.Value, error) {
	p := devices.Publication{QoS: 1}
	topic, ok := call.Argument(0).(sobek.String)
	if !ok {
		return nil, errors.New("publish: the topic is no string")
	}
	p.Topic = topic.String()
	if err := devices.CheckTopic(p.Topic); err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	if len(p.Topic) > devices.MaxTopic {
		return nil, fmt.Errorf("publish: topic is over %d bytes", devices.MaxTopic)
	}
	var err error
	if p.Payload, err = c.message(call.Argument(1)); err != nil {
		return nil, fmt.Errorf("publish to %q: %w", p.Topic, err)
	}
	options, now := c.options(call.Argument(2)), false
	if q := options("qos"); q != nil {
		if n := q.ToInteger(); n == 0 || n == 1 {
			p.QoS = byte(n)
		} else {
			return nil, fmt.Errorf("publish to %q: qos is 0 or 1", p.Topic)
		}
	}
	if v := options("retain"); v != nil {
		p.Retain = v.ToBoolean()
	}
	if v := options("now"); v != nil {
		now = v.ToBoolean()
	}
	if now {
		return sobek.Undefined(), c.host.Publish(p)
	}
	return sobek.Undefined(), c.effects.publish(p)
}

// message returns the bytes of a payload: of a string, its text; of bytes, the
// bytes; of anything else, its JSON.
func (c *place) message(v sobek.Value) ([]byte, error) {
	if s, ok := v.(sobek.String); ok {
		return []byte(s.String()), nil
	}
	if b, ok := c.binary(v); ok {
		return b, nil
	}
	b, err := c.stringify(v)
	if err == nil && b == nil {
		err = errors.New("there is no payload: an empty message is ''")
	}
	return b, err
}

// binary returns a copy of an ArrayBuffer or of what a Uint8Array shows.
func (c *place) binary(v sobek.Value) ([]byte, bool) {
	o, ok := v.(*sobek.Object)
	if !ok {
		return nil, false
	}
	switch o.ExportType() {
	case reflect.TypeFor[sobek.ArrayBuffer]():
		return slices.Clone(o.Export().(sobek.ArrayBuffer).Bytes()), true
	case reflect.TypeFor[[]byte]():
		return slices.Clone(o.Export().([]byte)), true
	}
	return nil, false
}

// options returns a getter of the fields of an options object; a field that is
// not there is nil.
func (c *place) options(v sobek.Value) func(name string) sobek.Value {
	o, ok := v.(*sobek.Object)
	return func(name string) sobek.Value {
		if !ok {
			return nil
		}
		if f := o.Get(name); f != nil && !sobek.IsUndefined(f) {
			return f
		}
		return nil
	}
}

func (c *place) stateField(name string) sobek.Value {
	switch name {
	case "get":
		return c.function(c.stateGet)
	case "set":
		return c.function(c.stateSet)
	case "delete":
		return c.function(c.stateDelete)
	}
	return c.function(c.stateIncr)
}

func (c *place) stateGet(call sobek.FunctionCall) (sobek.Value, error) {
	key := call.Argument(0).String()
	if err := checkKey(key); err != nil {
		return nil, err
	}
	v, err := c.state.get(c.host, key)
	if err != nil || v == nil {
		return sobek.Undefined(), err
	}
	return c.parse(v)
}

func (c *place) stateSet(call sobek.FunctionCall) (sobek.Value, error) {
	key := call.Argument(0).String()
	if err := checkKey(key); err != nil {
		return nil, err
	}
	v, err := c.stringify(call.Argument(1))
	if err != nil {
		return nil, fmt.Errorf("state %q: %w", key, err)
	}
	if err := checkValue(key, v); err != nil {
		return nil, err
	}
	ttl, err := c.ttl(call.Argument(2))
	if err != nil {
		return nil, err
	}
	c.state.set(key, v)
	return sobek.Undefined(), c.effects.write(functions.StateWrite{Op: functions.StateSet, Key: key, Value: v, TTL: ttl})
}

func (c *place) stateDelete(call sobek.FunctionCall) (sobek.Value, error) {
	key := call.Argument(0).String()
	if err := checkKey(key); err != nil {
		return nil, err
	}
	c.state.set(key, nil)
	return sobek.Undefined(), c.effects.write(functions.StateWrite{Op: functions.StateDelete, Key: key})
}

func (c *place) stateIncr(call sobek.FunctionCall) (sobek.Value, error) {
	key, by := call.Argument(0).String(), 1.0
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if v := call.Argument(1); !sobek.IsUndefined(v) {
		by = v.ToFloat()
	}
	if err := checkBy(by); err != nil {
		return nil, err
	}
	ttl, err := c.ttl(call.Argument(2))
	if err != nil {
		return nil, err
	}
	n, err := c.state.incr(c.host, key, by)
	if err != nil {
		return nil, err
	}
	return c.vm.ToValue(n), c.effects.write(functions.StateWrite{Op: functions.StateIncr, Key: key, By: by, TTL: ttl})
}

func (c *place) ttl(v sobek.Value) (time.Duration, error) {
	t := c.options(v)("ttl")
	if t == nil {
		return 0, nil
	}
	return c.duration(t)
}

func (c *place) secret(call sobek.FunctionCall) (sobek.Value, error) {
	name := call.Argument(0).String()
	v, ok := c.secrets[name]
	if !ok {
		return nil, fmt.Errorf("secret %q is not among the secrets of the manifest, or has no value on this node", name)
	}
	return c.vm.ToValue(v), nil
}

func (c *place) envObject() sobek.Value {
	o := c.vm.NewObject()
	for k, v := range c.env {
		if err := o.DefineDataProperty(k, c.vm.ToValue(v), sobek.FLAG_FALSE, sobek.FLAG_FALSE, sobek.FLAG_TRUE); err != nil {
			panic(err)
		}
	}
	freeze, ok := sobek.AssertFunction(c.vm.Get("Object").ToObject(c.vm).Get("freeze"))
	if !ok {
		return o // the handler took Object.freeze away
	}
	if _, err := freeze(sobek.Undefined(), o); err != nil {
		c.throw(err)
	}
	return o
}

func (c *place) after(inv *functions.Invocation, call sobek.FunctionCall) (sobek.Value, error) {
	d, err := c.duration(call.Argument(0))
	if err != nil {
		return nil, fmt.Errorf("after: %w", err)
	}
	t := functions.TimerWrite{After: d}
	if t.Payload, err = c.stringify(call.Argument(1)); err != nil {
		return nil, fmt.Errorf("after: %w", err)
	}
	if k := c.options(call.Argument(2))("key"); k != nil {
		t.Key = k.String()
	} else {
		c.effects.timers++
		t.Key = inv.Event.ID + "#" + strconv.Itoa(c.effects.timers)
	}
	if err := checkKey(t.Key); err != nil {
		return nil, fmt.Errorf("after: %w", err)
	}
	return c.vm.ToValue(t.Key), c.effects.timer(t)
}

func (c *place) cancel(call sobek.FunctionCall) (sobek.Value, error) {
	key := call.Argument(0).String()
	if err := checkKey(key); err != nil {
		return nil, fmt.Errorf("cancel: %w", err)
	}
	return sobek.Undefined(), c.effects.timer(functions.TimerWrite{Key: key, Cancel: true})
}

// duration reads a time like "5m", or a number of milliseconds.
func (c *place) duration(v sobek.Value) (time.Duration, error) {
	var d time.Duration
	if s, ok := v.(sobek.String); ok {
		var parsed functions.Duration
		if err := parsed.UnmarshalText([]byte(s.String())); err != nil {
			return 0, err
		}
		d = time.Duration(parsed)
	} else {
		ms := v.ToFloat()
		if !(ms >= 0 && ms <= 1e14) {
			return 0, fmt.Errorf("%s is no time: write \"5m\", or milliseconds", c.show(v))
		}
		d = time.Duration(ms * float64(time.Millisecond))
	}
	return d, checkTTL(d)
}
