package javascript

import (
	"errors"
	"slices"
	"time"

	"github.com/grafana/sobek"

	"github.com/sedge-iot/sedge/functions"
)

// A lazy object makes its fields when they are first read: most handlers use
// one or two. They can be neither set nor deleted.
type lazy struct {
	names  []string
	make   func(name string) sobek.Value
	values []sobek.Value // by the index of the name; nil: not made
}

func (c *place) lazy(names []string, make func(name string) sobek.Value) *sobek.Object {
	return c.vm.NewDynamicObject(&lazy{names: names, make: make})
}

// Get returns a field, or nil.
func (l *lazy) Get(name string) sobek.Value {
	i := slices.Index(l.names, name)
	if i < 0 {
		return nil
	}
	if l.values == nil {
		l.values = make([]sobek.Value, len(l.names))
	}
	if l.values[i] == nil {
		l.values[i] = l.make(name)
	}
	return l.values[i]
}

// Set refuses.
func (l *lazy) Set(string, sobek.Value) bool { return false }

// Has reports whether there is such a field.
func (l *lazy) Has(name string) bool { return slices.Contains(l.names, name) }

// Delete refuses, but for what is not there.
func (l *lazy) Delete(name string) bool { return !l.Has(name) }

// Keys returns the names of the fields.
func (l *lazy) Keys() []string { return l.names }

// function returns a JavaScript function that throws the error of f.
func (c *place) function(f func(sobek.FunctionCall) (sobek.Value, error)) sobek.Value {
	return c.vm.ToValue(func(call sobek.FunctionCall) sobek.Value {
		v, err := f(call)
		if err != nil {
			c.throw(err)
		}
		return v
	})
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

// globals are what JavaScript has outside of the language.
var globals = []string{
	"console", "setTimeout", "setInterval", "clearTimeout", "clearInterval", "queueMicrotask",
	"atob", "btoa", "TextEncoder", "TextDecoder",
}

// addGlobals gives the runtime its globals. They are inherited by the global
// object, so that none is made before it is used.
func (c *place) addGlobals() error {
	return c.vm.GlobalObject().SetPrototype(c.lazy(globals, c.global))
}

func (c *place) global(name string) sobek.Value {
	switch name {
	case "console":
		return c.lazy(logNames, c.logger)
	case "setTimeout":
		return c.function(func(call sobek.FunctionCall) (sobek.Value, error) { return c.setTimer(call, false) })
	case "setInterval":
		return c.function(func(call sobek.FunctionCall) (sobek.Value, error) { return c.setTimer(call, true) })
	case "queueMicrotask":
		return c.function(c.queueMicrotask)
	case "atob":
		return c.function(c.atob)
	case "btoa":
		return c.function(c.btoa)
	case "TextEncoder":
		return c.textEncoder()
	case "TextDecoder":
		return c.textDecoder()
	}
	return c.function(c.clearTimer)
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

func (c *place) queueMicrotask(call sobek.FunctionCall) (sobek.Value, error) {
	f, ok := sobek.AssertFunction(call.Argument(0))
	if !ok {
		return nil, errors.New("queueMicrotask: the argument is no function")
	}
	p, resolve, _ := c.vm.NewPromise()
	if err := resolve(sobek.Undefined()); err != nil {
		return nil, err
	}
	then, _ := sobek.AssertFunction(c.vm.ToValue(p).(*sobek.Object).Get("then"))
	_, err := then(c.vm.ToValue(p), c.vm.ToValue(func(sobek.FunctionCall) sobek.Value {
		if _, err := f(sobek.Undefined()); err != nil {
			c.throw(err)
		}
		return sobek.Undefined()
	}))
	return sobek.Undefined(), err
}
