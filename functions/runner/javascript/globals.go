package javascript

import (
	"errors"
	"time"

	"github.com/grafana/sobek"

	"github.com/sedge-iot/sedge/functions"
)

// A lazy object makes its fields when they are first read. They can be neither
// set nor deleted.
type lazy struct {
	make map[string]func() sobek.Value
	made map[string]sobek.Value
}

func (c *place) lazy(fields map[string]func() sobek.Value) *lazy {
	return &lazy{make: fields, made: map[string]sobek.Value{}}
}

// Get returns a field, or nil.
func (l *lazy) Get(key string) sobek.Value {
	if v := l.made[key]; v != nil {
		return v
	}
	f := l.make[key]
	if f == nil {
		return nil
	}
	v := f()
	l.made[key] = v
	return v
}

// Set refuses.
func (l *lazy) Set(string, sobek.Value) bool { return false }

// Has reports whether there is such a field.
func (l *lazy) Has(key string) bool { return l.make[key] != nil }

// Delete refuses, but for what is not there.
func (l *lazy) Delete(key string) bool { return !l.Has(key) }

// Keys returns the names of the fields.
func (l *lazy) Keys() []string {
	keys := make([]string, 0, len(l.make))
	for k := range l.make {
		keys = append(keys, k)
	}
	return keys
}

// function returns a maker of a JavaScript function that throws the error of f.
func (c *place) function(f func(sobek.FunctionCall) (sobek.Value, error)) func() sobek.Value {
	return func() sobek.Value {
		return c.vm.ToValue(func(call sobek.FunctionCall) sobek.Value {
			v, err := f(call)
			if err != nil {
				c.throw(err)
			}
			return v
		})
	}
}

// throw makes a JavaScript exception of err.
func (c *place) throw(err error) {
	if ex, ok := errors.AsType[*sobek.Exception](err); ok {
		panic(ex.Value())
	}
	if _, ok := errors.AsType[*functions.Failure](err); ok {
		panic(c.vm.NewGoError(err))
	}
	panic(c.vm.NewTypeError(err.Error()))
}

// addGlobals gives the runtime what JavaScript has outside of the language.
func (c *place) addGlobals() {
	g := c.vm.GlobalObject()
	c.add(g, "console", c.vm.NewDynamicObject(c.lazy(c.consoleFields())))
	c.add(g, "setTimeout", c.function(func(call sobek.FunctionCall) (sobek.Value, error) { return c.setTimer(call, false) })())
	c.add(g, "setInterval", c.function(func(call sobek.FunctionCall) (sobek.Value, error) { return c.setTimer(call, true) })())
	c.add(g, "clearTimeout", c.function(c.clearTimer)())
	c.add(g, "clearInterval", c.function(c.clearTimer)())
}

func (c *place) add(o *sobek.Object, name string, v sobek.Value) {
	if err := o.DefineDataProperty(name, v, sobek.FLAG_TRUE, sobek.FLAG_TRUE, sobek.FLAG_FALSE); err != nil {
		panic(err)
	}
}

func (c *place) setTimer(call sobek.FunctionCall, repeat bool) (sobek.Value, error) {
	f, ok := sobek.AssertFunction(call.Argument(0))
	if !ok {
		return nil, errors.New("setTimeout: the first argument is no function")
	}
	if len(c.timers.list) >= maxTimers {
		return nil, errors.New("setTimeout: too many timers wait")
	}
	ms := call.Argument(1).ToFloat()
	if !(ms >= 1) {
		ms = 1
	}
	d := time.Duration(min(ms, 1e9) * float64(time.Millisecond))
	t := &timer{at: time.Now().Add(d), call: f}
	if repeat {
		t.every = d
	}
	if len(call.Arguments) > 2 {
		t.args = call.Arguments[2:]
	}
	return c.vm.ToValue(c.timers.add(t)), nil
}

func (c *place) clearTimer(call sobek.FunctionCall) (sobek.Value, error) {
	c.timers.clear(call.Argument(0).ToInteger())
	return sobek.Undefined(), nil
}
