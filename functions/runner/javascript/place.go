package javascript

import (
	"sync/atomic"

	"github.com/grafana/sobek"

	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
)

// A place is a runtime with the globals of one invocation.
type place struct {
	*program
	vm       *sobek.Runtime
	prepared bool
	handler  sobek.Callable
	failure  *functions.Failure // of Prepare, or nil
	stopped  atomic.Pointer[functions.Failure]
	wake     chan struct{} // cap 1: stopped was set

	host    runner.Host // nil while Prepare runs
	early   []logLine   // written while Prepare ran
	timers  timers
	effects effects
	state   overlay
}

// Interrupt stops what runs.
func (c *place) Interrupt(f *functions.Failure) {
	if !c.stopped.CompareAndSwap(nil, f) {
		return
	}
	c.vm.Interrupt(f)
	c.wake <- struct{}{}
}

// Prepare makes the globals and runs the module.
func (c *place) Prepare() {
	if c.prepared {
		return
	}
	c.prepared = true
	c.failure = c.guard(func() error {
		if err := c.addGlobals(); err != nil {
			return err
		}
		v, err := c.vm.RunProgram(c.module.program)
		if err != nil {
			return err
		}
		handler, err := c.runModule(v)
		if err != nil {
			return err
		}
		var ok bool
		if c.handler, ok = sobek.AssertFunction(handler); !ok {
			return &functions.Failure{Code: functions.CodeLoad, Message: "what is exported as the handler is no function"}
		}
		return nil
	})
}

// runModule calls the function that the module became.
func (c *place) runModule(wrapper sobek.Value) (sobek.Value, error) {
	run, _ := sobek.AssertFunction(wrapper)
	var args []sobek.Value
	if c.module.commonJS {
		module, exports := c.vm.NewObject(), c.vm.NewObject()
		if err := module.Set("exports", exports); err != nil {
			return nil, err
		}
		args = []sobek.Value{module, exports}
	}
	v, err := run(sobek.Undefined(), args...)
	if err == nil && c.module.async {
		v, err = c.settle(v)
	}
	if err != nil || !c.module.commonJS {
		return v, err
	}
	if _, ok := sobek.AssertFunction(v); ok {
		return v, nil
	}
	for _, name := range []string{"default", "handle"} {
		if o, ok := v.(*sobek.Object); ok {
			if f := o.Get(name); f != nil && !sobek.IsUndefined(f) {
				return f, nil
			}
		}
	}
	return v, nil
}

// Run gives the handler the event.
func (c *place) Run(inv functions.Invocation, h runner.Host) (o functions.Outcome) {
	c.host = h
	c.Prepare()
	for _, l := range c.early {
		h.Log(l.level, l.text)
	}
	if c.failure != nil {
		return functions.Outcome{Err: c.failure}
	}
	o.Err = c.guard(func() error {
		event, err := c.event(&inv)
		if err != nil {
			return err
		}
		v, err := c.handler(sobek.Undefined(), event, c.sedge(&inv))
		if err != nil {
			return err
		}
		if v, err = c.settle(v); err != nil {
			return err
		}
		o.Returned, err = c.result(v)
		return err
	})
	if o.Err != nil {
		return functions.Outcome{Err: o.Err}
	}
	o.Effects = c.effects.Effects
	return o
}

// guard runs f, which enters the runtime, and tells how it failed, if it did.
// An interruption counts, whatever f makes of it.
func (c *place) guard(f func() error) (failure *functions.Failure) {
	defer func() {
		if x := recover(); x != nil {
			err, ok := x.(error)
			if !ok {
				panic(x)
			}
			failure = c.explain(err)
		}
		if stopped := c.stopped.Load(); stopped != nil {
			failure = stopped
		}
	}()
	if err := f(); err != nil {
		return c.explain(err)
	}
	return nil
}
