package javascript

import (
	"context"
	"fmt"
	"time"

	"github.com/grafana/sobek"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
)

// maxCalls limits how deep calls may nest.
const maxCalls = 2_000

// An Engine runs JavaScript.
type Engine struct{}

// New returns the engine. It has run a handler once, so that the first function
// finds everything in memory.
func New() Engine {
	e := Engine{}
	if p, err := e.Load(context.Background(), runner.Source{Name: "warm", Code: warmUp}); err == nil {
		p.New().Run(functions.Invocation{Event: devices.Event{Payload: []byte(`{"on":true}`)}}, nil)
	}
	return e
}

const warmUp = `export default function (event, sedge) {
	sedge.publish("a", {on: event.payload.on, topic: event.topic});
	return [event.time, 1.5];
}`

// Load compiles a module and runs it once, to see that it runs.
func (Engine) Load(ctx context.Context, s runner.Source) (_ runner.Program, err error) {
	defer func() {
		if x := recover(); x != nil { // of the parser or the compiler, which are not made for hostile code
			err = &functions.Failure{Code: functions.CodeLoad, Message: fmt.Sprintf("code that the engine cannot take: %v", x)}
		}
	}()
	m, err := compile(s.Name+".js", s.Code)
	if err != nil {
		return nil, err
	}
	p := &program{module: m, secrets: s.Secrets, env: s.Env}
	c := p.context()
	defer context.AfterFunc(ctx, func() {
		c.Interrupt(&functions.Failure{Code: functions.CodeLoad, Message: "code did not end its first run in time"})
	})()
	if s.Timeout > 0 {
		t := time.AfterFunc(s.Timeout, func() {
			c.Interrupt(&functions.Failure{Code: functions.CodeLoad, Message: "code did not end its first run within " + s.Timeout.String()})
		})
		defer t.Stop()
	}
	c.Prepare()
	if c.failure != nil {
		return nil, c.failure
	}
	return p, nil
}

// A program is compiled code, and what it is given.
type program struct {
	module  module
	env     map[string]string
	secrets map[string]string
}

// New returns a context in which nothing has run.
func (p *program) New() runner.Context { return p.context() }

func (p *program) context() *place {
	c := &place{program: p, vm: sobek.New(), wake: make(chan struct{}, 1)}
	c.vm.SetMaxCallStackSize(maxCalls)
	c.vm.SetParserOptions(plainly) // for eval: a comment must not make the parser open a file
	c.vm.SetImportModuleDynamically(c.refuseImport)
	return c
}

// refuseImport fails an import().
func (c *place) refuseImport(from any, specifier sobek.Value, promise any) {
	err := c.vm.NewTypeError(fmt.Sprintf("import of %q: %s", specifier.String(), bundleHint))
	c.vm.FinishLoadingImportModule(from, specifier, promise, nil, err)
}
