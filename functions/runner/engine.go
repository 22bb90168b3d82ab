package runner

import (
	"context"
	"fmt"
	"time"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/functions"
)

// An Engine executes functions of one runtime.
type Engine interface {
	// Load readies code. An error says what is wrong with the code, in words
	// for the function's author; it is a *[functions.Failure] where there is a
	// stack to tell. A load that ctx ends has failed.
	Load(ctx context.Context, s Source) (Program, error)
}

// A Source is a function as an engine loads it.
type Source struct {
	Runtime     string
	Name        string // the function's
	Code        string
	Timeout     time.Duration // of one attempt
	Concurrency int           // attempts at a time
	Memory      int64         // bytes that the runner may use; 0: unknown
	Env         map[string]string
	Secrets     map[string]string
}

// NewSource returns a function as a runner takes it, with the secrets that it asks
// for, which secrets returns by their names; nil: there are none. The error says what
// is wrong with one of them.
func NewSource(f functions.Function, secrets func(names []string) (map[string]string, error)) (Source, error) {
	spec := f.Manifest.Spec
	src := Source{
		Runtime:     spec.Runtime,
		Name:        f.Name(),
		Code:        f.Code,
		Timeout:     time.Duration(spec.Resources.Timeout),
		Concurrency: spec.Resources.Concurrency,
		Memory:      int64(spec.Resources.Memory),
		Env:         spec.Env,
	}
	var err error
	switch {
	case len(spec.Secrets) == 0:
	case secrets == nil:
		err = &functions.LackError{What: fmt.Sprintf("secret %s is missing: there are none here", spec.Secrets[0])}
	default:
		src.Secrets, err = secrets(spec.Secrets)
	}
	return src, err
}

// A Program is loaded code. It may be used from several goroutines.
type Program interface {
	// New makes a place in which nothing has run yet, at little cost.
	New() Context
}

// A Context is a clean place to run one invocation. One goroutine at a time
// uses it, but for Interrupt.
type Context interface {
	// Prepare does, ahead of the event, what does not need it. Run does what
	// Prepare did not.
	Prepare()

	// Run runs the handler. It is called once.
	Run(inv functions.Invocation, h Host) functions.Outcome

	// Interrupt makes Prepare or Run end with the failure as soon as may be. It
	// may come from any goroutine, at any time, and more than once: the first counts.
	Interrupt(f *functions.Failure)
}

// A Host is what a running handler can reach of the agent. Its methods are
// called from the goroutine that called Run.
type Host interface {
	// Get reads a key of the function's state; a missing key is nil.
	Get(key string) ([]byte, error)
	// Peek is Get for a key that will only be added to.
	Peek(key string) ([]byte, error)
	// Publish publishes at once.
	Publish(p devices.Publication) error
	// Log writes a line.
	Log(level functions.Level, text string)
	// Idle is called before the handler waits for a clock: others may run.
	Idle()
}
