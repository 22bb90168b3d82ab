package javascript

import (
	"strings"

	"github.com/grafana/sobek"

	"github.com/sedge-iot/sedge/functions"
	"github.com/sedge-iot/sedge/functions/runner"
)

// maxEarly is how many lines are kept that were written before there was an event.
const maxEarly = 100

// A logLine waits for an event to belong to.
type logLine struct {
	level functions.Level
	text  string
}

var logNames = []string{"log", "debug", "info", "warn", "error", "trace"}

// logger returns the function that logs under a name.
func (c *place) logger(name string) sobek.Value {
	level := functions.LevelInfo
	switch name {
	case "debug", "trace":
		level = functions.LevelDebug
	case "warn":
		level = functions.LevelWarn
	case "error":
		level = functions.LevelError
	}
	return c.function(func(call sobek.FunctionCall) (sobek.Value, error) {
		c.log(level, call.Arguments)
		return sobek.Undefined(), nil
	})
}

// logFunction is sedge.log: a function that has the levels as its properties.
func (c *place) logFunction() sobek.Value {
	f := c.logger("log").(*sobek.Object)
	for _, name := range logNames {
		if err := f.Set(name, c.logger(name)); err != nil {
			panic(err)
		}
	}
	return f
}

func (c *place) log(level functions.Level, args []sobek.Value) {
	var b strings.Builder
	for i, v := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(c.show(v))
		if b.Len() > runner.MaxLine {
			break
		}
	}
	text := cut(b.String(), runner.MaxLine)
	if c.host != nil {
		c.host.Log(level, text)
	} else if len(c.early) < maxEarly {
		c.early = append(c.early, logLine{level, text})
	}
}

// show returns a value as people read it: text as it is, errors with their
// stack, objects as JSON.
func (c *place) show(v sobek.Value) string {
	if s, ok := v.(*sobek.Symbol); ok {
		return "Symbol(" + s.String() + ")"
	}
	o, ok := v.(*sobek.Object)
	if !ok {
		return v.String()
	}
	switch o.ClassName() {
	case "Error":
		return showError(o)
	case "Function", "RegExp", "Date", "Symbol":
		return o.String()
	}
	b, err := o.MarshalJSON()
	if err != nil {
		return o.String() // a cycle, a BigInt
	}
	return string(b)
}

func showError(o *sobek.Object) string {
	if s, ok := o.Get("stack").(sobek.String); ok {
		return strings.TrimSpace(s.String())
	}
	return o.String()
}
